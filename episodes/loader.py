"""Streams of images: labelled images to train on, and batches in a given order."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from episodes.faults import InputError
from episodes.plan import Integers
from episodes.protocol import Split
from episodes.reader import ImageReader


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Every image of one split of one source, with its class: what a classifier trains on.

    Args:
        records, source, split, size: as for `ImageReader`.

    Raises:
        InputError: the source is missing or broken, or the split is empty.
    """

    def __init__(
        self, records: str | Path, source: str, split: Split | str = Split.TRAIN, size: int = 84
    ) -> None:
        self.images = ImageReader(records, source, split, size)
        spec = self.images.spec
        self.class_ids = spec.split_classes[self.images.split]
        self._stops = np.cumsum(spec.images_in_split(self.images.split))
        if len(self) == 0:
            raise InputError(
                f"the {self.images.split} split is empty.",
                spec.folder,
                "traffic_sign and mscoco have no training classes: train on another source.",
            )

    @property
    def num_classes(self) -> int:
        """Classes in the split; labels are 0 to num_classes − 1."""
        return len(self.class_ids)

    def __len__(self) -> int:
        return int(self._stops[-1]) if len(self._stops) else 0

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Image number `index` of the split, float32 [3, size, size] in [−1, 1], and its label.

        Raises:
            InputError: the file is missing or damaged, or the image does not decode.
        """
        label = int(np.searchsorted(self._stops, index, side="right"))
        first = int(self._stops[label - 1]) if label else 0
        class_id = np.asarray([self.class_ids.start + label])
        return self.images.read(class_id, np.asarray([index - first]))[0], label


class _Batches(Dataset[Tensor | InputError]):
    def __init__(self, images: ImageReader, class_ids: Integers, numbers: Integers, size: int):
        self.images, self.class_ids, self.numbers, self.size = images, class_ids, numbers, size

    def __len__(self) -> int:
        return -(-len(self.numbers) // self.size)

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
