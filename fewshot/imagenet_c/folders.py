"""Where corrupted images come from: the released folders, or a validation folder corrupted here.

    <release>/<corruption>/<severity>/<class>/*.JPEG      taken as they are
    <validation>/<class>/*.JPEG                           corrupted in memory

The two are different tests and carry different names. A cell is one corruption at one severity;
the cell ("clean", 0) is the uncorrupted images.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from episodes.faults import InputError
from episodes.folder import SUFFIXES
from episodes.images import decode
from fewshot.imagenet_c.corruptions import (
    CORRUPTIONS,
    CORRUPTIONS_VERSION,
    SEVERITIES,
    SIDE,
    corrupt,
)
from fewshot.imagenet_c.picture import Pixels

Cell = tuple[str, int]
CLEAN: Cell = ("clean", 0)
RELEASED = "imagenet-c/official-jpeg"
IN_MEMORY = f"imagenet-c/in-memory-v{CORRUPTIONS_VERSION}"
SHORT_SIDE = 256
"""Pixels to which the shorter side is resized before the middle is cut out, as the release was."""
SHAPES = (
    "Give the released folders, <corruption>/<severity>/<class>/*.JPEG, or a validation folder, "
    "<class>/*.JPEG, whose class folders are named as the checkpoint's classes."
)


@dataclass(frozen=True)
class CorruptedImages:
    """The images of every cell, and what is missing.

    Attributes:
        kind: `RELEASED` or `IN_MEMORY`; results of different kinds never share a table.
        folder: of the images.
        clean: folder of the uncorrupted images, or None.
        names: "<class>/<file>" of the images of every cell, sorted by class.
        cells: those that can be read, in the order of the table; `CLEAN` first if it can.
        missing: what the released folders lack, one phrase each.
        skipped: class folders whose class the checkpoint does not know.
        seed: of the corruptions made in memory.
    """

    kind: str
    folder: Path
    clean: Path | None
    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    missing: tuple[str, ...]
    skipped: int
    seed: int = 0

    @property
    def classes(self) -> int:
        """Number of classes that have images."""
        return len(self.class_names)

    @property
    def class_names(self) -> frozenset[str]:
        """The classes that have images."""
        return frozenset(map(class_of, self.names))

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the names of the images."""
        return _digest(self.names)

    def read(self, cell: Cell, name: str) -> Pixels:
        """One image of a cell: uint8 [224, 224, 3].

        Raises:
            InputError: it cannot be read, or a released one is not of 224 pixels.
        """
        if cell == CLEAN or self.kind == IN_MEMORY:
            pixels = read_middle((self.clean or self.folder) / name)
            return pixels if cell == CLEAN else corrupt(pixels, *cell, name, self.seed)
        path = self.folder / cell[0] / str(cell[1]) / name
        pixels = _decoded(path)
        if pixels.shape != (SIDE, SIDE, 3):
            what = f"is {pixels.shape[1]} × {pixels.shape[0]} pixels, not {SIDE} × {SIDE}."
            raise InputError(what, path, "Give the images of ImageNet-C as released.")
        return pixels


def class_of(name: str) -> str:
    """The class of an image "<class>/<file>"."""
    return name.partition("/")[0]


def _decoded(path: Path) -> Pixels:
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}.", path, "Copy it again.") from error
    except ValueError as error:
        what = f"the image does not decode: {error}."
        raise InputError(what, path, "Copy it again.") from error


