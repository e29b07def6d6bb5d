"""TFRecord files without TensorFlow: framing, checksums, offset index, random access.

A record is `u64 length | u32 crc(length) | payload | u32 crc(payload)`, little endian, with
masked CRC-32C sums. The payload is a serialized `tf.train.Example` that holds an encoded
`image` and the `label` of its class. Source: facts of the official format, section 1.2.
"""

import os
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import google_crc32c

from episodes.faults import InputError

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
FRAMING_BYTES = HEADER.size + FOOTER.size
REMEDY = "Convert or copy this file again."

# Field numbers of tf.train.{Example, Features, Feature, BytesList, Int64List}: every message
# here has its content in field 1, but Feature, which has bytes in 1 and integers in 3.
_WIRE_VARINT, _WIRE_64, _WIRE_BYTES, _WIRE_32 = 0, 1, 2, 5


def masked_crc(data: bytes) -> int:
    """The CRC-32C of the data, rotated and shifted as TFRecord stores it."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# ---- writing ---------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(content: bytes, field: int = 1) -> bytes:
    return bytes([field << 3 | _WIRE_BYTES]) + _varint(len(content)) + content


def encode_example(image: bytes, label: int) -> bytes:
    """A serialized `tf.train.Example` with the features `image` and `label`.

    Args:
        image: encoded image, normally JPEG.
        label: class id in the source, 0 or more.
    """
    image_entry = _message(b"image") + _message(_message(_message(image)), 2)
    integers = _message(_message(_varint(label)), 3)
    label_entry = _message(b"label") + _message(integers, 2)
    return _message(_message(image_entry) + _message(label_entry))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place only when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_records(path: Path, payloads: Iterable[bytes]) -> int:
    """Write payloads as one TFRecord file, atomically.

    Returns:
        The number of records written.
    """
    count = 0
    with replacing(path) as temporary, temporary.open("wb") as file:
        for payload in payloads:
            length = struct.pack("<Q", len(payload))
            file.write(length + FOOTER.pack(masked_crc(length)))
            file.write(payload + FOOTER.pack(masked_crc(payload)))
            count += 1
    return count


# ---- reading ---------------------------------------------------------------------------------


def scan_offsets(path: Path) -> list[int]:
    """The offset of every record, then the file's size; payloads are not read.

    Raises:
        InputError: a record is cut off or a length fails its checksum.
    """
    offsets = [0]
    with path.open("rb", buffering=0) as file:
        size, handle, position = os.fstat(file.fileno()).st_size, file.fileno(), 0
        while position < size:
            header = os.pread(handle, HEADER.size, position)
            length = _payload_length(header, path, len(offsets) - 1)
            position += length + FRAMING_BYTES
            if position > size:
                raise truncated(path, len(offsets) - 1)
            offsets.append(position)
    return offsets


def walk_payloads(path: Path) -> Iterator[bytes | None]:
    """Every payload in order, None where its checksum fails; one record is in memory at a time.

    Raises:
        InputError: the file cannot be read, a record is cut off or a length fails its checksum:
            what follows cannot be found.
    """
    try:
        with path.open("rb", buffering=1 << 20) as file:
            size, position, record = os.fstat(file.fileno()).st_size, 0, 0
            while position < size:
                length = _payload_length(file.read(HEADER.size), path, record)
                position += length + FRAMING_BYTES
                if position > size:
                    raise truncated(path, record)
                payload, footer = file.read(length), file.read(FOOTER.size)
                yield payload if FOOTER.unpack(footer)[0] == masked_crc(payload) else None
                record += 1
    except OSError as error:
        remedy = "Check the file, its permissions and its disk."
        raise InputError(f"cannot be read: {error.strerror}.", path, remedy) from error


def truncated(path: Path, record: int) -> InputError:
    return InputError(f"the file ends inside record {record}: it is truncated.", path, REMEDY)


def _payload_length(header: bytes, path: Path, record: int) -> int:
    if len(header) < HEADER.size:
        raise truncated(path, record)
    length, crc = HEADER.unpack(header)
    if crc != masked_crc(header[:8]):
        raise InputError(f"the length of record {record} fails its checksum.", path, REMEDY)
    return int(length)


def read_payload(handle: int, start: int, stop: int, path: Path, record: int) -> bytes:
    """One record's payload, both checksums verified.

    Args:
        handle: an open file descriptor of `path`.
        start, stop: the record's offsets in bytes, framing included.
        path, record: for the error message.

    Raises:
        InputError: the record is cut off, is not at this offset, or fails a checksum.
    """
    frame = os.pread(handle, stop - start, start)
    length = _payload_length(frame[: HEADER.size], path, record)
    if length + FRAMING_BYTES != stop - start or len(frame) < stop - start:
        raise truncated(path, record)
    payload = frame[HEADER.size : HEADER.size + length]
    if FOOTER.unpack_from(frame, HEADER.size + length)[0] != masked_crc(payload):
        raise InputError(f"the content of record {record} fails its checksum.", path, REMEDY)
    return payload


def decode_example(payload: bytes, path: Path, record: int) -> tuple[bytes, int | None]:
    """The encoded image and the label (None when absent) of a serialized Example.

    Raises:
        InputError: the payload is not an Example, or holds no image.
    """
    image: bytes | None = None
    label: int | None = None
    try:
        for _, features in _fields(payload, 1):
            for _, entry in _fields(features, 1):
                name, feature = _map_entry(entry)
                if name == b"image":
                    image = _first(_first(feature, 1), 1)
                elif name == b"label":
                    label = _first_integer(_first(feature, 3))
    except (IndexError, ValueError):
        image = None
    if image is None:
        raise InputError(f"record {record} is not an Example with an `image`.", path, REMEDY)
    return image, label


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("varint longer than ten bytes")


def _fields(data: bytes, wanted: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message; other wire types are stepped over."""
    position, size = 0, len(data)
    while position < size:
        tag, position = _read_varint(data, position)
        wire = tag & 7
        if wire == _WIRE_BYTES:
            length, position = _read_varint(data, position)
            if position + length > size:
                raise ValueError("field longer than its message")
            if wanted is None or tag >> 3 == wanted:
                yield tag >> 3, data[position : position + length]
            position += length
        elif wire == _WIRE_VARINT:
            _, position = _read_varint(data, position)
        elif wire in (_WIRE_64, _WIRE_32):
            position += 8 if wire == _WIRE_64 else 4
        else:
            raise ValueError("unknown wire type")
    if position > size:
        raise ValueError("message cut off")


