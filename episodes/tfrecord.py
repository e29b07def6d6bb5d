"""TFRecord files without TensorFlow: framing, checksums, offset index, random access.

A record is `u64 length | u32 crc(length) | payload | u32 crc(payload)`, little endian, with
masked CRC-32C sums. The payload is a serialized `tf.train.Example` that holds an encoded
`image` and the `label` of its class. Source: facts of the official format, section 1.2.
"""

import os
import struct
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import google_crc32c
import numpy as np
import numpy.typing as npt

from episodes.faults import InputError

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
FRAMING_BYTES = HEADER.size + FOOTER.size
SMALL_RECORD = 4096
"""Payloads up to this many bytes are small: headers are cheaper to read with what lies between."""
SCAN_WINDOW = 65536
"""Bytes read at once to find the headers of small records."""
SMALL_GAP = 16384
"""Bytes between two wanted records that cost less to read over than another read."""
LONGEST_READ = 1 << 20
"""Bytes that neighbouring records are read at once up to."""
REMEDY = "Convert or copy this file again."

LABEL_NAME = b"\n\x05label\x12"
LONGEST_END, LONGEST_FRAMING = 28, 64
"""Bytes that the label of an Example, and all but its image, take at most."""

Span = tuple[int, int]

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


def _label_message(label: int) -> bytes:
    integers = _message(_message(_varint(label)), 3)
    return _message(_message(b"label") + _message(integers, 2))


def encode_example(image: bytes, label: int) -> bytes:
    """A serialized `tf.train.Example` with the features `image` and `label`.

    Args:
        image: encoded image, normally JPEG.
        label: class id in the source, 0 or more.
    """
    image_entry = _message(b"image") + _message(_message(_message(image)), 2)
    return _message(_message(image_entry) + _label_message(label))


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
        InputError: the file is missing or unreadable, a record is cut off, or a length fails
            its checksum.
    """
    with opening(path) as handle:
        return [int(offset) for offset in scan_handle(handle, path)]


def scan_handle(handle: int, path: Path) -> npt.NDArray[np.uint64]:
    """As `scan_offsets`, of an open file descriptor; eight bytes per record.

    Args:
        handle: open for reading.
        path: for error messages.
    """
    offsets = array("Q", [0])
    size, position = os.fstat(handle).st_size, 0
    window, first, width = b"", 0, HEADER.size
    while position < size:
        at = position - first
        if at + HEADER.size > len(window):
            window, first, at = os.pread(handle, width, position), position, 0
        length = _payload_length(window[at : at + HEADER.size], path, len(offsets) - 1)
        position += length + FRAMING_BYTES
        if position > size:
            raise truncated(path, len(offsets) - 1)
        offsets.append(position)
        # Small records: many headers with one read. Large ones: nothing but headers.
        width = HEADER.size if length > SMALL_RECORD else SCAN_WINDOW
    return np.frombuffer(offsets, dtype=np.uint64)


@contextmanager
def opening(path: Path) -> Iterator[int]:
    """A file descriptor to read a file at any offset.

    Raises:
        InputError: the file cannot be opened or read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            yield handle
        finally:
            os.close(handle)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}.", path) from error


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
    """The error for a file that ends too early."""
    return InputError(f"the file ends inside record {record}: it is truncated.", path, REMEDY)


def _payload_length(header: bytes, path: Path, record: int) -> int:
    if len(header) < HEADER.size:
        raise truncated(path, record)
    length, crc = HEADER.unpack(header)
    if crc != masked_crc(header[:8]):
        raise InputError(f"the length of record {record} fails its checksum.", path, REMEDY)
    return int(length)


def _payload(frame: bytes, path: Path, record: int) -> bytes:
    """The payload of one framed record, both checksums verified."""
    length = _payload_length(frame[: HEADER.size], path, record)
    if length + FRAMING_BYTES != len(frame):
        raise truncated(path, record)
    payload = frame[HEADER.size : -FOOTER.size]
    if FOOTER.unpack_from(frame, HEADER.size + length)[0] != masked_crc(payload):
        raise InputError(f"the content of record {record} fails its checksum.", path, REMEDY)
    return payload


