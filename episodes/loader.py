"""Streams of images: labelled images to train on, and batches in a given order."""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from episodes.faults import InputError
from episodes.plan import Integers
from episodes.protocol import Split
from episodes.reader import ImageReader


class LabelledImages:
    """Every image of one split of one source, with its class: what a classifier trains on.

    Images are numbered through the split: class after class, in the order of their files.

    Args:
        records, source, split, size, rule, packs: as for `ImageReader`.

    Attributes:
        reader: where the images are read.

    Raises:
        InputError: the source is missing or broken, or the split is empty.
    """

    def __init__(
        self,
        records: str | Path,
        source: str,
        split: Split | str = Split.TRAIN,
        size: int = 84,
        rule: str = "official",
        packs: str | Path | None = None,
    ) -> None:
        self.reader = ImageReader(records, source, split, size, rule, packs)
        spec = self.reader.spec
        self._first_class = spec.split_classes[self.reader.split].start
        self._stops = np.cumsum(spec.images_in_split(self.reader.split), dtype=np.int64)
        if len(self) == 0:
            raise InputError(
                f"the {self.reader.split} split is empty.",
                spec.folder,
                "traffic_sign and mscoco have no training classes: train on another source.",
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label."""
        spec = self.reader.spec
        ids = spec.split_classes[self.reader.split]
        return spec.class_names[ids.start : ids.stop]

    def __len__(self) -> int:
        return int(self._stops[-1]) if len(self._stops) else 0

    def labels(self, images: Integers) -> Integers:
        """[n] labels, 0 to the number of classes − 1, of images by their number."""
        return np.searchsorted(self._stops, images, side="right")

    def locate(self, images: Integers) -> tuple[Integers, Integers]:
        """[n] class ids and [n] numbers in their class, as `load_batches` takes them."""
        labels = self.labels(images)
        starts = np.concatenate([[0], self._stops])[labels]
        return labels + self._first_class, images - starts

    def order(self, seed: int, epoch: int) -> Integers:
        """A permutation of all images: a function of source, seed and epoch alone."""
        spec, split = self.reader.spec, self.reader.split
        return stream_generator(spec.name, split.value, seed, epoch).permutation(len(self))


def stream_generator(*key: object) -> np.random.Generator:
    """The generator of a training stream, a function of its key alone."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    entropy = int.from_bytes(digest, "little")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


class _Batches(Dataset[Tensor | InputError]):
    def __init__(self, images: ImageReader, class_ids: Integers, numbers: Integers, size: int):
        self.images, self.class_ids, self.numbers, self.size = images, class_ids, numbers, size

    def __len__(self) -> int:
        return math.ceil(len(self.numbers) / self.size)

    def __getitem__(self, index: int) -> Tensor | InputError:
        part = slice(index * self.size, (index + 1) * self.size)
        try:
            return self.images.read(self.class_ids[part], self.numbers[part])
        except InputError as error:
            return error  # raised again by the main process, without a worker's traceback


def load_batches(
    images: ImageReader, class_ids: Integers, numbers: Integers, batch_size: int, workers: int = 0
) -> Iterator[Tensor]:
    """The given images in order, in batches; the last one may be short.

    Args:
        images: where they are read.
        class_ids, numbers: [n] class id of each image and its number in the class's file.
        batch_size: images per batch.
        workers: processes that read ahead; 0 reads in this one. The batches are the same.

    Yields:
        float32 [batch, 3, size, size] in [−1, 1].

    Raises:
        InputError: a file is missing or damaged, or an image does not decode.
    """
    batches = _Batches(images, class_ids, numbers, batch_size)
    loader = DataLoader(batches, batch_size=None, num_workers=min(workers, len(batches)))
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch
