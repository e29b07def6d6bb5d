"""Own data: a folder of class folders of images, as a source without conversion.

    flowers/              given as `my_flowers=flowers`
      daisy/ 001.jpg …    every folder is a class, every file in it an image
      rose/  …
      splits.json         optional: {"train": [class names], "valid": […], "test": […]}

Images are JPEG, PNG, GIF or BMP, told by their content when they are read (TIFF and WebP are
refused, as the benchmark's own decoder does). Without `splits.json` the sorted class names are
split 70/15/15 by the benchmark's rule for such sources (facts of the official format,
section 2.1). Files are numbered in the order of their names, in Unicode's composed form, so a
copy on another machine or file system gives the same episodes.

Names of the system's (`.DS_Store`, `Thumbs.db`, …) are left out, unless they hold an image. Files
beside the class folders (a licence, a read-me) are left alone, unless they are images. Anything
else that is out of place is refused: nothing is skipped in silence.
"""

import hashlib
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from episodes.faults import InputError, changed_meanwhile, enumerate_some
from episodes.plan import Integers
from episodes.protocol import SOURCES, Split
from episodes.spec import SourceSpec

SPLITS_FILE = "splits.json"
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp"})
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")
SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir"})
"""What file managers leave in folders, beside names that start with a dot; in any case."""
SPLIT_SEED = 22
"""The seed of the official converters."""
NAMED_AT_MOST = 30
"""Files that one message names one by one."""


# ---- which source, which classes -------------------------------------------------------------


def parse_own_source(source: str) -> tuple[str, Path] | None:
    """The name and folder in `name=folder`; None for a source that lies in the records.

    Raises:
        InputError: the name is empty, has characters that do not fit a file name, or is one of
            the benchmark's.
    """
    name, sign, folder = source.partition("=")
    if not sign:
        return None
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or not folder:
        remedy = "Write name=folder, the name in letters, digits, dots, dashes and underscores."
        raise InputError("is not a name and a folder.", source, remedy)
    if name in (*SOURCES, "ilsvrc_2012_v2"):
        remedy = "Choose another name, so that results cannot be confused."
        raise InputError(f"'{name}' is a source of the benchmark.", source, remedy)
    return name, Path(folder).expanduser()


def split_classes(classes: int, train: int, valid: int, seed: int = SPLIT_SEED) -> list[list[int]]:
    """Classes of train, valid and test by the benchmark's rule, as positions in a list of names.

    Train classes are in random order, the others sorted, as in the official converters.
    Source: facts of the official format, section 2.1.

    Args:
        classes: number of names.
        train, valid: how many classes these splits get; test gets the rest.
    """
    rng = np.random.RandomState(seed)
    kept = rng.permutation(classes)[: train + valid]
    trained = kept[rng.permutation(train + valid)[:train]]
    test = np.setdiff1d(np.arange(classes), kept)
    return [trained.tolist(), np.setdiff1d(kept, trained).tolist(), test.tolist()]


def default_sizes(classes: int) -> tuple[int, int]:
    """Train and valid classes of a split 70/15/15: ⌊0.7·n⌋ and ⌊0.85·n⌋ − ⌊0.7·n⌋."""
    train = int(0.7 * classes)
    return train, int(0.85 * classes) - train


