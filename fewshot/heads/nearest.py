"""Comparing a query with every support item: nearest neighbour, and matching networks."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Queries, Size, Support
from fewshot.heads.geometry import COSINE_SCALE, class_means, cosines, squared_distances

SMALLEST_SQUARE = 1e-3
"""The benchmark divides by sqrt(max(|x|^2, this)). Source: facts on heads, section 2."""


@dataclass(frozen=True)
class NearestNeighbour(EpisodeHead):
    """A query takes the class of its nearest support item (k = 1, as everywhere in the field).

    A class scores the similarity of its nearest item: `10 cos` or `-||q - x||^2`.

    Source: the k-NN baseline of Triantafillou et al. 2020, whose best configurations use the
    cosine; the nearest-neighbour classifier of URL.
    """

    name: ClassVar[str] = "knn"
    distance: Literal["cosine", "euclidean"] = "cosine"

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        items = support.features[0]

        def predict(queries: Queries) -> Tensor:
            if self.distance == "cosine":
                return highest_of_class(COSINE_SCALE * cosines(queries.features[0], items), support)
            return highest_of_class(-squared_distances(queries.features[0], items), support)

        return predict

    def numbers(self, size: Size) -> int:
        return super().numbers(size) + 4 * size.query * size.support


@dataclass(frozen=True)
class Matching(EpisodeHead):
    """Attention over the support items, without full-context embeddings.

    * "softmax": `log p`, where p of a class is the softmax of `<q, unit(x)>` over all items,
      summed over its items: a class with more shots gets more. Source: Vinyals et al. 2016 as
      the benchmark implements it, with the raw query and no temperature.
    * "mean": `100 relu(m)` with m the mean cosine to the items of the class. Source:
      CloserLookAgainFewShot (Luo et al. 2023), which returns the softmax of these.

    Attributes:
        attention: how items are pooled.
        exact_cosine: whether the query is scaled to length 1 too, for "softmax".
    """

    name: ClassVar[str] = "matching"
    attention: Literal["softmax", "mean"] = "softmax"
    exact_cosine: bool = False

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        items = support.features[0]

        def mean(queries: Queries) -> Tensor:
            pooled = class_means(cosines(queries.features[0], items).mT, support.members).mT
            return 100 * pooled.relu()

        def softmax(queries: Queries) -> Tensor:
            query = queries.features[0]
            if self.exact_cosine:
                query = benchmark_unit(query)
            scores = query @ benchmark_unit(items).mT
            scores = scores.masked_fill(~support.items[:, None], -torch.inf)
            return log_sum_of_class(scores, support) - scores.logsumexp(dim=2, keepdim=True)

        return mean if self.attention == "mean" else softmax

    def numbers(self, size: Size) -> int:
        return super().numbers(size) + 4 * size.query * size.support


def benchmark_unit(vectors: Tensor) -> Tensor:
    """Vectors scaled to length 1 as the benchmark does, very short ones less."""
    return vectors / vectors.square().sum(-1, keepdim=True).clamp(min=SMALLEST_SQUARE).sqrt()


def highest_of_class(scores: Tensor, support: Support) -> Tensor:
    """The highest of the scores `[E, Q, N]` of each class's items: `[E, Q, W]`."""
    scores = scores.masked_fill(~support.items[:, None], -torch.inf)
    lowest = scores.new_full((*scores.shape[:2], support.members.shape[2]), -torch.inf)
    labels = support.labels[:, None].expand_as(scores)
    return lowest.scatter_reduce(2, labels, scores, "amax")


def log_sum_of_class(scores: Tensor, support: Support) -> Tensor:
    """`log sum exp` of the scores `[E, Q, N]` of each class's items: `[E, Q, W]`."""
    highest = highest_of_class(scores, support)
    labels = support.labels[:, None].expand_as(scores)
    relative = (scores - highest.gather(2, labels)).exp()
    return (relative @ support.members).log() + highest
