"""The files of one training, and who may write them."""

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from episodes.faults import InputError, is_disk_full
from fewshot.training.snapshots import Snapshots

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Files:
    """The files of one training.

    Attributes:
        folder: where they are.
        name: of the training.
    """

    folder: Path
    name: str

    @property
    def final(self) -> Path:
        """The finished backbone: the best, or the last."""
        return self.folder / f"{self.name}{SUFFIX}"

    @property
    def best(self) -> Path:
        """The best so far, while it trains."""
        return self.folder / f"{self.name}.best{SUFFIX}"

    @property
    def last(self) -> Path:
        """The weights of the last step, where they are not the best."""
        return self.folder / f"{self.name}.last{SUFFIX}"

    @property
    def state(self) -> Snapshots:
        """What an interrupted training goes on from."""
        return Snapshots(self.folder / f"{self.name}.training{SUFFIX}")

    @property
    def journal(self) -> Path:
        """One JSON object a line."""
        return self.folder / f"{self.name}.jsonl"

    @property
    def claim(self) -> "Claim":
        """The right to write them, not yet taken."""
        return Claim(self.folder / f"{self.name}.lock")

    def clear(self) -> None:
        """Remove what only an unfinished training needs."""
        self.best.unlink(missing_ok=True)
        self.state.remove()


class Claim:
    """The right of one process to write a training's files; it goes when the process dies.

    Args:
        path: of the file that is locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def take(self) -> bool:
        """Whether it is this process's now, and not another's.

        A disk that knows no locks gives it to everyone.

        Raises:
            InputError: the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("w")
        except OSError as error:
            full = "the disk is full." if is_disk_full(error) else f"{error.strerror}."
            remedy = "Choose another --output, or free some space."
            raise InputError(f"cannot be written: {full}", self.path.parent, remedy) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        except OSError:
            pass
        self._file = file
        return True

    def give_back(self) -> None:
        """Let others have it."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None
