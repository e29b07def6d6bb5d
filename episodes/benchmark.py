"""What the sources of Meta-Dataset are known to hold, and how a record set compares.

Source: the benchmark's reference specifications (facts of the official format, section 2.2).
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from episodes.faults import InputError
from episodes.protocol import Split
from episodes.spec import SourceSpec

FULL_SIZE = 0.95
"""From this share of the benchmark's images on, a record set claims to be the benchmark."""


@dataclass(frozen=True)
class SplitCounts:
    """Classes, images, and images of the smallest and the largest class of one split."""

    classes: int
    images: int
    smallest: int
    largest: int

    @classmethod
    def of(cls, sizes: Sequence[int]) -> "SplitCounts":
        """The counts of classes of these sizes."""
        return cls(len(sizes), sum(sizes), min(sizes, default=0), max(sizes, default=0))

    def __str__(self) -> str:
        if not self.classes:
            return "no classes"
        per_class = f"{self.smallest}–{self.largest}"
        return f"{self.classes} classes, {self.images} images, {per_class} per class"


@dataclass(frozen=True)
class KnownSource:
    """A source of the benchmark.

    Attributes:
        counts: of train, valid and test.
        names: start of the SHA-256 of the class names in the order of their ids.
    """

    counts: tuple[SplitCounts, SplitCounts, SplitCounts]
    names: str

    @property
    def classes(self) -> int:
        """Classes of all splits."""
        return sum(split.classes for split in self.counts)

    @property
    def images(self) -> int:
        """Images of all splits."""
        return sum(split.images for split in self.counts)


def _known(names: str, *counts: tuple[int, int, int, int]) -> KnownSource:
    train, valid, test = (SplitCounts(*split) for split in counts)
    return KnownSource((train, valid, test), names)


NO_CLASSES = (0, 0, 0, 0)
BENCHMARK = {
    "ilsvrc_2012": _known(
        "febfebd3d704c9f9",
        (712, 915249, 891, 1300),
        (158, 199833, 732, 1300),
        (130, 165682, 889, 1300),
    ),
    "ilsvrc_2012_v2": _known(
        "385e0240499426c0", (1000, 1280764, 732, 1300), NO_CLASSES, NO_CLASSES
    ),
    "omniglot": _known(
        "3037aac8a248d20d", (883, 17660, 20, 20), (81, 1620, 20, 20), (659, 13180, 20, 20)
    ),
    "aircraft": _known(
        "c85e36af637ee4fe", (70, 7000, 100, 100), (15, 1500, 100, 100), (15, 1500, 100, 100)
    ),
    "cu_birds": _known(
        "237e82c90be65d3e", (140, 8239, 41, 60), (30, 1779, 50, 60), (30, 1770, 48, 60)
    ),
    "dtd": _known("c1d24c6f0c953636", (33, 3960, 120, 120), (7, 840, 120, 120), (7, 840, 120, 120)),
    "quickdraw": _known(
        "646e6fa04ce2152a",
        (241, 34776331, 113862, 329204),
        (52, 7939640, 113613, 321981),
        (52, 7710295, 116927, 340029),
    ),
    "fungi": _known(
        "3f9aa486fafea5f5", (994, 64449, 6, 442), (200, 12195, 6, 342), (200, 13116, 6, 364)
    ),
    "vgg_flower": _known(
        "9e75d01df8470464", (71, 5655, 40, 258), (15, 1109, 41, 131), (16, 1425, 40, 196)
    ),
    "traffic_sign": _known("0ca116975df9ed0c", NO_CLASSES, NO_CLASSES, (43, 39209, 210, 2250)),
    "mscoco": _known(
        "232d1c803bbaf509", NO_CLASSES, (40, 513021, 198, 262465), (40, 346980, 225, 43867)
    ),
}
"""The ten sources, and ImageNet's second version."""

WRONG_FUNGI = (
    " Conversions of fungi made before September 2019 have images in wrong classes and other "
    "splits: they must be made again."
)


def digest_names(spec: SourceSpec) -> str:
    """Sixteen hexadecimal digits that change with any class name and with their order."""
    return hashlib.sha256("\n".join(spec.class_names).encode()).hexdigest()[:16]


def compare(spec: SourceSpec, where: Path) -> tuple[InputError | None, str | None]:
    """A fault where a source claims to be the benchmark's and is not, or a note.

    A set with the benchmark's classes in other splits is at fault, and so is one of at least
    `FULL_SIZE` of the benchmark's images that differs from it, unless the only difference is a
    bound on images per class. Smaller sets (a miniature, a capped copy) are what they say.

    Args:
        spec: the source.
        where: the file that it was read from.
    """
    known = BENCHMARK.get(spec.name)
    if known is None:
        return None, "not a source of the benchmark: its counts are compared with nothing."
    found = [SplitCounts.of(spec.images_in_split(split)) for split in Split]
    differences = [
        f"{split}: {mine} (the benchmark has {theirs})"
        for split, mine, theirs in zip(Split, found, known.counts, strict=True)
        if mine != theirs
    ]
    same_names = digest_names(spec) == known.names
    if not differences and same_names:
        return None, None
    if not same_names:
        differences.append("the class names or their order are not the benchmark's")
    what = "; ".join(differences) + "."
    images = sum(spec.images_per_class)
    moved = len(spec.class_names) == known.classes and any(
        mine.classes != theirs.classes for mine, theirs in zip(found, known.counts, strict=True)
    )
    bounded = same_names and all(_is_bounded(spec, split, known) for split in Split)
    if moved or (images >= FULL_SIZE * known.images and not bounded):
        hint = WRONG_FUNGI if spec.name == "fungi" else ""
        return _fault(spec, where, what + hint), None
    classes = f"{len(spec.class_names)} of {known.classes} classes"
    names = "" if same_names else ", with other class names"
    return None, f"not the full benchmark: {images} of {known.images} images, {classes}{names}."


def _is_bounded(spec: SourceSpec, split: Split, known: KnownSource) -> bool:
    """Whether a split can be the benchmark's with its larger classes cut to one size."""
    sizes = spec.images_in_split(split)
    mine, theirs = SplitCounts.of(sizes), known.counts[list(Split).index(split)]
    if mine == theirs:
        return True
    smallest = min(theirs.smallest, mine.largest)
    cut = mine.largest < theirs.largest and Counter(sizes)[mine.largest] > 1
    return cut and mine.classes == theirs.classes and mine.smallest == smallest


def _fault(spec: SourceSpec, where: Path, what: str) -> InputError:
    return InputError(
        f"is not the benchmark's {spec.name}: {what}",
        where,
        "Convert it again from the original images, with the official splits.",
    )
