"""MNIST's test digits, as the field adds them to the benchmark.

The customary conversion (that of CNAPS, which others point to) takes the test images, enlarges
them to 84 pixels by Pillow's Lanczos filter, and makes every digit a test class.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from episodes.convert.class_images import ClassImages, Skip
from episodes.convert.encoding import encode_pixels
from episodes.convert.origin import Download, Origin
from episodes.convert.raw import RawFile, read_raw
from episodes.convert.source import RawSource
from episodes.convert.splits import ClassNames, all_test, in_order
from episodes.faults import InputError

ENLARGED = 84
"""Side in pixels of the images in the records."""
IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def variants(name: str) -> list[str]:
    """A file's names: gzipped or not, and as it is called after unpacking with some tools."""
    dotted = name.replace("-idx", ".idx")
    return [f"{name}.gz", name, f"{dotted}.gz", dotted]


@dataclass(frozen=True)
class Bitmaps:
    """Small images that are all in memory.

    Attributes:
        pixels: [images, side, side] or [images, side, side, 3], in the order of the records.
    """

    pixels: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def encoded(self, skip: Skip) -> Iterator[bytes]:
        """See `ClassImages`; enlarged."""
        for image in self.pixels:
            yield encode_pixels(image, ENLARGED)

    def describe(self) -> str:
        """See `ClassImages`."""
        return f"{len(self)} {zlib.crc32(np.ascontiguousarray(self.pixels).data)}"


class Digits(RawSource):
    """`t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, gzipped or not."""

    name = "mnist"
    sizes = (0, 0, 10)
    origin = Origin(
        title="MNIST, test images",
        licence="CC BY-SA 3.0",
        page="http://yann.lecun.com/exdb/mnist/",
        downloads=(
            Download(
                f"{IMAGES}.gz",
                "2 MB",
                f"https://ossci-datasets.s3.amazonaws.com/mnist/{IMAGES}.gz",
                landmarks=tuple((name,) for name in variants(IMAGES)),
                archives=("*mnist*",),
                state="a mirror; the page itself refuses downloads",
            ),
            Download(
                f"{LABELS}.gz",
                "5 kB",
                f"https://ossci-datasets.s3.amazonaws.com/mnist/{LABELS}.gz",
                landmarks=tuple((name,) for name in variants(LABELS)),
                archives=("*mnist*",),
                state="a mirror; the page itself refuses downloads",
            ),
        ),
    )

    def class_names(self) -> list[str]:
        """`class_0` to `class_9`."""
        return [f"class_{digit}" for digit in range(10)]

    def splits(self) -> ClassNames:
        """All digits are test classes."""
        return all_test(self.class_names())

    def images(self, splits: ClassNames) -> list[ClassImages]:
        """The images of a digit, in the order of the customary file names: 0, 1, 10, 100, …"""
        images, labels = self._array(IMAGES, 3), self._array(LABELS, 1)
        if len(images) != len(labels):
            what = f"{len(images)} images and {len(labels)} labels."
            raise InputError(what, self.raw.path, "Download both files again.")
        if labels.max(initial=0) > 9 or images.shape[1] != images.shape[2]:
            what = f"digits up to {labels.max()}, images of shape {images.shape[1:]}."
            raise InputError(what, self.raw.path, "Download both files again.")
        classes = [np.flatnonzero(labels == int(name[-1])) for name in in_order(splits)]
        return [Bitmaps(images[some[by_name(len(some))]]) for some in classes]

    def _array(self, name: str, dimensions: int) -> npt.NDArray[np.uint8]:
        folder = self.need(self.origin.downloads[(IMAGES, LABELS).index(name)])
        files = [file for one in variants(name) if (file := folder.file(one))]
        return _read_idx(files[0], dimensions)


def by_name(count: int) -> list[int]:
    """Numbers in the order of the file names that hold them without leading zeros."""
    return sorted(range(count), key=lambda number: f"image_{number}.png")


def _read_idx(file: RawFile, dimensions: int) -> npt.NDArray[np.uint8]:
    """An array in the IDX format: two zero bytes, type 8, dimensions, sizes, then pixels."""
    content = read_raw(file)
    try:
        if file.name.endswith(".gz"):
            content = gzip.decompress(content)
        if content[:4] != bytes([0, 0, 8, dimensions]):
            raise ValueError("it starts with other bytes")
        sizes = np.frombuffer(content, ">u4", dimensions, offset=4)
        pixels = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
        return pixels.reshape([int(size) for size in sizes])
    except (ValueError, EOFError, OSError, zlib.error) as error:
        what = f"is not a whole IDX file of {dimensions} dimensions ({error})."
        raise InputError(what, file.where, "Download it again.") from error
