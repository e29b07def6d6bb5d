"""Quick, Draw!: bitmaps of drawings. Source: facts of the official format, section 2.2."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from episodes.convert.class_images import ClassImages, Skip
from episodes.convert.encoding import encode_pixels
from episodes.convert.origin import Download, Origin
from episodes.convert.raw import RawFile, map_raw
from episodes.convert.source import RawSource
from episodes.convert.splits import ClassNames, in_order
from episodes.convert.tree import need_file
from episodes.faults import InputError

SIDE = 28
PREFIXES = ("", "full_numpy_bitmap_", "full%2Fnumpy_bitmap%2F", "full-numpy_bitmap-")
"""What browsers and mirrors put before the names."""
PORTION = 4096
"""Drawings that are looked at in one go."""


@dataclass(frozen=True)
class Drawings:
    """The rows of a `.npy` file, which is mapped into memory.

    Attributes:
        file: the file.
        count: its rows.
    """

    file: RawFile
    count: int

    def __len__(self) -> int:
        return self.count

    def encoded(self, skip: Skip) -> Iterator[bytes]:
        """See `ClassImages`; none is ever skipped. White strokes on black stay as they are."""
        bitmaps = map_bitmaps(self.file)
        for first in range(0, len(bitmaps), PORTION):
            portion = np.asarray(bitmaps[first : first + PORTION])
            grey = portion.astype(np.uint8) * np.uint8(255) if portion.dtype == bool else portion
            for drawing in grey.reshape(-1, SIDE, SIDE):
                yield encode_pixels(drawing)

    def describe(self) -> str:
        """See `ClassImages`."""
        return f"{self.file.base} {len(self)}"


def map_bitmaps(file: RawFile) -> npt.NDArray[Any]:
    """[drawings, 784] boolean or grey pixels of a class.

    Raises:
        InputError: the file is broken, or holds something else.
    """
    array = map_raw(file)
    if array.ndim != 2 or array.shape[1] != SIDE * SIDE or array.dtype not in (bool, np.uint8):
        what = f"holds {array.dtype} of shape {array.shape}, not bitmaps of {SIDE} by {SIDE}."
        raise InputError(what, file.where, "Take the files of full/numpy_bitmap.")
    return array


class Sketches(RawSource):
    """`<class>.npy`: all drawings of a class as rows of grey or boolean pixels."""

    name = "quickdraw"
    sizes = (241, 52, 52)
    origin = Origin(
        title="Quick, Draw! (numpy bitmaps)",
        licence="CC BY 4.0",
        page="https://github.com/googlecreativelab/quickdraw-dataset",
        downloads=(
            Download(
                "345 files <class>.npy",
                "39 GB",
                "gs://quickdraw_dataset/full/numpy_bitmap/*.npy",
                landmarks=tuple((f"{prefix}zigzag.npy",) for prefix in PREFIXES),
                weak=(("*.npy",),),
                archives=("*quick*draw*", "*numpy_bitmap*"),
            ),
        ),
    )

    @cached_property
    def files(self) -> dict[str, RawFile]:
        """Class → its file, sorted by class."""
        folder = self.need(self.origin.downloads[0])
        files: dict[str, RawFile] = {}
        for name in folder.files:
            if name.endswith(".npy"):
                prefix = max((one for one in PREFIXES if name.startswith(one)), key=len)
                drawn = name.removeprefix(prefix).split(".")[0].replace("%20", " ")
                if drawn in files:
                    what = f"holds {drawn!r} twice."
                    raise InputError(what, folder.where, "Remove one of the files.")
                files[drawn] = need_file(folder, name)
        return dict(sorted(files.items()))

    def class_names(self) -> list[str]:
        """The names of the files, sorted."""
        return list(self.files)

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """The rows of each file, in their order."""
        return [
            Drawings(file, len(map_bitmaps(file)))
            for file in (self.files[name] for name in in_order(splits))
        ]