def is_system_name(name: str) -> bool:
    """Whether a file or folder is the operating system's, and no data, by its name."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_image(start: bytes) -> bool:
    """Whether the first bytes of a file are those of a JPEG, PNG, GIF or BMP."""
    return start.startswith(SIGNATURES)


def sort_key(name: str) -> tuple[str, str]:
    """The order of names: by code points of the composed form, whatever the file system keeps."""
    return unicodedata.normalize("NFC", name), name


# ---- listing ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ClassFolder:
    """The image files of one class.

    Attributes:
        path: of the folder.
        packed: their sorted names in one string of bytes: an object per class, not per image.
        starts: [images + 1] where each name starts in it, then where all end.
    """

    path: Path
    packed: bytes
    starts: Integers

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.starts) - 1

    def image_file(self, image: int) -> Path:
        """The file of image number `image`."""
        return self.path / self.packed[self.starts[image] : self.starts[image + 1]].decode()


def list_folder(folder: Path) -> tuple[list[ClassFolder], list[InputError]]:
    """The class folders by name, and everything in the folder that is out of place.

    Files are told by their suffix; only those with an unknown one are opened.

    Raises:
        InputError: the folder cannot be listed.
    """
    classes: list[ClassFolder] = []
    strays: list[str] = []
    faults: list[InputError] = []
    for entry in _scan(folder):
        is_class = entry.is_dir() and not is_system_name(entry.name)
        mistyped = entry.name.endswith(".json") and entry.name != SPLITS_FILE
        if is_class and _is_utf8(entry.name):
            try:
                classes.append(_list_class(Path(entry.path), strays))
            except InputError as error:
                faults.append(InputError(f"{entry.name}: {error.what}", folder, error.remedy))
        elif is_class or mistyped or _claims_to_be_image(entry):
            strays.append(entry.path)
    if strays:
        faults.append(
            InputError(
                f"not JPEG, PNG, GIF or BMP images in a class folder: "
                f"{_enumerate(strays, folder)}.",
                folder,
                f"Convert, move or remove them. Splits go into {SPLITS_FILE}, names are UTF-8.",
            )
        )
    small = [str(one.path) for one in classes if one.images < 2]
    if small:
        faults.append(
            InputError(
                f"class folders with fewer than 2 images, which cannot be in an episode: "
                f"{_enumerate(small, folder)}.",
                folder,
                "Add images or remove the folders.",
            )
        )
    if not classes:
        remedy = "Every class needs a folder of its own."
        faults.append(InputError("there are no class folders.", folder, remedy))
    return sorted(classes, key=lambda one: sort_key(one.path.name)), faults


def _list_class(folder: Path, strays: list[str]) -> ClassFolder:
    names = []
    for entry in _scan(folder):
        hidden, image = is_system_name(entry.name), _claims_to_be_image(entry)
        if image and not hidden and _is_utf8(entry.name):
            names.append(entry.name)
        elif image or not hidden:
            strays.append(entry.path)
    encoded = [name.encode() for name in sorted(names, key=sort_key)]
    starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return ClassFolder(folder, b"".join(encoded), starts)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        what = f"the folder cannot be listed: {error.strerror}."
        raise InputError(what, folder, "Check the path of the images.") from error


def _claims_to_be_image(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file():
        return False
    if not entry.name.startswith(".") and os.path.splitext(entry.name)[1].lower() in SUFFIXES:  # noqa: PTH122
        return True
    try:
        with Path(entry.path).open("rb") as file:
            return is_image(file.read(8))
    except OSError:
        return False


def _enumerate(paths: Sequence[str], folder: Path) -> str:
    names = [_printable(os.path.relpath(path, folder)) for path in sorted(paths)]
    return enumerate_some(names, NAMED_AT_MOST)


def _is_utf8(name: str) -> bool:
    return _printable(name) == name


def _printable(path: str) -> str:
    return path.encode(errors="backslashreplace").decode()


# ---- splits ----------------------------------------------------------------------------------


def choose_splits(folder: Path, names: Sequence[str]) -> list[list[int]]:
    """Train, valid and test classes, as positions in the sorted names of the class folders.

    Raises:
        InputError: `splits.json` is broken, or does not place every class in one split.
    """
    path = folder / SPLITS_FILE
    if not path.exists():
        return split_classes(len(names), *default_sizes(len(names)))
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        wanted = [[unicodedata.normalize("NFC", str(name)) for name in raw[s]] for s in Split]
    except OSError as error:
        what = f"cannot be read: {error.strerror}."
        raise InputError(what, path, "Check its permissions.") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        what = f"does not list the classes of train, valid and test ({error!r})."
        remedy = 'Write {"train": [class names], "valid": [...], "test": [...]}.'
        raise InputError(what, path, remedy) from error
    places = {unicodedata.normalize("NFC", name): place for place, name in enumerate(names)}
    listed = [name for split in wanted for name in split]
    problems = {
        "in more than one place": sorted(n for n, count in Counter(listed).items() if count > 1),
        "without a class folder": sorted(set(listed) - set(places)),
        "in no split": sorted(set(places) - set(listed)),
    }
    found = [f"{', '.join(names)} ({what})" for what, names in problems.items() if names]
    if found:
        what = f"must name every class folder once: {'; '.join(found)}."
        raise InputError(what, path, "Correct the lists.")
    return [[places[name] for name in split] for split in wanted]


# ---- the source ------------------------------------------------------------------------------


def arrange(
    name: str, folder: Path, listed: Sequence[ClassFolder]
) -> tuple[SourceSpec, list[ClassFolder]]:
    """The specification of the listed class folders, and the folders in the order of class ids.

    Raises:
        InputError: `splits.json` is broken.
    """
    splits = choose_splits(folder, [one.path.name for one in listed])
    classes = [listed[place] for split in splits for place in split]
    starts = np.cumsum([0, *map(len, splits)]).tolist()
    spec = SourceSpec(
        name=name,
        folder=folder,
        class_names=tuple(one.path.name for one in classes),
        images_per_class=tuple(one.images for one in classes),
        split_classes={split: range(*starts[i : i + 2]) for i, split in enumerate(Split)},
    )
    return spec, classes


class FolderImages:
    """The images of a folder of class folders as a source without hierarchy.

    Args:
        name: of the source.
        folder: holds one folder per class.

    Raises:
        InputError: something in the folder is out of place; all of it is named.
    """

    def __init__(self, name: str, folder: Path) -> None:
        listed, faults = list_folder(folder)
        if faults:
            what = " ".join(fault.what for fault in faults)
            remedies = dict.fromkeys(fault.remedy for fault in faults)
            raise InputError(what, folder, " ".join(remedies))
        self.spec, self._classes = arrange(name, folder, listed)
        self._stamps: dict[int, Integers] = {}

    def expect(self, class_ids: Integers, images: Integers) -> None:
        """Nothing is done ahead."""

    def read(self, class_id: int, images: Integers) -> list[tuple[bytes, int | None]]:
        """The bytes of some images of one class; files store no label.

        Raises:
            InputError: a file cannot be read, or has changed since `fingerprint`.
        """
        one, stamps = self._classes[class_id], self._stamps.get(class_id)
        return [
            (_read_file(one.image_file(image), None if stamps is None else stamps[image]), None)
            for image in images
        ]

    def locate(self, class_id: int, image: int) -> str:
        """The file of an image, for messages."""
        return str(self._classes[class_id].image_file(image))

    def class_bytes(self, class_id: int) -> int:
        """Bytes of the image files of a class."""
        one = self._classes[class_id]
        return sum(one.image_file(image).stat().st_size for image in range(one.images))

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when a class or an image file does.

        Files are told apart by name, size and time of modification. From now on this object
        reads no file that has changed: what is made of it is of these files.

        Raises:
            InputError: a file is missing.
        """
        digest = hashlib.sha256()
        try:
            for class_id, one in enumerate(self._classes):
                digest.update(f"{one.path.name}/{one.images}/".encode() + one.packed)
                stamps = np.empty((one.images, 2), np.int64)
                for image in range(one.images):
                    stamps[image] = _stamp(one.image_file(image).stat())
                    digest.update("{} {}\n".format(*stamps[image]).encode())
                self._stamps.setdefault(class_id, stamps)
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}.", error.filename) from error
        return digest.hexdigest()[:16]


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _read_file(path: Path, stamp: Integers | None) -> bytes:
    try:
        with path.open("rb") as file:
            if stamp is not None and _stamp(os.fstat(file.fileno())) != tuple(stamp):
                raise changed_meanwhile(path)
            return file.read()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}.", path) from error
