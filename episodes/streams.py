"""Endless streams to train on: cut into shards, stopped anywhere and taken up again.

What a stream gives at a position is a function of its settings and that position. So a saved
position, a few plain values, is all that a stopped training needs of it; workers, batches that
were read ahead, and the number of processes that share the stream change nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from episodes.augmentation import Augmentation
from episodes.faults import InputError, unknown_name
from episodes.loader import LabelledImages, prefetch, stream_seed
from episodes.plan import Integers

State = dict[str, Any]
"""A position and what the stream was, as values that JSON keeps."""


@dataclass(frozen=True)
class Shard:
    """The part of a stream that one of several processes takes.

    Attributes:
        rank: of this process, from 0.
        ranks: processes in all (the world size).

    Raises:
        InputError: there is no such part.
    """

    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise InputError(
                f"there is no rank {self.rank} of {self.ranks}.",
                remedy="Ranks count from 0 to the number of processes − 1.",
            )


WHOLE = Shard()
"""All of a stream: the only process."""


def take_up(state: Mapping[str, Any], facts: State, *position: str) -> list[int]:
    """The position in a saved state, once it is known to be of this stream.

    Args:
        state: as saved.
        facts: what the stream is; a state of another stream is refused.
        position: the entries to return: whole numbers from 0.

    Raises:
        InputError: the state is of another stream, or is none.
    """
    for name, fact in facts.items():
        if name not in state or state[name] != fact:
            raise InputError(
                f"the saved position is of another stream: {name.replace('_', ' ')} is "
                f"{state.get(name, 'missing')}, not {fact}.",
                remedy="Use the settings it was saved with, or start from the beginning.",
            )
    numbers = [state.get(name) for name in position]
    if not all(type(number) is int and number >= 0 for number in numbers):
        found = ", ".join(f"{name} {state.get(name)}" for name in position)
        raise InputError(
            f"the saved position is none: {found}.", remedy="Start from the beginning."
        )
    return [int(number) for number in numbers if number is not None]


# ---- labelled images -------------------------------------------------------------------------

REMAINDERS = ("keep", "drop", "pad")
"""What happens to the images of an epoch that do not fill the last batch of every rank.

