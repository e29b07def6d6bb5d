"""Many episodes in one tensor program: padded to one size, and masked.

A head on frozen features is written once, for E episodes at a time; one episode is a batch of
one. Its text reads like the paper's formula, with a leading dimension:

    def fit_episodes(self, support):
        prototypes = class_means(support.features[0], support.members)    # [E, W, D]
        return lambda queries: -squared_distances(queries.features[0], prototypes)

Padded items are zero vectors that belong to no class, and padded classes have no members, so sums
over items and means of classes need no mask; where a softmax runs over the classes,
`support.only_real` masks it. Features are float64 here (see `geometry.py`), unless a head says
otherwise, and no operation mixes episodes: predictions do not depend on which share a batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, overload

import torch
from torch import Tensor
from torch.nn import functional

from fewshot.heads.base import Features, Head, Predictor, check_support
from fewshot.heads.geometry import softmax

SELECTION = "selection"
"""What a head over K extractors calls how much each counts for it: `[E, K]`, summing to 1."""
PADDING = 1.5
"""A batch is at most this much larger than its episodes: beyond, padding costs more than it
saves."""


@dataclass(frozen=True)
class Support:
    """The labelled features of E episodes.

    Attributes:
        features: K tensors `[E, N, D_k]` in the head's precision; padded items are zero. Those of
            several extractors are made when asked for, see `InTurn`.
        members: `[E, N, W]` in the same, one-hot; a padded item is a row of zeros.
        generators: one per episode, on the CPU; the only source of randomness.
        told: what the head tells of itself beside the scores, by name, a row `[E, …]` per
            episode: a head fills it while it learns, and results keep it (`SELECTION` is drawn).
    """

    features: Sequence[Tensor]
    members: Tensor
    generators: Sequence[torch.Generator]
    told: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def shots(self) -> Tensor:
        """`[E, W]` items of each class; 0 for a padded class."""
        return self.members.sum(dim=1)

    @cached_property
    def missing(self) -> Tensor | None:
        """bool `[E, 1, W]`: which classes are padding; None if none is, which saves a step."""
        padding = self.shots == 0
        return padding[:, None] if padding.any() else None

    @cached_property
    def items(self) -> Tensor:
        """bool `[E, N]`: which items are real."""
        return self.members.any(dim=2)

    @cached_property
    def shares(self) -> Tensor:
        """`[E, N, 1]`: 1 / N for a real item, 0 for a padded one."""
        items = self.items.to(self.members.dtype)  # else a quotient of whole numbers is float32
        return (items / items.sum(dim=1, keepdim=True))[..., None]

    @cached_property
    def ways(self) -> Tensor:
        """`[E]` classes of each episode."""
        return (self.shots > 0).sum(dim=1)

    @cached_property
    def labels(self) -> Tensor:
        """int64 `[E, N]`; 0 for a padded item."""
        return self.members.argmax(dim=2)

    def unpadded(self) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        """Each episode by itself: its K features `[n, D_k]`, and its members `[n, way]`."""
        features = tuple(self.features)
        for e, (count, way) in enumerate(zip(self.items.sum(1).tolist(), self.ways, strict=True)):
            yield tuple(part[e, :count] for part in features), self.members[e, :count, :way]

    def only_real(self, scores: Tensor) -> Tensor:
        """Scores `[E, ?, W]` with −∞ for padded classes, so that a softmax gives them nothing."""
        return scores if self.missing is None else scores.masked_fill(self.missing, -torch.inf)

    def score_gradient(self, scores: Tensor) -> Tensor:
        """The gradient of each episode's mean cross-entropy for its scores `[E, N, W]`.

        It is softmax - one-hot, by N; 0 for a padded item or class.
        """
        return (softmax(self.only_real(scores)) - self.members) * self.shares


class Queries(NamedTuple):
    """The query features of E episodes."""

    features: Sequence[Tensor]  # K tensors float64 [E, Q, D_k]; padded items are zero
    items: Tensor  # bool [E, Q]: which items are real

    def unpadded(self) -> Iterator[tuple[Tensor, ...]]:
        """Each episode by itself: its K features `[q, D_k]`."""
        features = tuple(self.features)
        for e, count in enumerate(self.items.sum(dim=1).tolist()):
            yield tuple(part[e, :count] for part in features)


EpisodePredictor = Callable[[Queries], Tensor]
"""From queries to scores float64 `[E, Q, W]`; those of padded queries and classes are not read."""


class Episode(NamedTuple):
    """One episode as features: what a head is given."""

    support: Features  # K tensors [N, D_k]
    labels: Tensor  # [N] in 0..way-1
    way: int
    query: Features  # K tensors [Q, D_k]
    generator: torch.Generator

    @property
    def size(self) -> "Size":
        """How large it is."""
        dims = tuple(features.shape[1] for features in self.support)
        return Size(len(self.labels), len(self.query[0]), self.way, dims)


class Size(NamedTuple):
    """How large an episode is: what memory and padding depend on."""

    support: int
    query: int
    way: int
    dims: tuple[int, ...]

    def cover(self, other: "Size") -> "Size":
        """The smallest size that holds both."""
        support, query = max(self.support, other.support), max(self.query, other.query)
        return Size(support, query, max(self.way, other.way), self.dims)

    @property
    def items(self) -> int:
        """Support and query items."""
        return self.support + self.query


@dataclass(frozen=True)
class EpisodeHead(Head):
    """A head on frozen features, written for many episodes at once; see the module's text."""

    def precision(self, support: Features) -> torch.dtype:
        """What it computes in, given such features: float64 whatever they are.

        A head that answers otherwise must treat every episode by itself, without padding, or what
        shares its batch would decide the last bits.
        """
        return torch.float64

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        """Learn each of E episodes from its support features.

        Called without gradients; nothing may be drawn but from `support.generators`.
        """
        raise NotImplementedError

    def numbers(self, size: Size) -> int:
        """About how many float64 numbers are held at a time for one episode of this size."""
        return 4 * size.items * (sum(size.dims) + len(size.dims) * size.way)

    def fit(
        self, support: Features, labels: Tensor, way: int, generator: torch.Generator
    ) -> Predictor:
        check_support(support, labels, way, self)
        with torch.inference_mode(False), torch.no_grad():
            episode = Episode(support, labels, way, (), generator)
            dtype = self.precision(support)
            predict = self.fit_episodes(gather_support([episode], dtype))

        def predict_one(query: Features) -> Tensor:
            with torch.inference_mode(False), torch.no_grad():
                scores = predict(gather_queries([query], dtype))[0, :, :way]
                return rounded(scores, query[0].dtype)

        return predict_one


