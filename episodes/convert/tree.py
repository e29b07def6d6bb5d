"""Raw data as one tree of folders and files, whether extracted or still in archives.

A source is found by its landmarks: names that no other folder of raw data has. They are looked for
in the folder that the user gives and in the folders below it, then in the archives of the source
that lie there, so that it does not matter at which level the user points, nor what is extracted.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

from episodes.convert.archive import is_archive, list_archive, list_tar
from episodes.convert.raw import RawFile
from episodes.faults import InputError
from episodes.folder import is_system_name

DEEPEST = 6
"""Levels below the user's folder, or inside an archive, that are searched."""
LEVELS_UP = 3
MOST_SEARCHED = 64
"""A folder with more folders than this holds classes, and what is sought is not below it."""


class RawFolder(Protocol):
    """A folder, on disk or in an archive. Names of the system's are left out."""

    where: str

    @property
    def folders(self) -> list[str]:
        """Names of the folders in it, sorted."""

    @property
    def files(self) -> list[str]:
        """Names of the files in it, sorted."""

    def folder(self, path: str) -> "RawFolder | None":
        """The folder below it at a path, if there is one."""

    def file(self, path: str) -> RawFile | None:
        """The file below it at a path, if there is one."""


class DiskFolder:
    """A folder on disk. What may not be looked at counts as missing (`pathlib` would raise)."""

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, str(path)

    @cached_property
    def _entries(self) -> tuple[list[str], list[str]]:
        try:
            with os.scandir(self.path) as entries:
                visible = [entry for entry in entries if not is_system_name(entry.name)]
                folders = sorted(entry.name for entry in visible if entry.is_dir())
        except OSError as error:
            what = f"the folder cannot be listed: {error.strerror}."
            raise InputError(what, self.path, "Check its permissions.") from error
        return folders, sorted({entry.name for entry in visible} - set(folders))

    @property
    def folders(self) -> list[str]:
        return self._entries[0]

    @property
    def files(self) -> list[str]:
        return self._entries[1]

    def folder(self, path: str) -> "DiskFolder | None":
        below = self.path / path
        return DiskFolder(below) if os.path.isdir(below) else None  # noqa: PTH112

    def file(self, path: str) -> RawFile | None:
        below = self.path / path
        return RawFile(path, str(below)) if os.path.isfile(below) else None  # noqa: PTH113


class ArchiveFolder:
    """A folder in an archive.

    Args:
        where: the archive.
        members: what it holds.
    """

    def __init__(self, where: str, members: Sequence[RawFile]) -> None:
        self.where, self._prefix = where, ""
        self._files: dict[str, dict[str, RawFile]] = {"": {}}
        self._folders: dict[str, set[str]] = {"": set()}
        for member in members:
            *above, name = member.name.split("/")
            if any(map(is_system_name, member.name.split("/"))):
                continue
            for depth in range(len(above)):
                parent, path = "/".join(above[:depth]), "/".join(above[: depth + 1])
                if path not in self._files:
                    self._folders[parent].add(above[depth])
                    self._files[path], self._folders[path] = {}, set()
            self._files["/".join(above)][name] = member

    @property
    def folders(self) -> list[str]:
        return sorted(self._folders[self._prefix])

    @property
    def files(self) -> list[str]:
        return sorted(self._files[self._prefix])

    def _path(self, path: str) -> str:
        return f"{self._prefix}/{path}".strip("/")

    def folder(self, path: str) -> "ArchiveFolder | None":
        if self._path(path) not in self._files:
            return None
        below = object.__new__(ArchiveFolder)
        below._files, below._folders = self._files, self._folders
        below._prefix = self._path(path)
        below.where = f"{self.where}/{path}"
        return below

    def file(self, path: str) -> RawFile | None:
        above, _, name = self._path(path).rpartition("/")
        return self._files.get(above, {}).get(name)


@lru_cache(maxsize=8)
def _mount(path: Path, _size: int, _time: int) -> ArchiveFolder:
    return ArchiveFolder(str(path), list_archive(path))


def mount(path: Path) -> ArchiveFolder:
    """An archive as a folder.

    Raises:
        InputError: the archive is damaged.
    """
    stamp = path.stat()
    return _mount(path, stamp.st_size, stamp.st_mtime_ns)


