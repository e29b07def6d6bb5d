"""The images of one class, in the order of its records, before they are read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from episodes.convert.encoding import Box, Unreadable, record_image
from episodes.convert.raw import RawFile, read_raw
from episodes.faults import InputError

Skip = Callable[[str], None]
"""Takes the name of an image that is left out, and why."""


class ClassImages(Protocol):
    """The images of one class. Any process can have them: it holds places, not pixels."""

    def __len__(self) -> int:
        """How many there are; nearly, where only reading tells."""

    def encoded(self, skip: Skip) -> Iterator[bytes]:
        """What the records hold, one image in memory at a time.

        Args:
            skip: called for images that are left out, as the benchmark does.

        Raises:
            InputError: an image cannot be read, in a source where the benchmark skips none.
        """

    def describe(self) -> str:
        """Text that changes whenever other images, or other changes to them, are meant."""


@dataclass(frozen=True)
class ImageFiles:
    """A file per image.

    Attributes:
        files: in the order of the records.
        boxes: what to crop from each; None takes them whole.
        invert: whether grey levels are inverted.
    """

    files: tuple[RawFile, ...]
    boxes: tuple[Box, ...] | None = None
    invert: bool = False

    def __len__(self) -> int:
        return len(self.files)

    def encoded(self, skip: Skip) -> Iterator[bytes]:
        """See `ClassImages`; none is ever skipped."""
        for place, file in enumerate(self.files):
            try:
                box = self.boxes[place] if self.boxes else None
                yield record_image(read_raw(file), box, self.invert)
            except Unreadable as error:
                what = f"the image cannot be decoded ({error})."
                remedy = "Download it again, or remove it if it is no image of this source."
                raise InputError(what, file.where, remedy) from error

    def describe(self) -> str:
        """See `ClassImages`."""
        names = [file.base for file in self.files]
        return f"{names} {self.boxes} {self.invert}"
