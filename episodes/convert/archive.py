"""What an archive holds, without unpacking it: tar, gzipped tar, zip, and a tar inside a tar.

Finding the members of a gzipped tar takes one pass over it, in which marks are kept to start
unpacking from (indexed_gzip); list and marks go to the user's cache folder, so that this is done
once, and every process can then read any member. Memory is bounded by the number of marks.
"""

import hashlib
import io
import json
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import indexed_gzip

from episodes.convert.raw import DAMAGED, RawFile
from episodes.faults import InputError, writing
from episodes.folder import is_system_name
from episodes.records import CACHE_ELSEWHERE, cache_folder
from episodes.tfrecord import replacing

SUFFIXES = (".tar", ".tgz", ".tar.gz", ".zip")
ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
GZIP_START = b"\x1f\x8b"
MARKS_AT_MOST = 1500
"""Of a gzipped file; each takes 32 KB of memory in every process that reads the file."""
CLOSEST_MARKS = 1 << 20
"""Bytes between marks, at least."""
TAR_BLOCK = 512
MOST_PADDING = 1 << 22
"""Bytes behind the end of a tar; where more are empty, room was kept for what never came."""
UNREADABLE = (
    *(tarfile.TarError, zipfile.BadZipFile, EOFError),
    *(NotImplementedError, ValueError, struct.error),  # zipfile, of some that are damaged
    *(indexed_gzip.ZranError, indexed_gzip.NotCoveredError),
)
EXTRACT = "Extract this archive."


def is_archive(name: str) -> bool:
    """Whether a file name is that of an archive that can be read."""
    return name.lower().endswith(SUFFIXES)


def list_archive(path: Path) -> list[RawFile]:
    """The files in an archive, in the order in which they lie there.

    What it is, its first bytes tell: browsers unpack what they download, and keep its name.

    Raises:
        InputError: it cannot be read, is cut off, or holds what is no file of this archive.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if start in ZIP_STARTS or path.suffix.lower() == ".zip":
            return _list_zip(path)
        if start.startswith(GZIP_START):
            return _list_gzip(path)
        return _list_tar(RawFile(path.name, str(path), 0, path.stat().st_size))
    except InputError as error:
        raise InputError(error.what, error.where or path, error.remedy) from error
    except UNREADABLE as error:
        raise InputError(f"is not a whole archive ({error}).", path, DAMAGED) from error
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}."
        raise InputError(what, path, "Check the file and its permissions.") from error


def list_tar(file: RawFile) -> list[RawFile]:
    """The files in a tar that lies uncompressed on disk or in another tar.

    Raises:
        InputError: it is not a tar, or is cut off.
    """
    try:
        return _list_tar(file)
    except InputError as error:
        raise InputError(error.what, file.where, error.remedy) from error
    except tarfile.TarError as error:
        raise InputError(f"is not a whole tar ({error}).", file.where, DAMAGED) from error


def _list_tar(file: RawFile) -> list[RawFile]:
    with Path(file.container).open("rb") as container:
        stream: Any = io.BufferedReader(_Span(container, file.offset, file.size), TAR_BLOCK)
        return [
            RawFile(name, file.container, file.offset + offset, size)
            for name, offset, size in _walk_tar(stream, file.size)
        ]


def _walk_tar(stream: Any, size: int) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every file in a tar; hard links are the file that they mean."""
    known: dict[str, tuple[int, int]] = {}
    end = 0
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
            end = member.offset_data + -(-member.size // TAR_BLOCK) * TAR_BLOCK * member.isreg()
            if member.isreg() and not member.issparse():
                known[member.name] = member.offset_data, member.size
                yield _inside(member.name), member.offset_data, member.size
            elif member.islnk() and member.linkname in known:
                yield _inside(member.name), *known[member.linkname]
            elif not member.isdir() and not is_system_name(member.name.rpartition("/")[2]):
                raise InputError(f"holds {member.name!r}, a link or no file.", remedy=EXTRACT)
    if end + TAR_BLOCK > size or size - end > MOST_PADDING:
        raise tarfile.ReadError("its end is missing")
    stream.seek(end)
    if any(stream.read(TAR_BLOCK)):
        raise tarfile.ReadError("it cannot be read to its end")


def _inside(name: str) -> str:
    """The name of a member as a path inside its archive."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts or name.startswith("/") or not parts:
        raise InputError(f"holds a member whose name leads out of it: {name!r}.", remedy=DAMAGED)
    return "/".join(parts)


class _Span(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: io.BufferedReader, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._offset, self._size, self._position = file, offset, size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, self._size)[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._position))
        content = os.pread(self._file.fileno(), wanted, self._offset + self._position)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


# ---- zip -------------------------------------------------------------------------------------


def _list_zip(path: Path) -> list[RawFile]:
    codings = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
    files = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith("/"):
                continue
            if member.compress_type not in codings or member.flag_bits & 1:
                what = f"{member.filename!r} in it is encrypted, or compressed in a rare way."
                raise InputError(what, remedy=EXTRACT)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise InputError(f"holds {member.filename!r}, a link.", remedy=EXTRACT)
            coding, size = codings[member.compress_type], member.compress_size
            name = _inside(member.filename)
            files.append(RawFile(name, str(path), member.header_offset, size, coding, member.CRC))
    return files


# ---- gzipped tar -----------------------------------------------------------------------------


def _cached(path: Path) -> tuple[Path, Path]:
    """Where the members and the marks of a gzipped tar are kept: for this file as it is now."""
    stamp = path.stat()
    key = f"{path.resolve()} {stamp.st_size} {stamp.st_mtime_ns}"
    stem = cache_folder() / "archives" / hashlib.sha256(key.encode()).hexdigest()[:16]
    return stem.with_suffix(".members"), stem.with_suffix(".marks")


def _list_gzip(path: Path) -> list[RawFile]:
    members, marks = _cached(path)
    try:
        entries = json.loads(members.read_text(encoding="utf-8")) if marks.exists() else None
    except (OSError, ValueError):
        entries = None
    if entries is None:
        entries = _index(path, members, marks)
    return [RawFile(name, str(path), offset, size, "gzip") for name, offset, size in entries]


def _index(path: Path, members: Path, marks: Path) -> list[tuple[str, int, int]]:
    spacing = max(CLOSEST_MARKS, 2 * path.stat().st_size // MARKS_AT_MOST)
    with indexed_gzip.IndexedGzipFile(str(path), spacing=spacing, drop_handles=False) as stream:
        stream.build_full_index()  # to the end, where the checksum is
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        entries = list(_walk_tar(stream, size))
        with writing(marks, CACHE_ELSEWHERE), replacing(marks) as temporary:
            stream.export_index(str(temporary))
    with writing(members, CACHE_ELSEWHERE), replacing(members) as temporary:
        temporary.write_text(json.dumps(entries), encoding="utf-8")
    return entries


def open_indexed(path: Path) -> Any:
    """What a gzipped file unpacks to, seekable by its marks.

    Raises:
        InputError: its marks are gone from the cache.
    """
    _, marks = _cached(path)
    if not marks.exists():
        what = f"its index {marks} is gone."
        raise InputError(what, path, "Start again, and leave the cache folder alone meanwhile.")
    return indexed_gzip.IndexedGzipFile(str(path), index_file=str(marks), drop_handles=False)
