"""Many crops per image, in class files ordered by annotation: each image is decoded once.

The annotations of a class are scattered over all images, and those of an image over many classes.
So images are cut in shards: a shard is written with its crops in the order of classes and
annotations, and then every class file is merged from all shards.
"""

import heapq
import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from episodes.convert.class_images import Skip
from episodes.convert.encoding import UNREADABLE, Unreadable, encode, open_rgb
from episodes.convert.part import PARTS, Written
from episodes.convert.raw import RawFile, read_raw
from episodes.tfrecord import replacing

SCALE = 1.2
"""Boxes are enlarged by this about their centres."""
HEADER = struct.Struct("<qI")
"""Of a crop in a shard: the number of its annotation, and its length in bytes."""
BUFFER = 1 << 16
"""Bytes read at once of each shard, while all are merged."""
Crop = tuple[int, bytes]


def crop_box(box: npt.NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
    """Left, upper, right, lower of an enlarged box, inside the image, in whole pixels.

    Source: facts of the official format, section 2.3; ties are rounded to even numbers.

    Args:
        box: left, upper, width, height in pixels.
        width, height: of the image.
    """
    x, y, w, h = box.tolist()
    x, y = x - 0.5 * w * (SCALE - 1.0), y - 0.5 * h * (SCALE - 1.0)
    w, h = w * SCALE, h * SCALE
    left, upper = max(round(x - 0.5), 0), max(round(y - 0.5), 0)
    right, lower = min(round(x + w - 0.5) + 1, width), min(round(y + h - 0.5) + 1, height)
    return left, upper, right, lower


@dataclass(frozen=True, eq=False)
class Boxes:
    """Annotations, an entry of each array for one of them.

    Attributes:
        numbers: their place among all annotations.
        classes: class ids.
        boxes: [annotations, 4] left, upper, width, height in pixels.
    """

    numbers: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, places: npt.NDArray[np.int64]) -> "Boxes":
        """Some of them."""
        return Boxes(self.numbers[places], self.classes[places], self.boxes[places])


@dataclass(frozen=True, eq=False)
class CropShard:
    """The crops of some images, and the file that they are kept in meanwhile.

    Attributes:
        number: of the shard.
        class_count: classes in the source.
        images: each with its boxes.
    """

    number: int
    class_count: int
    images: tuple[tuple[RawFile, Boxes], ...]

    @property
    def file(self) -> str:
        """Its name in the folder of the source."""
        return shard_file(self.number)

    def __len__(self) -> int:
        return sum(len(boxes) for _, boxes in self.images)

    def crops(self, skip: Skip) -> Iterator[tuple[int, Crop]]:
        """Class and crop of every box; what cannot be read or cropped is skipped."""
        for file, boxes in self.images:
            try:
                image = open_rgb(read_raw(file))
            except Unreadable as error:
                for number in boxes.numbers.tolist():
                    skip(f"{file.where}, annotation {number}: {error}")
                continue
            for number, class_id, box in zip(
                boxes.numbers.tolist(), boxes.classes.tolist(), boxes.boxes, strict=True
            ):
                try:
                    yield class_id, (number, _cut(image, box))
                except Unreadable as error:
                    skip(f"{file.where}, annotation {number}: {error}")

    def write(self, folder: Path) -> Written:
        """Write the shard: where the crops of each class start, then the crops."""
        skipped: list[str] = []
        crops = sorted(self.crops(skipped.append))
        lengths = np.zeros(self.class_count + 1, dtype=np.int64)
        for class_id, (_, image) in crops:
            lengths[class_id + 1] += HEADER.size + len(image)
        starts = (8 * len(lengths) + np.cumsum(lengths)).astype("<i8")
        path = folder / self.file
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(starts.tobytes())
            for _, (number, image) in crops:
                file.write(HEADER.pack(number, len(image)) + image)
        return Written(self.file, 0, path.stat().st_size, tuple(skipped))


def shard_file(number: int) -> str:
    """The name of a shard in the folder of its source."""
    return f"{PARTS}/{number}.crops"


def _cut(image: Image.Image, box: npt.NDArray[np.float64]) -> bytes:
    left, upper, right, lower = crop_box(box, image.width, image.height)
    if right <= left or lower <= upper:
        raise Unreadable(f"its box {box.tolist()} holds no pixel")
    try:
        return encode(image.crop((left, upper, right, lower)))
    except UNREADABLE as error:
        raise Unreadable(str(error)) from error


@dataclass(frozen=True)
class Crops:
    """The crops of one class, merged from shards.

    Attributes:
        class_id: of the class.
        count: of its annotations.
        digest: changes with any annotation of the source.
        shards: how many there are.
        folder: of the source's records.
    """

    class_id: int
    count: int
    digest: str
    shards: int
    folder: Path

    def __len__(self) -> int:
        return self.count

    def encoded(self, skip: Skip) -> Iterator[bytes]:
        """See `ClassImages`; in the order of the annotations. Skipped ones are not in shards."""
        shards = (self._read(self.folder / shard_file(k)) for k in range(self.shards))
        for _, image in heapq.merge(*shards):
            yield image

    def _read(self, path: Path) -> Iterator[Crop]:
        with path.open("rb", buffering=0) as file:
            handle = file.fileno()
            start, stop = struct.unpack("<2q", os.pread(handle, 16, 8 * self.class_id))
            file.seek(start)
            with io.BufferedReader(file, BUFFER) as stream:
                while start < stop:
                    number, length = HEADER.unpack(stream.read(HEADER.size))
                    yield number, stream.read(length)
                    start += HEADER.size + length

    def describe(self) -> str:
        """See `ClassImages`."""
        return f"{self.class_id} {self.count} {self.digest}"
