"""A piece of work: small enough to be done again, large enough to be worth a message."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from episodes import EpisodePlan
from fewshot.evaluation import Entry, Progress
from fewshot.features import BATCH_SIZE, FeatureStore
from fewshot.results import EpisodeRow
from fewshot.work.bench import Bench

EPISODES = 25
"""Episodes that heads on features are given at a time, at most: as many as share a window."""
IMAGES = 8 * BATCH_SIZE
"""Images that are embedded at a time, at most."""
SHARES = 8
"""Pieces for each worker, at least: so that none waits long for the last."""

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Embedding:
    """Images of a source to embed.

    Attributes:
        source: its name.
        places: of the images among all of the split, sorted.
    """

    source: str
    places: tuple[int, ...]

    def work(self, bench: Bench, tell: Progress) -> Iterator[list[EpisodeRow]]:
        """Embed the images; there are no rows."""
        store = bench.evaluation(self.source).store
        store.embed_images(np.array(self.places), tell)
        yield from ()

    def halves(self) -> "list[Embedding]":
        """The same work in two pieces; in one where there is nothing to part."""
        return [Embedding(self.source, part) for part in _halved(self.places)]


@dataclass(frozen=True)
class Scoring:
    """Entries to evaluate on episodes of a source.

    Attributes:
        source: its name.
        labels: of the entries.
        indices: numbers of the episodes.
        stored: labels and numbers of the rows that are there already.
        on_features: whether an entry works on features, which should be there first.
    """

    source: str
    labels: tuple[str, ...]
    indices: tuple[int, ...]
    stored: frozenset[tuple[str, int]] = frozenset()
    on_features: bool = True

    def work(self, bench: Bench, tell: Progress) -> Iterator[list[EpisodeRow]]:
        """The rows that are not there yet, as soon as they are known."""

        def done(label: str, plan: EpisodePlan) -> bool:
            return label not in self.labels or (label, plan.index) in self.stored

        yield from bench.evaluation(self.source).rows(self.indices, done, tell)

    def halves(self) -> "list[Scoring]":
        """The same work in two pieces; in one where there is a single row to make."""
        one = len(self.indices) == 1
        return [
            Scoring(self.source, labels, indices, self.stored, self.on_features)
            for labels in (_halved(self.labels) if one else [self.labels])
            for indices in _halved(self.indices)
        ]


Piece = Embedding | Scoring


def _halved(things: tuple[Thing, ...]) -> list[tuple[Thing, ...]]:
    middle = (len(things) + 1) // 2
    return [part for part in (things[:middle], things[middle:]) if part]


def divide(
    plans: Sequence[EpisodePlan],
    entries: Sequence[Entry],
    stored: Mapping[str, Mapping[int, str]],
    features: FeatureStore,
    workers: int,
) -> list[Piece]:
    """What is left to do on one source, in pieces, in the order in which to begin them.

    Heads that share features are given the same episodes together, so that each is read once;
    one that tunes the backbone gets one episode at a time. Images are embedded first, and each by
    one worker, however many episodes use it.

    Args:
        plans: the episodes.
        entries: all of them.
        stored: by label, numbers of the episodes with a row.
        features: says which images have none yet.
        workers: how many there are; one is given everything at once.
    """
    left = {
        entry: [plan for plan in plans if plan.index not in stored[entry.label]]
        for entry in entries
    }
    frozen = [e.label for e in entries if not e.head.adapts_backbone and left[e]]
    tuned = [e for e in entries if e.head.adapts_backbone and left[e]]

    def scoring(labels: Sequence[str], some: Sequence[EpisodePlan], on_features: bool) -> Scoring:
        indices = tuple(plan.index for plan in some)
        rows = frozenset((label, i) for label in labels for i in indices if i in stored[label])
        return Scoring(plans[0].source, tuple(labels), indices, rows, on_features)

    def unfinished(labels: Sequence[str]) -> list[EpisodePlan]:
        return [plan for plan in plans if any(plan.index not in stored[label] for label in labels)]

    if workers == 1:
        labels = [entry.label for entry in entries if left[entry]]
        return [scoring(labels, unfinished(labels), bool(frozen))] if labels else []
    unscored = unfinished(frozen)
    images = features.missing(unscored).tolist()
    most = max(1, len(images) // (BATCH_SIZE * SHARES * workers))
    batch = BATCH_SIZE * min(IMAGES // BATCH_SIZE, most)
    size = max(1, min(EPISODES, len(unscored) // (SHARES * workers)))
    return [
        *(Embedding(features.images.spec.name, tuple(part)) for part in chunks(images, batch)),
        *(scoring(frozen, some, True) for some in chunks(unscored, size)),
        *(scoring([entry.label], [plan], False) for entry in tuned for plan in left[entry]),
    ]


def chunks(things: Sequence[Thing], size: int) -> Iterator[Sequence[Thing]]:
    """Things in order, so many at a time."""
    return (things[start : start + size] for start in range(0, len(things), size))
