"""Mahalanobis distance to class means, with regularised covariances: the heads of CNAPS.

A regularised covariance is the identity outside the span of the items it was estimated from. So
with fewer items than dimensions everything is computed in coordinates of that span: 70 images in
512 dimensions make matrices of 70 x 70. What of a query is outside is as far from every class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from fewshot.heads.base import check_setting
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Queries, Size, Support, padded
from fewshot.heads.geometry import cholesky, class_means, predicted

Covariance = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Items `[N, D]`, their weights `[N]` and their mean `[D]` → L and R `[n, D]`: it is `L^T R`."""


class Gaussians(NamedTuple):
    """One episode's classes."""

    means: Tensor  # [W, D]
    factors: Tensor  # [W, D, D]: lower triangular L_k, with Q_k = L_k L_k^T

    def scores(self, items: Tensor) -> Tensor:
        """`-(x - c)^T Q^-1 (x - c)` of items `[N, D]`: `[N, W]`."""
        away = items - self.means[:, None]
        whitened: Tensor = torch.linalg.solve_triangular(self.factors, away.mT, upper=False)
        return -whitened.square().sum(dim=1).T


def gaussians(items: Tensor, members: Tensor, covariance: Covariance) -> Gaussians:
    """Q_k = λ S_k + (1 - λ) S + I with λ = n_k / (n_k + 1).

    Gradients flow through, for who trains features with it.

    Args:
        items: `[N, D]`.
        members: `[N, W]`, how much each item belongs to each class.
        covariance: gives S_k and S.
    """
    means, shots = class_means(items, members), members.sum(dim=0)
    left, right = covariance(items, torch.ones_like(members[:, 0]), items.mean(dim=0))
    shares = shots / (shots + 1)
    spreads = (1 - shares)[:, None, None] * (left.T @ right)
    spreads.diagonal(dim1=1, dim2=2).add_(1)
    for k, share in enumerate(shares.tolist()):
        left, right = covariance(items, members[:, k], means[k])
        spreads[k].addmm_(left.T, right, alpha=share)
    return Gaussians(means, cholesky(spreads, floor=1))


def unbiased(one_shot: str, ones: Tensor) -> Covariance:
    """The unbiased covariance of the items of weight 1.

    Args:
        one_shot: that of a single item, as `Mahalanobis` says.
        ones: the vector `[D]` of ones, in the coordinates of the items.
    """
    dim = ones @ ones

    def covariance(items: Tensor, weights: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        away, count = items[weights > 0] - mean, int(weights.sum())
        if count > 1:
            return away, away / (count - 1)
        if one_shot == "zero":
            return away, torch.zeros_like(away)
        entries = mean - (mean @ ones) / dim * ones
        return ones[None], (entries @ entries) / (dim - 1).clamp(min=1) * ones[None]

    return covariance


def biased(items: Tensor, weights: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted mean of `(x - mean)(x - mean)^T`."""
    there = weights > 0
    away = items[there] - mean
    return away, away * (weights[there, None] / weights.sum())


@dataclass(frozen=True)
class Mahalanobis(EpisodeHead):
    """Scores by the squared Mahalanobis distance, with a covariance of each class's own.

    Q_k = λ S_k + (1 - λ) S + I with λ = n_k / (n_k + 1), where S_k and S are the unbiased
    covariances of the class and of the whole support set. Raw features; no factor 1/2, no
    determinant, no prior.

    Source: Bateni et al. 2020, "Improved Few-Shot Visual Classification" (Simple CNAPS).

    Attributes:
        one_shot: S_k of a class of one item. "published": the released code takes the item for D
            observations of one variable, and adds their unbiased variance to every entry of Q_k.
            "zero": no spread.
    """

    name: ClassVar[str] = "mahalanobis"
    one_shot: Literal["published", "zero"] = "published"

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        predictors = [self.learn(items[0], members) for items, members in support.unpadded()]

        def predict(queries: Queries) -> Tensor:
            found = zip(predictors, queries.unpadded(), strict=True)
            return padded([scores(items[0]) for scores, items in found], 2)

        return predict

    def learn(self, items: Tensor, members: Tensor) -> Callable[[Tensor], Tensor]:
        """From the items `[N, D]` of one episode to a function from queries to scores."""
        ones = torch.ones_like(items[:1])
        if len(items) + 1 >= items.shape[1]:
            return gaussians(items, members, unbiased(self.one_shot, ones[0])).scores
        basis: Tensor = torch.linalg.qr(torch.cat([ones, items]).T).Q  # [D, N + 1]
        covariance = unbiased(self.one_shot, (ones @ basis)[0])
        classes = gaussians(items @ basis, members, covariance)

        def scores(queries: Tensor) -> Tensor:
            inside = queries @ basis
            outside = queries - inside @ basis.T
            return classes.scores(inside) - outside.square().sum(dim=1, keepdim=True)

        return scores

    def numbers(self, size: Size) -> int:
        side = min(size.dims[0], size.support + 1)
        return super().numbers(size) + 2 * (size.way + 4) * side**2


@dataclass(frozen=True)
class TransductiveCnaps(EpisodeHead):
    """Mahalanobis classes re-estimated from the queries' own soft predictions.

    First from the support alone; then, at most `rounds` times, from support and queries, each
    query belonging to every class by its softmax. Stops, from the second round on, when no
    query's prediction changes. Covariances are biased, so that one shot has no spread.

    Source: Bateni et al. 2022, "Enhancing Few-Shot Image Classification with Unlabelled Examples"
    (Transductive CNAPS). Its backbone sees the queries too; this is the head alone.

    Attributes:
        rounds: at most so many.
    """

    name: ClassVar[str] = "transductive_cnaps"
    transductive: ClassVar[bool] = True
    rounds: int = 4

    def __post_init__(self) -> None:
        check_setting(self.rounds >= 0, self, "rounds is a count, 0 or more")

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        episodes = list(support.unpadded())

        def predict(queries: Queries) -> Tensor:
            both = zip(episodes, queries.unpadded(), strict=True)
            return padded([self.refine(x[0], members, q[0]) for (x, members), q in both], 2)

        return predict

    def refine(self, items: Tensor, members: Tensor, queries: Tensor) -> Tensor:
        """Scores `[Q, W]` of one episode."""
        if len(items) + len(queries) < items.shape[1]:
            turned: Tensor = torch.linalg.qr(torch.cat([items, queries]).T, mode="r").R.T
            items, queries = turned.split([len(items), len(queries)])
        scores = gaussians(items, members, biased).scores(queries)
        everything, before = torch.cat([items, queries]), predicted(scores)
        for done in range(1, self.rounds + 1):
            belonging = torch.cat([members, scores.softmax(dim=1)])
            scores = gaussians(everything, belonging, biased).scores(queries)
            now = predicted(scores)
            if done >= 2 and torch.equal(now, before):
                break
            before = now
        return scores

    def numbers(self, size: Size) -> int:
        side = min(size.dims[0], size.items)
        return super().numbers(size) + 2 * (size.way + 4) * side**2
