"""What a conversion writes: class files, and parts that class files are put together from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PARTS = ".parts"
"""Folder of parts in the folder of a source."""


@dataclass(frozen=True)
class Written:
    """A file that is finished.

    Attributes:
        file: its name in the folder of the source.
        records: images in it.
        bytes: its size.
        skipped: images that were left out, and why.
    """

    file: str
    records: int
    bytes: int
    skipped: tuple[str, ...] = ()

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> "Written":
        """What `asdict` gave, read back.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        name = str(entry["file"])
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{name!r} is not a file of a conversion")
        return cls(name, int(entry["records"]), int(entry["bytes"]), tuple(entry["skipped"]))


class Part(Protocol):
    """A file that class files are put together from, and that is removed in the end."""

    @property
    def file(self) -> str:
        """Its name in the folder of the source."""

    def __len__(self) -> int:
        """Images that go into it."""

    def write(self, folder: Path) -> Written:
        """Write it, atomically, into the folder of the source."""