def _frames(handle: int, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
    """The bytes between offsets, in the order given; what lies close together is read at once."""
    frames = [b""] * len(starts)
    group: list[int] = []
    first = end = 0

    def read_group() -> None:
        block = os.pread(handle, end - first, first)
        for place in group:
            frames[place] = block[starts[place] - first : stops[place] - first]

    for place in sorted(range(len(starts)), key=starts.__getitem__):
        near = starts[place] <= end + SMALL_GAP and stops[place] <= first + LONGEST_READ
        if group and not near:
            read_group()
            group = []
        if not group:
            first = end = starts[place]
        group.append(place)
        end = max(end, stops[place])
    if group:
        read_group()
    return frames


def decode_example(payload: bytes, path: Path, record: int) -> tuple[bytes, int | None]:
    """The encoded image and the label (None when absent) of a serialized Example.

    Raises:
        InputError: the payload is not an Example, or holds no image.
    """
    usual = _usual_layout(payload)
    if usual is not None:
        return usual
    image: Span | None = None
    label: int | None = None
    try:
        parts = _all(payload, (0, len(payload)), 1)
        for entry in [entry for features in parts for entry in _all(payload, features, 1)]:
            name, feature = _map_entry(payload, entry)
            if name == b"image":
                image = _first(payload, _first(payload, feature, 1), 1)
            elif name == b"label":
                label = _first_integer(payload, _first(payload, feature, 3))
    except (IndexError, ValueError):
        image = None
    if image is None:
        raise InputError(f"record {record} is not an Example with an `image`.", path, REMEDY)
    return payload[slice(*image)], label


def _usual_layout(payload: bytes) -> tuple[bytes, int] | None:
    """As `decode_example`, where all around the image is as `encode_example` writes it.

    So it is in most records, and for small images the parser takes as long as the resize. None
    where a single byte differs: then the parser looks.
    """
    size = len(payload)
    name = payload.rfind(LABEL_NAME, size - LONGEST_END)
    if name < 0 or size > SMALL_RECORD:
        return None
    try:
        label, _ = _read_varint(payload, name + len(LABEL_NAME) + 5)
    except (IndexError, ValueError):
        return None
    start, end = _usual_framing(size, label)
    if start and payload.startswith(start) and payload.endswith(end):
        return payload[len(start) : size - len(end)], label
    return None


@lru_cache(maxsize=1 << 14)
def _usual_framing(size: int, label: int) -> tuple[bytes, bytes]:
    """What comes before and after the image in a payload of this size; empty if none has it."""
    for length in range(max(0, size - LONGEST_FRAMING), size):
        usual = encode_example(bytes(length), label)
        if len(usual) == size:
            end = _label_message(label)
            return usual[: size - len(end) - length], end
    return b"", b""


# The parser passes spans (start, stop) of the one payload on, so that no image is copied twice.


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = data[position]
    position += 1
    if value < 0x80:
        return value, position
    value, shift = value & 0x7F, 7
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("varint longer than ten bytes")


def _fields(data: bytes, span: Span) -> list[tuple[int, Span]]:
    """Number and content of length-delimited fields; other wire types are stepped over."""
    position, stop = span
    found = []
    while position < stop:
        tag = data[position]
        position += 1
        if tag > 0x7F:
            tag, position = _read_varint(data, position - 1)
        wire = tag & 7
        if wire == _WIRE_BYTES:
            length, position = _read_varint(data, position)
            content = position, position + length
            position += length
            if position > stop:
                raise ValueError("field longer than its message")
            found.append((tag >> 3, content))
        elif wire == _WIRE_VARINT:
            _, position = _read_varint(data, position)
        elif wire in (_WIRE_64, _WIRE_32):
            position += 8 if wire == _WIRE_64 else 4
        else:
            raise ValueError("unknown wire type")
    if position > stop:
        raise ValueError("message cut off")
    return found


def _all(data: bytes, span: Span, wanted: int) -> list[Span]:
    return [content for number, content in _fields(data, span) if number == wanted]


def _first(data: bytes, span: Span, wanted: int) -> Span:
    found = _all(data, span, wanted)
    if not found:
        raise ValueError("missing field")
    return found[0]


def _map_entry(data: bytes, entry: Span) -> tuple[bytes, Span]:
    parts = dict(_fields(data, entry))
    start, stop = parts.get(1, (0, 0))
    return data[start:stop], parts.get(2, (0, 0))


def _first_integer(data: bytes, int64_list: Span) -> int:
    """The first value of an Int64List, packed (as TensorFlow writes it) or not."""
    start, stop = int64_list
    tag, position = _read_varint(data, start)
    if tag & 7 == _WIRE_BYTES:
        _, position = _read_varint(data, position)
    value, position = _read_varint(data, position)
    if position > stop:
        raise ValueError("message cut off")
    return value


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
    starts, stops = zip(*offsets, strict=True) if offsets else ((), ())
    with opening(path) as handle:
        return read_handle(handle, path, starts, stops, records)


def read_handle(
    handle: int, path: Path, starts: Sequence[int], stops: Sequence[int], records: Sequence[int]
) -> list[tuple[bytes, int | None]]:
    """As `read_examples`, of an open file descriptor; `path` is for error messages."""
    frames = _frames(handle, starts, stops)
    return [
        decode_example(_payload(frame, path, record), path, record)
        for frame, record in zip(frames, records, strict=True)
    ]
