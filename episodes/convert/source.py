"""A source as raw data: what every converter tells of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from episodes.convert.class_images import ClassImages
from episodes.convert.origin import Download, Origin
from episodes.convert.part import Part
from episodes.convert.specification import Counts, flat_spec
from episodes.convert.splits import ClassNames, draw_splits
from episodes.convert.tree import RawData, RawFolder, has_all
from episodes.faults import InputError

SAMPLED = 12
"""Images that are encoded to know how much room all will take."""
RECORD_BYTES = 60
"""What a record takes beside its image, about."""


@dataclass(frozen=True)
class Options:
    """What a user can choose of one conversion.

    Attributes:
        duplicates: files or folders of lists of images to leave out of ImageNet.
    """

    duplicates: tuple[Path, ...] = ()


@dataclass
class RawSource(ABC):
    """One source and where its raw data are.

    Raw data are looked at when they are first needed: some sources tell their split without.

    Attributes:
        raw: where to look.
        output: the folder that its records go to.
        options: of the conversion.
    """

    raw: RawData
    output: Path
    options: Options = field(default_factory=Options)
    _found: dict[Download, RawFolder | None] = field(default_factory=dict)

    name: ClassVar[str]
    origin: ClassVar[Origin]
    sizes: ClassVar[tuple[int, int, int]]
    """Classes of train, valid and test in the benchmark."""
    splits_are_fixed: ClassVar[bool] = False
    """Whether the split follows from the hierarchy, so that no user can choose another."""

    @abstractmethod
    def class_names(self) -> list[str]:
        """All classes, in the order that the official draw of the split starts from.

        Raises:
            InputError: the raw data are not there, or broken.
        """

    @abstractmethod
    def images(self, splits: ClassNames) -> list[ClassImages]:
        """The images of every class, in the order of class ids.

        Raises:
            InputError: the raw data are not there, or broken.
        """

    def splits(self) -> ClassNames:
        """The official split.

        Raises:
            InputError: there are not as many classes as in the benchmark.
        """
        names = self.class_names()
        self.check_number(names)
        return draw_splits(names, *self.sizes[:2])

    def check_number(self, names: Sequence[str]) -> None:
        """Raises InputError where there are not as many classes as in the benchmark."""
        if len(names) != sum(self.sizes):
            what = f"{len(names)} classes of {self.name} are there, not {sum(self.sizes)}"
            remedy = "Complete the raw data, or name a split of your own with --splits."
            raise InputError(f"{what}: the official split needs all.", self.raw.path, remedy)

    def parts(self, splits: ClassNames) -> Sequence[Part]:
        """What must be made before the class files; most sources need nothing."""
        return ()

    def specification(self, splits: ClassNames, counts: Counts) -> Mapping[str, Any]:
        """The content of `dataset_spec.json`."""
        return flat_spec(self.name, splits, counts)

    def companions(self, splits: ClassNames, counts: Counts) -> Mapping[str, Any]:
        """Other JSON files beside the specification: name → content."""
        return {}

    def notes(self) -> list[str]:
        """What the user should know of this conversion."""
        return []

    def expected_bytes(self, images: Sequence[ClassImages], splits: ClassNames) -> float:
        """About how many bytes the records of these classes will take, by a sample of them."""
        total = sum(map(len, images))
        sample = images[:: max(1, len(images) // SAMPLED)]
        sizes = [len(one) for some in sample for one in _first(some)]
        return total * (sum(sizes) / max(len(sizes), 1) + RECORD_BYTES)

    def find(self, download: Download) -> RawFolder | None:
        """The folder with the content of a download, wherever it lies.

        Raises:
            InputError: an archive that may hold it is damaged.
        """
        if download not in self._found:
            wanted = partial(has_content, download)
            self._found[download] = next(self.raw.search(wanted, download.archives), None)
        return self._found[download]

    def need(self, download: Download) -> RawFolder:
        """The folder with the content of a download.

        Raises:
            InputError: it is not there; says where it is when the user points too deep.
        """
        found = self.find(download)
        if found is None and download.weak:
            found = self.find(replace(download, landmarks=download.weak, weak=()))
        if found is not None:
            return found
        for above in self.raw.above():
            folder = above.as_folder()
            if folder is not None and has_content(download, folder):
                remedy = f"Give the folder above: --raw {above.path}"
                raise InputError(f"is a folder inside {self.name}.", self.raw.path, remedy)
        landmarks = " or ".join(", ".join(one) for one in download.landmarks)
        what = (
            f"{download.name} of {self.name} is not there: no folder or archive with {landmarks}."
        )
        raise InputError(what, self.raw.path, self.origin.remedy)

    def is_there(self) -> bool:
        """Whether all raw data that a conversion needs are to be found.

        Raises:
            InputError: an archive of them is damaged.
        """
        return all(self.find(download) for download in self.origin.downloads)


def has_content(download: Download, folder: RawFolder) -> bool:
    """Whether a folder has the content of a download, by its landmarks."""
    return any(has_all(folder, landmarks) for landmarks in download.landmarks)


def _first(images: ClassImages) -> list[bytes]:
    return [image for image, _ in zip(images.encoded(lambda _: None), range(1), strict=False)]
