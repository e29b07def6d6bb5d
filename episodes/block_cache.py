"""Blocks of remote files kept on this machine: bounded, the longest unused go first.

A block is a file of its own that ends with its checksum, written atomically, so any number of
processes may share a folder and a damaged block is fetched again.
"""

import os
from contextlib import suppress
from pathlib import Path

import google_crc32c

from episodes.faults import InputError, is_disk_full
from episodes.tfrecord import replacing

CACHE_LIMIT = "META_DATASET_REMOTE_GB"
"""The environment's name for the most gigabytes that blocks may take."""
DEFAULT_GIGABYTES = 20.0
KEPT = 0.8
"""Share of the limit that remains after blocks were removed."""
CHECKSUM = 4
"""Bytes at the end of a block's file."""


def cache_limit() -> int:
    """The most bytes that blocks may take.

    Raises:
        InputError: the environment says something else than a number from 0.
    """
    text = os.environ.get(CACHE_LIMIT, str(DEFAULT_GIGABYTES))
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < 1e9:
        raise InputError(f"is '{text}', not a number of gigabytes.", CACHE_LIMIT)
    return int(gigabytes * 1e9)


class BlockCache:
    """Blocks in a folder.

    Args:
        folder: of the blocks of all files; made when the first block is kept.
        limit: bytes that they may take, all together.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._taken: int | None = None
        """Bytes, as far as this process knows."""

    def get(self, file: str, number: int) -> bytes | None:
        """A block, or None where it is not here, or damaged.

        Args:
            file: whose block it is; part of a path.
            number: of the block in its file.
        """
        path = self._path(file, number)
        try:
            content = path.read_bytes()
            os.utime(path)  # used now
        except OSError:
            return None
        block, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
        return (
            block if google_crc32c.value(block).to_bytes(CHECKSUM, "little") == checksum else None
        )

    def put(self, file: str, number: int, block: bytes) -> None:
        """Keep a block, if there is room: a block that is not kept is fetched again.

        Raises:
            InputError: the folder cannot be written.
        """
        content = block + google_crc32c.value(block).to_bytes(CHECKSUM, "little")
        if len(content) > self.limit:
            return
        if self._taken is None:
            self._taken = sum(size for _, size, _ in self._blocks())
        path = self._path(file, number)
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            if is_disk_full(error):
                return
            remedy = "Set XDG_CACHE_HOME to a folder that can be written."
            raise InputError(f"cannot be written: {error.strerror}.", path, remedy) from error
        self._taken += len(content)
        if self._taken > self.limit:
            self._make_room()

    def forget(self, file: str) -> None:
        """Remove the blocks of a file."""
        with suppress(OSError):
            for path in list((self.folder / file).iterdir()):
                path.unlink(missing_ok=True)

    def _path(self, file: str, number: int) -> Path:
        return self.folder / file / str(number)

    def _blocks(self) -> list[tuple[int, int, Path]]:
        """Time of last use, size and path of every block; other processes remove some meanwhile."""
        found = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                with suppress(OSError):
                    status = path.stat()
                    found.append((status.st_mtime_ns, status.st_size, path))
        return found

    def _make_room(self) -> None:
        blocks = sorted(self._blocks())
        taken = sum(size for _, size, _ in blocks)
        for _, size, path in blocks:
            if taken <= KEPT * self.limit:
                break
            with suppress(OSError):
                path.unlink(missing_ok=True)
            taken -= size
        self._taken = taken
