"""Labelled images by number, and workers that read batches ahead."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
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
        self._chosen: Integers | None = None
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
        if self._chosen is not None:
            return len(self._chosen)
        return int(self._stops[-1]) if len(self._stops) else 0

    def labels(self, images: Integers) -> Integers:
        """[n] labels, 0 to the number of classes − 1, of images by their number."""
        return np.searchsorted(self._stops, self._places(images), side="right")

    def locate(self, images: Integers) -> tuple[Integers, Integers]:
        """[n] class ids and [n] numbers in their class, as `load_batches` takes them."""
        labels = self.labels(images)
        starts = np.concatenate([[0], self._stops])[labels]
        return labels + self._first_class, self._places(images) - starts

    def _places(self, images: Integers) -> Integers:
        """[n] places in the whole split."""
        return images if self._chosen is None else self._chosen[images]

    def hold_out(self, share: float, seed: int) -> tuple["LabelledImages", "LabelledImages"]:
        """Part the images of every class in two: to train on, and to measure on.

        Which images are held out is a function of (source, split, seed); of a class with two
        images or more at least one is, and at least one is not.

        Args:
            share: of each class to hold out, above 0 and below 1.
            seed: another seed holds out others.

        Returns:
            What is left, and what is held out; both with all classes and the same labels.

        Raises:
            InputError: the share is impossible, or every class has a single image.
        """
        if not 0 < share < 1:
            raise InputError(f"a share of {share} cannot be held out.", remedy="Give 0.05, say.")
        spec, split = self.reader.spec, self.reader.split
        drawn = stream_generator("held out", spec.name, split.value, seed).random(len(self))
        held = np.zeros(len(self), dtype=bool)
        labels = self.labels(np.arange(len(self)))
        bounds = np.searchsorted(labels, np.arange(len(self.class_names) + 1))
        for first, last in pairwise(bounds):
            members = np.arange(first, last)
            count = min(max(1, round(share * len(members))), len(members) - 1)
            held[members[np.argsort(drawn[members], kind="stable")[: max(0, count)]]] = True
        if not held.any():
            what = "no class has two images: none can be held out."
            raise InputError(what, f"source {spec.name}", "Leave --held-out out.")
        places = self._places(np.arange(len(self)))
        parts = copy(self), copy(self)
        parts[0]._chosen, parts[1]._chosen = places[~held], places[held]
        return parts

    def order(self, seed: int, epoch: int) -> Integers:
        """A permutation of all images: a function of source, seed and epoch alone."""
        spec, split = self.reader.spec, self.reader.split
        return stream_generator(spec.name, split.value, seed, epoch).permutation(len(self))


def stream_seed(*key: object) -> int:
    """256 bits that seed a training stream, a function of its key alone."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, key)).encode()).digest(), "little")


def stream_generator(*key: object) -> np.random.Generator:
    """The generator of a training stream, a function of its key alone."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(stream_seed(*key))))


Item = TypeVar("Item")


class _Work(Dataset[Any]):
    """Tasks by themselves instead of by number: a task holds all that its result depends on."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __getitem__(self, task: tuple[Any, ...]) -> Any:
        try:
            return self.function(*task)
        except InputError as error:
            return error  # raised again by the main process, without a worker's traceback


def prefetch(
    function: Callable[..., Item], tasks: Iterable[tuple[Any, ...]], workers: int = 0
) -> Iterator[Item]:
    """The result of every task, in order, worked out ahead by other processes.

    Args:
        function: called with the parts of each task; its results must not depend on the process.
        tasks: may have no end; drawn in this process, as far ahead as the workers work.
        workers: processes; 0 works in this one, when asked. The results are the same.

    Raises:
        InputError: raised by a task, or a process died, killed for its memory for example.
    """
    if workers == 0:
        for task in tasks:
            yield function(*task)
        return
    # A generator of its own: the loader draws from torch's global one otherwise.
    generator = torch.Generator()
    loader: DataLoader[Any] = DataLoader(
        _Work(function), None, sampler=tasks, num_workers=workers, generator=generator
    )
    items = iter(loader)
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            what = "a working process died."
            raise InputError(what, remedy="Free memory, or use fewer --workers.") from error
        if isinstance(item, InputError):
            raise item
        yield item


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
    starts = range(0, len(numbers), batch_size)
    parts = [slice(start, start + batch_size) for start in starts]
    tasks = [(class_ids[part], numbers[part]) for part in parts]
    return prefetch(images.read, tasks, min(workers, len(tasks)))