@lru_cache(maxsize=256)
def read_middle(path: Path) -> Pixels:
    """The middle of an image at 224 pixels, as the images of the release were before corruption.

    The shorter side is resized to 256 pixels, bilinear with a low-pass, and the middle cut out.

    Returns:
        uint8 [224, 224, 3]; not to be written to.

    Raises:
        InputError: the file cannot be read.
    """
    picture = Image.fromarray(_decoded(path))
    width, height = picture.size
    if width <= height:
        size = (SHORT_SIDE, SHORT_SIDE * height // width)
    else:
        size = (SHORT_SIDE * width // height, SHORT_SIDE)
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((length - SIDE) / 2) for length in size)
    pixels = np.array(picture.crop((left, top, left + SIDE, top + SIDE)))
    pixels.flags.writeable = False
    return pixels


# ---- opening ---------------------------------------------------------------------------------


def open_images(
    folder: Path,
    classes: Sequence[str],
    corruptions: Sequence[str],
    *,
    clean: Path | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> CorruptedImages:
    """The images that a folder offers to a classifier.

    Args:
        folder: released folders, or a validation folder; told by the names in it.
        classes: those that the classifier knows, as class folders are named.
        corruptions: to look for.
        clean: a validation folder beside released ones, for the clean error.
        per_class: the first so many images of each class, by name; None takes all.
        seed: of corruptions made in memory.

    Raises:
        InputError: the folder is neither, or holds none of the classes; or `clean` holds other
            images than the release, or is given beside a validation folder.
    """
    inside = _folders(folder)
    if not set(inside) & set(CORRUPTIONS):
        if clean is not None:
            what = "a validation folder is its own clean images."
            raise InputError(what, "--clean", "Give --clean with released folders only.")
        names, skipped = _list_images(folder, classes, per_class)
        if not names:
            raise _no_images(folder, inside)
        cells = (CLEAN, *((name, severity) for name in corruptions for severity in SEVERITIES))
        return CorruptedImages(IN_MEMORY, folder, None, names, cells, (), skipped, seed)
    return _open_release(folder, classes, corruptions, clean, per_class)


def _open_release(
    folder: Path,
    classes: Sequence[str],
    corruptions: Sequence[str],
    clean: Path | None,
    per_class: int | None,
) -> CorruptedImages:
    missing: list[str] = []
    found: dict[Cell, str] = {}
    lists: dict[str, tuple[tuple[str, ...], int]] = {}
    for name in corruptions:
        if not (folder / name).is_dir():
            missing.append(name)
            continue
        for severity in SEVERITIES:
            place = folder / name / str(severity)
            if not place.is_dir():
                missing.append(f"{name}/{severity}")
                continue
            names, skipped = _list_images(place, classes, per_class)
            found[name, severity] = _digest(names)
            lists.setdefault(found[name, severity], (names, skipped))
    if not any(names for names, _ in lists.values()):
        raise _no_images(folder, _folders(folder))
    # What most cells hold; of equally many, the most images.
    counts = Counter(found.values())
    usual = max(lists, key=lambda digest: (counts[digest], len(lists[digest][0])))
    names, skipped = lists[usual]
    for (name, severity), digest in found.items():
        if digest != usual:
            held = set(lists[digest][0])
            lacking, extra = len(set(names) - held), len(held - set(names))
            missing.append(f"{name}/{severity} ({lacking} images missing, {extra} too many)")
    cells = [cell for cell, digest in found.items() if digest == usual]
    if clean is not None:
        if _list_images(clean, classes, per_class)[0] != names:
            what = "does not hold the images that were corrupted, under the same names."
            raise InputError(what, clean, "Give the validation images of ImageNet to --clean.")
        cells.insert(0, CLEAN)
    return CorruptedImages(RELEASED, folder, clean, names, tuple(cells), tuple(missing), skipped)


def _no_images(folder: Path, inside: Sequence[str]) -> InputError:
    held = ", ".join(inside[:5]) + (", …" if len(inside) > 5 else "")
    found = f"it holds the folders {held}" if inside else "it holds no folders"
    return InputError(f"holds no images of the checkpoint's classes: {found}.", folder, SHAPES)


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        what = f"cannot be listed: {error.strerror}."
        raise InputError(what, folder, "Check the path of the images.") from error


def _list_images(
    folder: Path, classes: Iterable[str], per_class: int | None
) -> tuple[tuple[str, ...], int]:
    """Names of the images of the known classes, and the number of folders of unknown ones."""
    known, names = set(classes), []
    inside = _folders(folder)
    for name in inside:
        if name not in known:
            continue
        with os.scandir(folder / name) as entries:
            images = sorted(e.name for e in entries if Path(e.name).suffix.lower() in SUFFIXES)
        names += [f"{name}/{image}" for image in images[:per_class]]
    return tuple(names), sum(name not in known for name in inside)


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:16]
