"""What a training learns from, step by step: labelled images of each source, or episodes.

A lesson is what one process learns from at one step. Lessons are a function of the seed and of the
number of the step; a lesson has parts, whose gradients are added up.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from episodes.faults import InputError
from episodes.mixing import find_mixing
from episodes.mixture import EpisodeStream
from episodes.reader import Episode
from episodes.streams import JointStream, LabelledBatch
from fewshot.training.recipe import Recipe

Item = TypeVar("Item")

STEPS_BETWEEN_VALIDATIONS = 500
"""Of a training on episodes, which passes over nothing. Source: the benchmark's trainer."""


class Lessons(Generic[Item]):
    """The lessons of one process.

    Attributes:
        parts: of each lesson.
        period: steps that count as one pass over the data.
        image_size: side of the images, in pixels.
        remedy: what to do if a part does not fit into memory.
    """

    parts: int
    period: int
    image_size: int
    remedy: str

    def lessons(self, first: int, stop: int, workers: int) -> Iterator[list[Item]]:
        """The lessons of the steps `first` to `stop` − 1.

        Raises:
            InputError: an image cannot be read, or a working process died.
        """
        raise NotImplementedError

    def part(self, lesson: Sequence[Item], number: int, device: torch.device) -> tuple[Any, ...]:
        """What the objective's forward pass takes of a part of a lesson."""
        raise NotImplementedError

    def images(self, lesson: Sequence[Item]) -> int:
        """Images in a lesson."""
        raise NotImplementedError

    def facts(self) -> list[object]:
        """What the lessons are a function of, as values that JSON keeps."""
        raise NotImplementedError


class LabelledLessons(Lessons[LabelledBatch]):
    """A batch of labelled images of every source.

    Args:
        stream: of this process.
        recipe: says how batches are mixed and parted.
    """

    remedy = (
        "Raise --accumulate, which changes only how batch norm groups the images, or lower "
        "--batch-size."
    )

    def __init__(self, stream: JointStream, recipe: Recipe) -> None:
        self.stream, self.parts = stream, recipe.accumulate
        first = stream.streams[0]
        self.period, self.image_size = first.batches_per_epoch, first.images.reader.size
        classes = sum(len(one.images.class_names) for one in stream.streams)
        self.mixing = find_mixing(recipe.mix, classes)

    def lessons(self, first: int, stop: int, workers: int) -> Iterator[list[LabelledBatch]]:
        self.stream.step = first
        yield from self.stream.batches(workers, stop)

    def part(
        self, lesson: Sequence[LabelledBatch], number: int, device: torch.device
    ) -> tuple[Tensor, Tensor, list[int]]:
        """Images, labels, and how many of them are of each source."""
        pieces = [_slice_of(batch, number, self.parts) for batch in lesson]
        sizes = [len(labels) for _, labels in pieces]
        images, labels = (
            torch.cat(some) if len(some) > 1 else some[0] for some in zip(*pieces, strict=True)
        )
        images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
        labels = labels.to(device, non_blocking=True)
        if self.mixing is not None:
            images, labels = self.mixing(images, labels)
        return images, labels, sizes

    def images(self, lesson: Sequence[LabelledBatch]) -> int:
        return sum(len(batch.labels) for batch in lesson)

    def facts(self) -> list[object]:
        names = [list(stream.images.class_names) for stream in self.stream.streams]
        return [self.stream.facts(), *names]


def _slice_of(batch: LabelledBatch, part: int, parts: int) -> tuple[Tensor, Tensor]:
    size = len(batch.labels) // parts
    own = slice(part * size, (part + 1) * size)
    return batch.images[own], batch.labels[own]


class EpisodeLessons(Lessons[Episode]):
    """Episodes, each a part by itself: their losses are averaged.

    Args:
        stream: of this process.
        recipe: says how many episodes make a step, over all processes.

    Raises:
        InputError: the episodes of a step do not part among the processes.
    """

    period = STEPS_BETWEEN_VALIDATIONS
    remedy = "Choose a smaller --image-size, or a protocol with smaller episodes."

    def __init__(self, stream: EpisodeStream, recipe: Recipe) -> None:
        ranks = stream.shard.ranks
        if recipe.episodes_per_step % ranks:
            raise InputError(
                f"{recipe.episodes_per_step} episodes a step do not part among {ranks} processes.",
                "--episodes-per-step",
                f"Take a multiple of {ranks}.",
            )
        self.stream, self.per_step = stream, recipe.episodes_per_step
        self.parts = recipe.episodes_per_step // ranks
        self.image_size = stream.mixture.readers[0].images.size

    def lessons(self, first: int, stop: int, workers: int) -> Iterator[list[Episode]]:
        self.stream.next = first * self.per_step
        episodes = self.stream.episodes(workers, stop * self.per_step)
        for _ in range(first, stop):
            yield list(islice(episodes, self.parts))

    def part(
        self, lesson: Sequence[Episode], number: int, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
        """Support images and labels, query images and labels, and the number of ways."""
        one = lesson[number]
        support, query = (
            images.to(device, memory_format=torch.channels_last, non_blocking=True)
            for images in (one.support_images, one.query_images)
        )
        labels, truth = (
            some.to(device, non_blocking=True) for some in (one.support_labels, one.query_labels)
        )
        return support, labels, query, truth, one.way

    def images(self, lesson: Sequence[Episode]) -> int:
        return sum(len(one.support_images) + len(one.query_images) for one in lesson)

    def facts(self) -> list[object]:
        return [self.stream.mixture.facts(), self.per_step]
