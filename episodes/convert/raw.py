"""Raw files as they were downloaded: where the bytes of each lie, and reading them.

A raw file is a file on disk or a member of an archive (tar, gzipped tar, zip, a tar inside a tar).
Nothing is ever extracted to disk: a member is a span of bytes of its archive, so any process can
read any of them, in any order, and a member's name cannot lead anywhere.
"""

import os
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from episodes.faults import InputError

DAMAGED = "Download it again: the archive is damaged or incomplete."
OPEN_AT_MOST = 16
"""Archives that a process keeps open."""
MOST_UNPACKED = 1 << 31
"""Bytes of one member of a zip; the largest of the ten sources has a quarter of that."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a zip member: its magic, and the lengths of name and extra field, which its bytes follow."""


class RawFile(NamedTuple):
    """A file on disk, or a member of an archive.

    Attributes:
        name: path inside its folder or archive.
        container: the file on disk that holds its bytes.
        offset: where they start: in the container, or in what it unpacks to (gzip).
        size: how many there are in the container (in what it unpacks to); -1 means all.
        coding: how they lie there: "plain", "stored" or "deflated" (zip), "gzip".
        checksum: CRC-32 of the content, where the archive keeps one.
    """

    name: str
    container: str
    offset: int = 0
    size: int = -1
    coding: str = "plain"
    checksum: int | None = None

    @property
    def base(self) -> str:
        """Its name without folders."""
        return self.name.rpartition("/")[2]

    @property
    def where(self) -> str:
        """The file, for messages."""
        return self.container if self.size < 0 else f"{self.container}, member {self.name}"


def read_raw(file: RawFile) -> bytes:
    """The content of a raw file.

    Raises:
        InputError: it cannot be read, or the archive is damaged there.
    """
    try:
        return READERS[file.coding](file)
    except (OSError, zlib.error, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        remedy = "Check the file and its permissions." if file.size < 0 else DAMAGED
        raise InputError(f"cannot be read: {reason}.", file.where, remedy) from error


def read_text(file: RawFile) -> str:
    """The content of a raw file as text in UTF-8.

    Raises:
        InputError: it cannot be read, or is no text.
    """
    try:
        return read_raw(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"is not text ({error}).", file.where, "Download it again.") from error


def map_raw(file: RawFile) -> npt.NDArray[Any]:
    """The array in a `.npy` file, mapped into memory: only what is looked at is read.

    Raises:
        InputError: it is not such a file, is cut off, or lies compressed in an archive.
    """
    if file.coding not in ("plain", "stored"):
        what = "the array is compressed, and cannot be mapped into memory."
        raise InputError(what, file.where, "Extract this archive.")
    try:
        with Path(file.container).open("rb") as stream:
            stream.seek(_start(file))
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            else:
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
            if dtype.hasobject:
                raise ValueError("it holds Python objects")
            offset, order = stream.tell(), "F" if fortran else "C"
            if 0 in shape:
                return np.zeros(shape, dtype)
            return np.memmap(stream, dtype, "r", offset, shape, order)  # type: ignore[call-overload, no-any-return]
    except (OSError, ValueError, EOFError, TokenError) as error:
        what = f"is not a whole .npy file ({error})."
        raise InputError(what, file.where, "Download it again.") from error


def _read_plain(file: RawFile) -> bytes:
    if file.size < 0:
        return Path(file.container).read_bytes()
    return _span(file.container, file.offset, file.size)


def _read_stored(file: RawFile) -> bytes:
    return _checked(_span(file.container, _start(file), file.size), file)


def _read_deflated(file: RawFile) -> bytes:
    packed = _span(file.container, _start(file), file.size)
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    content = unpacking.decompress(packed, MOST_UNPACKED)
    if not unpacking.eof:
        what = "it ends too early" if len(content) < MOST_UNPACKED else "it unpacks to too much"
        raise EOFError(what)
    return _checked(content, file)


def _read_gzip(file: RawFile) -> bytes:
    stream = _gzip(file.container)
    stream.seek(file.offset)
    content: bytes = stream.read(file.size)
    if len(content) < file.size:
        raise EOFError("it ends too early")
    return content


READERS: dict[str, Callable[[RawFile], bytes]] = {
    "plain": _read_plain,
    "stored": _read_stored,
    "deflated": _read_deflated,
    "gzip": _read_gzip,
}


def _checked(content: bytes, file: RawFile) -> bytes:
    if file.checksum is not None and zlib.crc32(content) != file.checksum:
        raise EOFError("its checksum is wrong")
    return content


def _start(file: RawFile) -> int:
    """Where the bytes of a file start; for a member of a zip this is only said at the member."""
    if file.coding == "plain":
        return file.offset
    header = _span(file.container, file.offset, LOCAL_HEADER.size)
    magic, name, extra = LOCAL_HEADER.unpack(header)
    if magic != b"PK\x03\x04":
        raise EOFError("there is no member where the archive says so")
    return file.offset + LOCAL_HEADER.size + int(name) + int(extra)


def _span(container: str, offset: int, size: int) -> bytes:
    handle = _handle(container)
    # Asked first: a length that a damaged archive claims must not become memory.
    content = os.pread(handle, size, offset) if offset + size <= os.fstat(handle).st_size else b""
    if len(content) < size:
        raise EOFError("it ends too early")
    return content


def _stamp(container: str) -> tuple[str, int, int, int]:
    """A file as it is now: one that was replaced is another."""
    stamp = Path(container).stat()
    return container, stamp.st_size, stamp.st_mtime_ns, os.getpid()


_HANDLES: dict[tuple[str, int, int, int], int] = {}


def _handle(container: str) -> int:
    """A descriptor of an archive, which stays open; of too many, the oldest is closed."""
    key = _stamp(container)
    if key not in _HANDLES:
        if len(_HANDLES) >= OPEN_AT_MOST:
            os.close(_HANDLES.pop(next(iter(_HANDLES))))
        _HANDLES[key] = os.open(container, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    return _HANDLES[key]


def _gzip(container: str) -> Any:
    return _opened_gzip(*_stamp(container))


@lru_cache(maxsize=OPEN_AT_MOST)
def _opened_gzip(container: str, _size: int, _time: int, _process: int) -> Any:
    """What a gzipped file unpacks to, seekable: unpacking starts at the nearest of many marks."""
    from episodes.convert.archive import open_indexed

    return open_indexed(Path(container))