def mount_tar(file: RawFile) -> ArchiveFolder:
    """A tar that lies on disk or uncompressed in another archive, as a folder.

    Raises:
        InputError: it is damaged, or compressed.
    """
    if file.coding != "plain":
        what = "is an archive inside a compressed archive."
        raise InputError(what, file.where, "Extract the outer archive.")
    size = Path(file.container).stat().st_size if file.size < 0 else file.size
    return ArchiveFolder(file.where, list_tar(file._replace(size=size)))


def walk(folder: RawFolder, depth: int = DEEPEST) -> Iterator[RawFolder]:
    """A folder and those below it, level by level."""
    level = [folder]
    for remaining in range(depth, -1, -1):
        yield from level
        if remaining:
            searched = [one for one in level if len(one.folders) <= MOST_SEARCHED]
            below = [one.folder(name) for one in searched for name in one.folders]
            level = [one for one in below if one is not None]


class RawData:
    """The raw data that a user has.

    Args:
        path: a folder, or one archive.

    Raises:
        InputError: there is no such thing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise InputError("there is no such folder.", path, "Check the path of the raw data.")
        if path.is_file() and not is_archive(path.name):
            what = "is neither a folder nor an archive."
            raise InputError(what, path, "Give the folder that holds the downloads.")

    @cached_property
    def folders(self) -> list[RawFolder]:
        """Folders on disk that are looked into, as they were at the first look."""
        return list(walk(DiskFolder(self.path))) if self.path.is_dir() else []

    def search(
        self, wanted: Callable[[RawFolder], bool], archives: Sequence[str]
    ) -> Iterator[RawFolder]:
        """Folders that are wanted: on disk first, then in archives of these names.

        Args:
            wanted: tells by a folder's landmarks.
            archives: patterns of file names, in any case.

        Raises:
            InputError: an archive is damaged; only after all others have been looked into.
        """
        if self.path.is_file():
            yield from filter(wanted, walk(mount(self.path)))
            return
        yield from filter(wanted, self.folders)
        damaged: list[InputError] = []
        for path in self.archives(archives):
            try:
                yield from filter(wanted, walk(mount(path)))
            except InputError as error:
                damaged.append(error)
        if damaged:
            raise damaged[0]

    def archives(self, patterns: Sequence[str]) -> list[Path]:
        """Archives of these names that lie where raw data are looked for; they are not opened."""
        if self.path.is_file():
            return [self.path] if _matches(self.path.name, patterns) else []
        return [
            Path(folder.where) / name
            for folder in self.folders
            for name in folder.files
            if _matches(name, patterns)
        ]

    def as_folder(self) -> RawFolder | None:
        """The user's folder itself."""
        return DiskFolder(self.path) if self.path.is_dir() else None

    def above(self) -> Iterator["RawData"]:
        """The folders above, for a user who points too deep."""
        for path in list(self.path.resolve().parents)[:LEVELS_UP]:
            if path != Path(path.anchor):
                yield RawData(path)


def has_all(folder: RawFolder, landmarks: Sequence[str]) -> bool:
    """Whether a folder has every landmark: a path, or a pattern of the names in it."""
    return all(
        any(fnmatch(name, one) for name in (*folder.files, *folder.folders))
        if "*" in one or "?" in one
        else folder.file(one) or folder.folder(one)
        for one in landmarks
    )


def need_file(folder: RawFolder, path: str) -> RawFile:
    """A file below a folder.

    Raises:
        InputError: it is not there.
    """
    found = folder.file(path)
    if found is None:
        raise InputError(
            f"there is no {path} in it.", folder.where, "Download or extract it again."
        )
    return found


def need_folder(folder: RawFolder, path: str) -> RawFolder:
    """A folder below a folder.

    Raises:
        InputError: it is not there.
    """
    found = folder.folder(path)
    if found is None:
        what = f"there is no folder {path} in it."
        raise InputError(what, folder.where, "Download or extract it again.")
    return found


def files_in(folder: RawFolder) -> tuple[RawFile, ...]:
    """All files of a folder, sorted by name."""
    return tuple(need_file(folder, name) for name in folder.files)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    lowered = name.lower()
    return is_archive(name) and any(fnmatch(lowered, pattern.lower()) for pattern in patterns)