Told = Mapping[str, Sequence[float]]
"""What a head tells of one episode, by name."""


def score_batch(head: EpisodeHead, episodes: Sequence[Episode]) -> list[Tensor]:
    """Scores `[Q, way]` of each episode, all computed at once."""
    return [scores for scores, _ in score_and_tell(head, episodes)]


def score_and_tell(head: EpisodeHead, episodes: Sequence[Episode]) -> list[tuple[Tensor, Told]]:
    """Scores `[Q, way]` of each episode, and what the head tells of it."""
    for episode in episodes:
        check_support(episode.support, episode.labels, episode.way, head)
    with torch.inference_mode(False), torch.no_grad():
        dtype = head.precision(episodes[0].support)
        support = gather_support(episodes, dtype)
        predict = head.fit_episodes(support)
        scores = predict(gather_queries([episode.query for episode in episodes], dtype))
        told = {name: values.flatten(1).tolist() for name, values in support.told.items()}
        return [
            (
                rounded(scores[e, : len(episode.query[0]), : episode.way], episode.query[0].dtype),
                {name: values[e] for name, values in told.items()},
            )
            for e, episode in enumerate(episodes)
        ]


def batches(head: EpisodeHead, sizes: Sequence[Size], max_bytes: int) -> Iterator[list[int]]:
    """Positions of episodes that are computed together: of similar sizes, within the memory.

    An episode that exceeds the memory by itself is a batch of its own.
    """
    batch: list[int] = []
    for position in sorted(range(len(sizes)), key=lambda position: sizes[position]):
        grown = [*batch, position]
        covering = sizes[grown[0]]
        for member in grown:
            covering = covering.cover(sizes[member])
        padded = len(grown) * head.numbers(covering)
        if batch and (
            8 * padded > max_bytes
            or padded > PADDING * sum(head.numbers(sizes[member]) for member in grown)
        ):
            yield batch
            grown = [position]
        batch = grown
    if batch:
        yield batch


def rounded(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Scores in the dtype of the features, those beyond its range at its ends."""
    limits = torch.finfo(dtype)
    return scores.clamp(limits.min, limits.max).to(dtype)


def padded(parts: Sequence[Tensor], dims: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Parts that differ in their first dimensions as one tensor, zero where they end."""
    longest = [max(part.shape[d] for part in parts) for d in range(dims)]
    shape = (len(parts), *longest, *parts[0].shape[dims:])
    even = all(part.shape == parts[0].shape for part in parts)
    whole = (
        parts[0].new_empty(shape, dtype=dtype) if even else parts[0].new_zeros(shape, dtype=dtype)
    )
    for row, part in zip(whole, parts, strict=True):
        row[tuple(slice(length) for length in part.shape[:dims])] = part
    return whole


class InTurn(Sequence[Tensor]):
    """The features of several extractors, one extractor in memory at a time.

    Each is padded and converted whenever it is asked for: a head that goes through the extractors
    once works in the processor's cache, and needs the memory of one.

    Args:
        extractors: per extractor, the features `[n, D_k]` of each episode.
        dtype: to convert to.
    """

    def __init__(self, extractors: Sequence[Sequence[Tensor]], dtype: torch.dtype) -> None:
        self.extractors, self.dtype = extractors, dtype

    def __len__(self) -> int:
        return len(self.extractors)

    @overload
    def __getitem__(self, k: int) -> Tensor: ...

    @overload
    def __getitem__(self, k: slice) -> "InTurn": ...

    def __getitem__(self, k: int | slice) -> "Tensor | InTurn":
        if isinstance(k, slice):
            return InTurn(self.extractors[k], self.dtype)
        return padded(self.extractors[k], dtype=self.dtype)


def gather_features(episodes: Sequence[Features], dtype: torch.dtype) -> Sequence[Tensor]:
    """The features of episodes as K tensors `[E, n, D_k]`, padded."""
    extractors = InTurn(list(zip(*episodes, strict=True)), dtype)
    return extractors if len(extractors) > 1 else tuple(extractors)


def gather_support(episodes: Sequence[Episode], dtype: torch.dtype = torch.float64) -> Support:
    """The support sets of episodes as one, padded."""
    widest = max(episode.way for episode in episodes)
    members = [functional.one_hot(episode.labels.long(), widest) for episode in episodes]
    return Support(
        gather_features([episode.support for episode in episodes], dtype),
        padded(members, dtype=dtype),
        [episode.generator for episode in episodes],
    )


def gather_queries(queries: Sequence[Features], dtype: torch.dtype = torch.float64) -> Queries:
    """The queries of episodes as one, padded."""
    counts = [torch.ones(len(query[0]), device=query[0].device) for query in queries]
    return Queries(gather_features(queries, dtype), padded(counts).bool())
