"""Prototypes rectified by the queries: BD-CSPN, and LaplacianShot, which builds on them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fewshot.heads.base import check_setting
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Queries, Size, Support
from fewshot.heads.geometry import class_means, cosines, predicted, squared_distances, unit

TOLERANCE = 1e-6


@dataclass(frozen=True)
class BdCspn(EpisodeHead):
    """Bias-diminished cosine prototypes.

    Queries are shifted by the difference of the mean of the support and theirs; each counts for
    the class of its nearest prototype, with weight exp(cos); support items count for their own
    class likewise. The new prototypes are the weighted means; queries are scored unshifted, by
    the cosine.

    Source: Liu et al. 2020, "Prototype Rectification for Few-Shot Learning", as
    easy-few-shot-learning implements it; pytorch-meta-dataset does so on unit features.

    Attributes:
        normalise: whether features are scaled to length 1 first.
    """

    name: ClassVar[str] = "bd_cspn"
    transductive: ClassVar[bool] = True
    normalise: bool = False

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        prepare = unit if self.normalise else torch.clone

        def predict(queries: Queries) -> Tensor:
            query = prepare(queries.features[0])
            prototypes = rectified(prepare(support.features[0]), query, support, queries)
            return cosines(query, prototypes)

        return predict


def rectified(items: Tensor, query: Tensor, support: Support, queries: Queries) -> Tensor:
    """The prototypes `[E, W, D]` of support items `[E, N, D]` and queries `[E, Q, D]`."""
    prototypes = class_means(items, support.members)
    counts = queries.items.sum(dim=1, keepdim=True).clamp(min=1)[..., None]
    shift = items.sum(1, keepdim=True) / support.items.sum(1)[:, None, None] - (
        query.sum(1, keepdim=True) / counts
    )
    shifted = query + shift
    nearness = cosines(shifted, prototypes)
    chosen = functional.one_hot(predicted(support.only_real(nearness)), nearness.shape[2])
    weights = [
        support.members * cosines(items, prototypes).exp(),
        chosen * queries.items[..., None] * nearness.exp(),
    ]
    return class_means(torch.cat([items, shifted], dim=1), torch.cat(weights, dim=1))


@dataclass(frozen=True)
class LaplacianShot(EpisodeHead):
    """Soft assignments that agree with those of neighbouring queries.

    With `a_jk = ||q_j - c_k||^2` to rectified prototypes, Y = softmax(-a) at first, then
    Y = softmax(-a + smoothing * W Y), where W_ji = 1 for the `knn - 1` nearest other queries i
    of j; until the bound of the paper's equation 7 settles. Scores are the assignments.

    Source: Ziko et al. 2020, "Laplacian Regularized Few-Shot Learning", as
    easy-few-shot-learning implements it, with the settings it publishes for this method.

    Attributes:
        knn: neighbours of a query, itself included.
        smoothing: the weight λ of the neighbours.
        steps: at most so many.
        normalise: whether features are scaled to length 1 first.
    """

    name: ClassVar[str] = "laplacian_shot"
    transductive: ClassVar[bool] = True
    knn: int = 3
    smoothing: float = 0.1
    steps: int = 10
    normalise: bool = True

    def __post_init__(self) -> None:
        check_setting(self.knn >= 1 and self.steps >= 0, self, "knn and steps are counts")
        check_setting(self.smoothing >= 0, self, "smoothing is 0 or more")

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        prepare = unit if self.normalise else torch.clone

        def predict(queries: Queries) -> Tensor:
            query = prepare(queries.features[0])
            prototypes = rectified(prepare(support.features[0]), query, support, queries)
            costs = squared_distances(query, prototypes)
            edges = self.neighbours(query, queries.items)
            return self.assign(support.only_real(-costs), edges, queries.items)

        return predict

    def neighbours(self, query: Tensor, real: Tensor) -> Tensor:
        """W `[E, Q, Q]`: 1 from each query to its nearest others."""
        others = real[:, None] & ~torch.eye(query.shape[1], dtype=torch.bool, device=query.device)
        distances = squared_distances(query, query).masked_fill(~others, torch.inf)
        nearest = distances.argsort(dim=2, stable=True)[..., : self.knn - 1]
        edges = torch.zeros_like(distances).scatter(2, nearest, 1.0)
        return edges * (others & real[..., None])

    def assign(self, scores: Tensor, edges: Tensor, real: Tensor) -> Tensor:
        """The assignments Y `[E, Q, W]` for scores -a; an episode that settles is left alone."""
        assignment = scores.softmax(dim=2)
        costs = -scores.masked_fill(scores.isinf(), 0)
        before = scores.new_full((len(scores),), torch.inf)
        active = torch.ones_like(before, dtype=torch.bool)
        for step in range(self.steps):
            updated = (scores + self.smoothing * edges @ assignment).softmax(dim=2)
            assignment = torch.where(active[:, None, None], updated, assignment)
            pull = self.smoothing * (edges @ assignment)
            bound = assignment * ((assignment + 1e-12).log() + costs - pull)
            now = (bound * real[..., None]).sum(dim=(1, 2))
            if step > 1:
                active &= ~((now - before).abs() <= TOLERANCE * before.abs())
            before = now
            if not active.any():
                break
        return assignment

    def numbers(self, size: Size) -> int:
        return super().numbers(size) + 5 * size.query**2