`keep`: every image once over all ranks; last batches may be short, and a rank may have one batch
less than another. `drop`: they are left out; which ones changes with the epoch. `pad`: the first
images of the epoch are given again. Under `drop` and `pad` all batches are full and all ranks
have equally many, as gradients that are averaged over ranks need it.
"""


@dataclass(frozen=True, eq=False)
class LabelledBatch:
    """Some labelled images.

    Attributes:
        images: float32 [batch, 3, size, size].
        labels: int64 [batch], 0 to the number of classes − 1.
        numbers: int64 [batch], number of each image in its `LabelledImages`.
        epoch, index: place in the stream; `index` counts the batches of one rank and epoch.
    """

    images: Tensor
    labels: Tensor
    numbers: Integers
    epoch: int
    index: int


class LabelledStream:
    """Shuffled batches of labelled images, epoch after epoch.

    An epoch's order is a function of (source, split, seed, epoch). Its k-th batches of all ranks
    together are the images k·B·R to (k + 1)·B·R of the order, with B images per batch and R
    ranks: they do not depend on how B·R is made up.

    Args:
        images: what is given.
        batch_size: images per batch of one rank.
        seed: another seed is another order and other augmentations.
        remainder: one of `REMAINDERS`.
        shard: the part of this process.
        augmentation: changes every image, by (source, split, seed, epoch, number of the image).

    Attributes:
        epoch, batch: of the batch that is given next.

    Raises:
        InputError: a setting is impossible, or some rank would never get a batch.
    """

    def __init__(
        self,
        images: LabelledImages,
        batch_size: int,
        seed: int = 0,
        remainder: str = "keep",
        shard: Shard = WHOLE,
        augmentation: Augmentation | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch size {batch_size} is not positive.")
        if remainder not in REMAINDERS:
            raise unknown_name("rule for the remainder", remainder, REMAINDERS)
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.remainder, self.shard, self.augmentation = remainder, shard, augmentation
        self.epoch = self.batch = 0
        folder = images.reader.spec.folder
        if remainder == "drop" and self.global_batch > len(images):
            ranks = f" on each of {shard.ranks} ranks" if shard.ranks > 1 else ""
            raise InputError(
                f"a batch of {batch_size}{ranks} is larger than the {len(images)} images.",
                folder,
                "Choose a smaller batch size.",
            )
        if remainder == "keep" and shard.ranks > len(images):
            raise InputError(f"{shard.ranks} ranks are more than the {len(images)} images.", folder)

    @property
    def global_batch(self) -> int:
        """Images in the batches of all ranks together."""
        return self.batch_size * self.shard.ranks

    @property
    def batches_per_epoch(self) -> int:
        """Batches that this rank is given in an epoch."""
        return -(-self._images_per_epoch // self.batch_size)

    @property
    def _images_per_epoch(self) -> int:
        whole, rest = divmod(len(self.images), self.global_batch)
        if self.remainder == "keep":
            return len(range(self.shard.rank, len(self.images), self.shard.ranks))
        return self.batch_size * (whole + (self.remainder == "pad" and rest > 0))

    def share(self, epoch: int) -> Integers:
        """Numbers of the images that this rank is given in an epoch, in order."""
        order = self.images.order(self.seed, epoch)
        if self.remainder != "keep":
            order = np.resize(order, self._images_per_epoch * self.shard.ranks)
        return order[self.shard.rank :: self.shard.ranks]

    def batches(self, workers: int = 0, epochs: int | None = None) -> Iterator[LabelledBatch]:
        """The batches from the position on; the position moves on with each.

        Args:
            workers: processes that read ahead. The batches are the same.
            epochs: stop when so many epochs are complete, counted from the beginning of the
                stream; None goes on without end.

        Raises:
            InputError: an image cannot be read, or a working process died.
        """
        for batch in prefetch(self.read, self.tasks(epochs), workers):
            self.go_to(batch.epoch, batch.index + 1)
            yield batch

    def tasks(self, epochs: int | None = None) -> Iterator[tuple[int, int, Integers]]:
        """Epoch, index and images of the batches from the position on, as `read` takes them."""
        epoch, first = self.epoch, self.batch
        while epochs is None or epoch < epochs:
            share = self.share(epoch)
            for index in range(first, self.batches_per_epoch):
                yield epoch, index, share[index * self.batch_size : (index + 1) * self.batch_size]
            epoch, first = epoch + 1, 0

    def read(self, epoch: int, index: int, numbers: Integers) -> LabelledBatch:
        """One batch, whatever the position.

        Raises:
            InputError: an image cannot be read.
        """
        reader, located = self.images.reader, self.images.locate(numbers)
        if self.augmentation is None:
            pixels = reader.read(*located)
        else:
            key = ("augmentation", reader.spec.name, reader.split.value, self.seed, epoch)
            seeds = [stream_seed(*key, number) for number in numbers.tolist()]
            pixels = self.augmentation.read(reader, *located, seeds)
        labels = torch.from_numpy(self.images.labels(numbers))
        return LabelledBatch(pixels, labels, numbers, epoch, index)

    # ---- interruption and resumption ---------------------------------------------------------

    def go_to(self, epoch: int, batch: int = 0) -> None:
        """Move to a batch of an epoch; what is behind an epoch's last is the next epoch."""
        past = batch >= self.batches_per_epoch
        self.epoch, self.batch = (epoch + 1, 0) if past else (epoch, batch)

    def state(self) -> State:
        """The position after the last batch that was given.

        It is the same on all ranks that were given as many; under `keep`, save that of rank 0,
        which has a batch more where ranks differ. It may be taken up by another number of ranks
        if their batches together hold as many images as before.
        """
        return self.facts() | {"epoch": self.epoch, "batch": self.batch}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            InputError: the state is of another stream, or is none.
        """
        self.go_to(*take_up(state, self.facts(), "epoch", "batch"))

    def facts(self) -> State:
        """What the batches are a function of, beside the position, as values that JSON keeps."""
        reader = self.images.reader
        return {
            "source": reader.spec.name,
            "split": reader.split.value,
            "images": len(self.images),
            "image_size": reader.size,
            "image_rule": reader.rule,
            "seed": self.seed,
            "global_batch": self.global_batch,
            "remainder": self.remainder,
            "augmentation": self.augmentation.name if self.augmentation else "none",
        }


# ---- several sources -------------------------------------------------------------------------


class JointStream:
    """One batch of each of several streams at every step; of a single one, that stream.

    Each source goes through its own epochs, so a small one comes round more often. Step n is
    batch n of each stream, whatever was read before.

    Args:
        streams: of full batches (`drop` or `pad`), one per source.

    Attributes:
        step: number of the batches that are given next.
    """

    def __init__(self, streams: Sequence[LabelledStream]) -> None:
        self.streams = tuple(streams)
        self.step = 0

    def batches(self, workers: int = 0, stop: int | None = None) -> Iterator[list[LabelledBatch]]:
        """The batches of all sources, step after step; the position moves on with each.

        Args:
            workers: processes that read ahead. The batches are the same.
            stop: the first step that is not given; None goes on without end.

        Raises:
            InputError: an image cannot be read, or a working process died.
        """
        for stream in self.streams:
            stream.go_to(*divmod(self.step, stream.batches_per_epoch))
        each = zip(*(stream.tasks() for stream in self.streams), strict=False)
        left = None if stop is None else max(0, stop - self.step)
        for batches in prefetch(self._read, islice(each, left), workers):
            self.step += 1
            yield batches

    def _read(self, *tasks: tuple[int, int, Integers]) -> list[LabelledBatch]:
        pairs = zip(self.streams, tasks, strict=True)
        return [stream.read(*task) for stream, task in pairs]

    def facts(self) -> list[State]:
        """What the batches are a function of, beside the position, as values that JSON keeps."""
        return [stream.facts() for stream in self.streams]
