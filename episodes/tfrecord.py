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
from pathlib import Path
from typing import Protocol

import google_crc32c
import numpy as np
import numpy.typing as npt

from episodes.example import REMEDY, decode_example
from episodes.example import encode_example as encode_example  # what `write_records` is given
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
WRITTEN_AT_ONCE = 1 << 20
"""Bytes."""
LONGEST_READ = 1 << 20
"""Bytes that neighbouring records are read at once up to."""


def masked_crc(data: bytes) -> int:
    """The CRC-32C of the data, rotated and shifted as TFRecord stores it."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# ---- writing ---------------------------------------------------------------------------------


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
    with replacing(path) as temporary, temporary.open("wb", buffering=WRITTEN_AT_ONCE) as file:
        for payload in payloads:
            length = struct.pack("<Q", len(payload))
            file.write(length + FOOTER.pack(masked_crc(length)))
            file.write(payload + FOOTER.pack(masked_crc(payload)))
            count += 1
    return count


# ---- reading ---------------------------------------------------------------------------------


Span = tuple[int, int]
"""Where bytes of a file start and stop."""


class OpenFile(Protocol):
    """A file that can be read at any offset, wherever it lies."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def changed(self) -> int:
        """A number below 2⁶⁴ that is another one once the file has changed."""

    def read(self, start: int, stop: int) -> bytes:
        """The bytes between two offsets; fewer where the file ends."""

    def read_spans(self, spans: Sequence[Span]) -> list[bytes]:
        """The same for many, which may be asked for at once."""


class LocalFile:
    """A file on this machine, by its descriptor.

    Args:
        handle: open for reading.
    """

    def __init__(self, handle: int) -> None:
        self._handle, self._status = handle, os.fstat(handle)

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""
        return self._status.st_size

    @property
    def changed(self) -> int:
        """Its time of modification in nanoseconds."""
        return self._status.st_mtime_ns

    def read(self, start: int, stop: int) -> bytes:
        """The bytes between two offsets; fewer where the file ends."""
        return os.pread(self._handle, stop - start, start)

    def read_spans(self, spans: Sequence[Span]) -> list[bytes]:
        """The same for many."""
        return [os.pread(self._handle, stop - start, start) for start, stop in spans]


def scan_offsets(path: Path) -> list[int]:
    """The offset of every record, then the file's size; payloads are not read.

    Raises:
        InputError: the file is missing or unreadable, a record is cut off, or a length fails
            its checksum.
    """
    with opening(path) as file:
        return [int(offset) for offset in scan_file(file, path)]


def scan_file(file: OpenFile, path: str | Path) -> npt.NDArray[np.uint64]:
    """As `scan_offsets`, of an open file; eight bytes per record.

    Args:
        file: to scan.
        path: for error messages.
    """
    offsets = array("Q", [0])
    size, position = file.size, 0
    window, first, width = b"", 0, HEADER.size
    while position < size:
        at = position - first
        if at + HEADER.size > len(window):
            window, first, at = file.read(position, position + width), position, 0
        length = _payload_length(window[at : at + HEADER.size], path, len(offsets) - 1)
        position += length + FRAMING_BYTES
        if position > size:
            raise truncated(path, len(offsets) - 1)
        offsets.append(position)
        # Small records: many headers with one read. Large ones: nothing but headers.
        width = HEADER.size if length > SMALL_RECORD else SCAN_WINDOW
    return np.frombuffer(offsets, dtype=np.uint64)


@contextmanager
def opening(path: Path) -> Iterator[LocalFile]:
    """A file of this machine, to be read at any offset.

    Raises:
        InputError: the file cannot be opened or read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            yield LocalFile(handle)
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


def truncated(path: str | Path, record: int) -> InputError:
    """The error for a file that ends too early."""
    return InputError(f"the file ends inside record {record}: it is truncated.", path, REMEDY)


def _payload_length(header: bytes, path: str | Path, record: int) -> int:
    if len(header) < HEADER.size:
        raise truncated(path, record)
    length, crc = HEADER.unpack(header)
    if crc != masked_crc(header[:8]):
        raise InputError(f"the length of record {record} fails its checksum.", path, REMEDY)
    return int(length)


def _payload(frame: bytes, path: str | Path, record: int) -> bytes:
    """The payload of one framed record, both checksums verified."""
    length = _payload_length(frame[: HEADER.size], path, record)
    if length + FRAMING_BYTES != len(frame):
        raise truncated(path, record)
    payload = frame[HEADER.size : -FOOTER.size]
    if FOOTER.unpack_from(frame, HEADER.size + length)[0] != masked_crc(payload):
        raise InputError(f"the content of record {record} fails its checksum.", path, REMEDY)
    return payload


def _frames(file: OpenFile, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
    """The bytes between offsets, in the order given; what lies close together is read at once."""
    frames = [b""] * len(starts)
    groups: list[list[int]] = []
    spans: list[Span] = []
    for place in sorted(range(len(starts)), key=starts.__getitem__):
        first, end = spans[-1] if spans else (0, 0)
        near = starts[place] <= end + SMALL_GAP and stops[place] <= first + LONGEST_READ
        if groups and near:
            groups[-1].append(place)
            spans[-1] = first, max(end, stops[place])
        else:
            groups.append([place])
            spans.append((starts[place], stops[place]))
    blocks = file.read_spans(spans)
    for group, (first, _), block in zip(groups, spans, blocks, strict=True):
        for place in group:
            frames[place] = block[starts[place] - first : stops[place] - first]
    return frames


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
    with opening(path) as file:
        return read_file(file, path, starts, stops, records)


def read_file(
    file: OpenFile,
    path: str | Path,
    starts: Sequence[int],
    stops: Sequence[int],
    records: Sequence[int],
) -> list[tuple[bytes, int | None]]:
    """As `read_examples`, of an open file; `path` is for error messages."""
    frames = _frames(file, starts, stops)
    return [
        decode_example(_payload(frame, path, record), path, record)
        for frame, record in zip(frames, records, strict=True)
    ]
