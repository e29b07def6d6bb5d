"""Episodes of several sources in one stream: which source comes next is drawn by key."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from episodes.faults import InputError
from episodes.loader import prefetch, stream_generator
from episodes.plan import EpisodePlan
from episodes.reader import Episode, EpisodeReader
from episodes.streams import WHOLE, Shard, State, take_up


class EpisodeMixture:
    """The endless list of episodes of several sources.

    Episode n is episode n of a source that is drawn with a generator keyed by (seed, n), so it
    does not depend on which other episodes are read. Of each source only some numbers occur.

    Args:
        readers: the sources, each with its split, protocol and seed.
        weights: how often each source is drawn, up to a factor; None draws all alike.
        seed: of the draws of sources.

    Raises:
        InputError: there is no reader, or the weights do not fit.
    """

    def __init__(
        self,
        readers: Sequence[EpisodeReader],
        weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        if not readers:
            raise InputError("a mixture of no sources.", remedy="Name at least one.")
        weights = [1.0] * len(readers) if weights is None else list(weights)
        if len(weights) != len(readers):
            raise InputError(f"{len(weights)} weights for {len(readers)} sources.")
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise InputError(
                f"the weights {weights} are not shares.",
                remedy="Give numbers from 0, and at least one above.",
            )
        self.readers, self.seed = tuple(readers), seed
        bounds = np.cumsum(weights, dtype=np.float64)
        self._bounds = bounds / bounds[-1]

    def reader(self, index: int) -> EpisodeReader:
        """Whose episode number `index` is."""
        if index < 0:
            raise IndexError(f"episode {index}: episodes are numbered from 0")
        drawn = stream_generator("mixture", self.seed, index).random()
        return self.readers[int(np.searchsorted(self._bounds, drawn, side="right"))]

    def plan(self, index: int) -> EpisodePlan:
        """Episode number `index` without its pixels."""
        return self.reader(index).plan(index)

    def __getitem__(self, index: int) -> Episode:
        """Episode number `index`; the list has no end."""
        return self.reader(index)[index]

    def facts(self) -> State:
        """What the episodes are a function of, as values that JSON keeps."""
        return {
            "sources": [
                [
                    reader.images.spec.name,
                    reader.images.split.value,
                    reader.sampler.protocol.hash,
                    reader.seed,
                    reader.images.size,
                    reader.images.rule,
                ]
                for reader in self.readers
            ],
            "bounds": self._bounds.tolist(),
            "seed": self.seed,
        }


class EpisodeStream:
    """The episodes of a mixture one after the other, shared by several processes.

    Rank r of R is given the episodes r, r + R, r + 2R, …: each is given once over all ranks.

    Args:
        mixture: of one source or several.
        shard: the part of this process.

    Attributes:
        next: number of the episode of rank 0 that is given next, with those of the other ranks
            behind it.
    """

    def __init__(self, mixture: EpisodeMixture, shard: Shard = WHOLE) -> None:
        self.mixture, self.shard = mixture, shard
        self.next = 0

    def episodes(self, workers: int = 0, stop: int | None = None) -> Iterator[Episode]:
        """The episodes from the position on; the position moves on with each.

        Args:
            workers: processes that read ahead. The episodes are the same.
            stop: number of the first episode that no rank is given; None goes on without end.

        Raises:
            InputError: an image cannot be read, or a working process died.
        """
        tasks = self._tasks(stop)
        for episode in prefetch(self.mixture.__getitem__, tasks, workers):
            self.next += self.shard.ranks
            yield episode

    def _tasks(self, stop: int | None) -> Iterator[tuple[int]]:
        index = self.next + self.shard.rank
        while stop is None or index < stop:
            yield (index,)
            index += self.shard.ranks

    def state(self) -> State:
        """The position after the last episode that was given.

        It is the same on all ranks that were given as many, and may be taken up by another
        number of ranks.
        """
        return self.mixture.facts() | {"episode": self.next}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            InputError: the state is of another mixture, or is none.
        """
        (self.next,) = take_up(state, self.mixture.facts(), "episode")