def _first(data: bytes, field: int) -> bytes:
    for _, content in _fields(data, field):
        return content
    raise ValueError("missing field")


def _map_entry(entry: bytes) -> tuple[bytes, bytes]:
    parts = dict(_fields(entry))
    return parts.get(1, b""), parts.get(2, b"")


def _first_integer(int64_list: bytes) -> int:
    """The first value of an Int64List, packed (as TensorFlow writes it) or not."""
    tag, position = _read_varint(int64_list, 0)
    if tag & 7 == _WIRE_BYTES:
        _, position = _read_varint(int64_list, position)
    return _read_varint(int64_list, position)[0]


def read_examples(
    path: Path, offsets: Sequence[tuple[int, int]], records: Sequence[int]
) -> list[tuple[bytes, int | None]]:
    """Images and labels of some records of one file, which is opened once.

    Args:
        path: a TFRecord file.
        offsets: start and stop of each wanted record, in bytes.
        records: their numbers in the file, for error messages.

    Raises:
        InputError: the file is missing or unreadable, or a record is damaged.
    """
    try:
        with path.open("rb", buffering=0) as file:
            handle = file.fileno()
            payloads = [
                read_payload(handle, start, stop, path, record)
                for (start, stop), record in zip(offsets, records, strict=True)
            ]
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}.", path) from error
    return [
        decode_example(payload, path, record)
        for payload, record in zip(payloads, records, strict=True)
    ]
