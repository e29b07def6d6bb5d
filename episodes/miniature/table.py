"""The ten sources of the miniature: their classes, how many images, and who draws them.

Sizes and shapes follow the real sources in small: alphabets of 20-image characters, a long tail
of mushrooms, signs for testing only, crops for validation and testing only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from numpy.random import Generator
from PIL import Image

from episodes.miniature import taxonomy
from episodes.miniature.aircraft import Aeroplane
from episodes.miniature.nature import Bird, Flower, Mushroom
from episodes.miniature.objects import Scene, Thing, spread
from episodes.miniature.signs import Sign
from episodes.miniature.strokes import Character, Doodle
from episodes.miniature.textures import PATTERNS, Texture
from episodes.protocol import Split


class Genome(Protocol):
    """What the images of a class have in common."""

    def paint(self, rng: Generator) -> Image.Image:
        """One image, drawn with the image's own generator."""
        ...


@dataclass(frozen=True)
class MiniatureClass:
    """One class.

    Attributes:
        name: as the specification writes it.
        images: how many.
        genome: makes the class's genome with the class's own generator.
    """

    name: str
    images: int
    genome: Callable[[Generator], Genome]


@dataclass(frozen=True)
class MiniatureSource:
    """One source.

    Attributes:
        classes: by split, in the order of class ids.
        superclasses: by split, (name, number of classes); only in the two-level source.
        hierarchical: whether the classes are the leaves of `taxonomy`'s graphs.
    """

    classes: Mapping[Split, tuple[MiniatureClass, ...]]
    superclasses: Mapping[Split, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    hierarchical: bool = False

    @property
    def all_classes(self) -> tuple[MiniatureClass, ...]:
        """The classes by class id: train, then valid, then test."""
        return tuple(one for split in Split for one in self.classes[split])


def _flat(classes: Sequence[MiniatureClass], train: int, valid: int) -> MiniatureSource:
    """A source without hierarchy: the first classes train, the next validate, the rest test."""
    cuts = {
        Split.TRAIN: tuple(classes[:train]),
        Split.VALID: tuple(classes[train : train + valid]),
        Split.TEST: tuple(classes[train + valid :]),
    }
    return MiniatureSource(cuts)


def _between(low: int, high: int, index: int, tail: float = 1.0) -> int:
    """A number of images; a greater `tail` makes most classes small."""
    return low + round((high - low) * float(spread(index, 1)[0] ** tail))


FIRST = ("amber", "ashen", "blue", "brook", "chalk", "coral", "dusk", "elder", "frost", "gilded")
SECOND = ("crowned", "furrowed", "lesser", "northern", "painted")


def _names(noun: str, count: int) -> list[str]:
    """Invented names: amber crowned finch, ashen crowned finch …"""
    return [f"{FIRST[k % 10]} {SECOND[k // 10 % 5]} {noun}" for k in range(count)]


def _ilsvrc_2012() -> MiniatureSource:
    images = {Split.TRAIN: 40, Split.VALID: 24, Split.TEST: 32}
    return MiniatureSource(
        classes={
            split: tuple(
                MiniatureClass(
                    leaf.wn_id,
                    images[split] - leaf.sibling % 3 * 2,
                    partial(Thing.of_class, kind=leaf.kind, sibling=leaf.sibling),
                )
                for leaf in taxonomy.leaves(split)
            )
            for split in Split
        },
        hierarchical=True,
    )


ALPHABETS: dict[Split, dict[str, int]] = {
    Split.TRAIN: {"Orrin": 10, "Tessal": 8, "Low_Vadric": 7, "Quell": 9},
    Split.VALID: {"Hemmish": 7, "Uldo": 8},
    Split.TEST: {"Brant": 9, "Kessic": 11, "Old_Mirran": 13},
}
"""Invented alphabets and how many characters each has."""


def _omniglot() -> MiniatureSource:
    order = [name for split in Split for name in ALPHABETS[split]]
    return MiniatureSource(
        classes={
            split: tuple(
                MiniatureClass(
                    f"{name}-character{character:02d}",
                    20,
                    partial(Character.of_class, alphabet=order.index(name)),
                )
                for name, size in ALPHABETS[split].items()
                for character in range(1, size + 1)
            )
            for split in Split
        },
        superclasses={split: tuple(ALPHABETS[split].items()) for split in Split},
    )


def _aircraft() -> MiniatureSource:
    makers = ("Corvane", "Halden", "Tarn", "Veloce")
    classes = [
        MiniatureClass(f"{makers[k % 4]} {100 + 20 * k}", 30, partial(Aeroplane.of_class, index=k))
        for k in range(26)
    ]
    return _flat(classes, 12, 5)


def _cu_birds() -> MiniatureSource:
    classes = [
        MiniatureClass(
            f"{k + 1:03d}.{name.title().replace(' ', '_')}",
            _between(22, 30, k),
            partial(Bird.of_class, index=k),
        )
        for k, name in enumerate(_names("finch", 29))
    ]
    return _flat(classes, 14, 5)


TRAIN_WORDS = ("banded", "bricked", "bubbly", "chequered", "clouded", "crossed", "dotted",
               "fibrous", "pinstriped", "rayed", "scaled", "starry", "woven")  # fmt: skip
VALID_WORDS = ("grainy", "netted", "pebbled", "swirly", "wavy")


def _dtd() -> MiniatureSource:
    test_words = sorted(set(PATTERNS) - set(TRAIN_WORDS) - set(VALID_WORDS))
    classes = [
        MiniatureClass(word, 30, partial(Texture.of_class, word=word))
        for word in (*TRAIN_WORDS, *VALID_WORDS, *test_words)
    ]
    return _flat(classes, len(TRAIN_WORDS), len(VALID_WORDS))


SKETCHED = ("beetle", "car", "cup", "fish", "guitar", "hammer", "house", "kite", "leaf", "snail",
            "tree", "umbrella", "whale",  # train
            "boat", "clock", "fruit", "hound", "key",  # valid
            "bicycle", "bottle", "bus", "butterfly", "cactus", "cake", "cat", "chair", "hat",
            "lamp", "person", "spider")  # fmt: skip


def _quickdraw() -> MiniatureSource:
    classes = [MiniatureClass(kind, 28, partial(Doodle.of_class, kind=kind)) for kind in SKETCHED]
    return _flat(classes, 13, 5)


def _fungi() -> MiniatureSource:
    classes = [
        MiniatureClass(
            f"{k:04d}.{name}", _between(6, 60, k, tail=3.0), partial(Mushroom.of_class, index=k)
        )
        for k, name in enumerate(_names("cap", 46))
    ]
    return _flat(classes, 24, 8)


def _vgg_flower() -> MiniatureSource:
    classes = [
        MiniatureClass(
            f"{k + 1:03d}.{name}", _between(20, 34, k, tail=2.0), partial(Flower.of_class, index=k)
        )
        for k, name in enumerate(_names("bloom", 26))
    ]
    return _flat(classes, 12, 5)


ROAD_SIGNS = (
    ("ban", "20"), ("ban", "30"), ("ban", "50"), ("ban", "60"), ("ban", "80"), ("end", "80"),
    ("ban", "cars"), ("ban", "nothing"), ("stop", "bar"), ("stop", "cross"),
    ("priority", "nothing"), ("yield", "nothing"), ("warning", "mark"), ("warning", "bend"),
    ("warning", "humps"),
    ("warning", "walker"), ("warning", "star"), ("warning", "lights"), ("order", "ahead"),
    ("order", "left"), ("order", "right"), ("order", "slanting"), ("notice", "plus"),
    ("notice", "walker"),
)  # fmt: skip
"""Plate and glyph of every road sign."""


def _traffic_sign() -> MiniatureSource:
    classes = [
        MiniatureClass(
            f"{k:02d}.{plate} {glyph}",
            _between(12, 34, k, tail=2.0),
            partial(Sign.of_class, plate=plate, glyph=glyph),
        )
        for k, (plate, glyph) in enumerate(ROAD_SIGNS)
    ]
    return _flat(classes, 0, 0)


CROPPED = ("bicycle", "cake", "clock", "fish", "hound", "tree", "umbrella",  # valid
           "boat", "bottle", "bus", "car", "cat", "chair", "fruit", "kite", "lamp",
           "person")  # fmt: skip


def _mscoco() -> MiniatureSource:
    classes = [
        MiniatureClass(kind, _between(16, 36, k, tail=2.0), partial(Scene.of_class, kind=kind))
        for k, kind in enumerate(CROPPED)
    ]
    return _flat(classes, 0, 7)


TABLE: dict[str, MiniatureSource] = {
    "ilsvrc_2012": _ilsvrc_2012(),
    "omniglot": _omniglot(),
    "aircraft": _aircraft(),
    "cu_birds": _cu_birds(),
    "dtd": _dtd(),
    "quickdraw": _quickdraw(),
    "fungi": _fungi(),
    "vgg_flower": _vgg_flower(),
    "traffic_sign": _traffic_sign(),
    "mscoco": _mscoco(),
}
"""Sources by their official name."""
