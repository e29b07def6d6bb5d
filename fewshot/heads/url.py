"""URL: align the features to the episode by one matrix before the classifier.

Source: Li et al. 2021, "Universal Representation Learning from Multiple Domains for Few-shot
Classification", section 3.3, and its released code for the constants.

A matrix A, the identity at first, minimises the cross-entropy of nearest-centroid scores of
z = A f(x) on the support set itself, each item being part of its own centroid. The centroids of
z are A times the class means of f, so the gradient is written out: two products with the D x D
matrix a step, where the loop of the paper's code also broadcasts N x W x D numbers.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fewshot.heads.base import check_setting
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Queries, Size, Support
from fewshot.heads.descent import Adadelta
from fewshot.heads.geometry import (
    COSINE_SCALE,
    class_means,
    cosines,
    inverse_length,
    squared_distances,
    unit,
)


@dataclass(frozen=True)
class Url(EpisodeHead):
    """Pre-classifier alignment, then nearest centroids.

    The published rate is 0.1 on the sources that the backbone was trained on and 1 on others.
    A head is not told which an episode is from, so one rate serves all.

    Attributes:
        steps: iterations of Adadelta, on the whole support set.
        lr: learning rate.
        distance: scores `10 cos(z, c)`, or `-||z - c||^2`.
    """

    name: ClassVar[str] = "url"
    steps: int = 40
    lr: float = 0.1
    distance: Literal["cosine", "euclidean"] = "cosine"

    def __post_init__(self) -> None:
        check_setting(self.steps >= 0, self, "steps is a count, 0 or more")
        check_setting(self.lr > 0, self, "lr is positive")

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        means = class_means(support.features[0], support.members)
        alignment = self.align(support, means)

        def predict(queries: Queries) -> Tensor:
            items, prototypes = queries.features[0] @ alignment.mT, means @ alignment.mT
            if self.distance == "cosine":
                return COSINE_SCALE * cosines(items, prototypes)
            return -squared_distances(items, prototypes)

        return predict

    def align(self, support: Support, means: Tensor) -> Tensor:
        """The matrices `[E, D, D]`, learned from the support set and its class means."""
        features, rule = support.features[0], Adadelta(self.lr)
        identity = torch.eye(features.shape[2], dtype=features.dtype, device=features.device)
        alignment = identity.repeat(len(features), 1, 1)
        shares = support.members / support.shots.clamp(min=1)[:, None]
        gradient = cosine_gradient if self.distance == "cosine" else euclidean_gradient
        for _ in range(self.steps):
            items, prototypes = features @ alignment.mT, means @ alignment.mT
            of_items, of_prototypes = gradient(items, prototypes, support)
            # Each prototype is the mean of its items: its gradient is theirs in equal shares.
            of_items += shares @ of_prototypes
            alignment += rule.change(of_items.mT @ features)
        return alignment

    def numbers(self, size: Size) -> int:
        return super().numbers(size) + 6 * size.dims[0] ** 2


def cosine_gradient(items: Tensor, prototypes: Tensor, support: Support) -> tuple[Tensor, Tensor]:
    """Gradients of the cross-entropy of `10 cos` for items `[E, N, D]` and prototypes."""
    unit_items, unit_prototypes = unit(items), unit(prototypes)
    cosine = unit_items @ unit_prototypes.mT
    slope = COSINE_SCALE * support.score_gradient(COSINE_SCALE * cosine)
    # The derivative of a unit vector is the part of the change across it, by its length.
    of_items = slope @ unit_prototypes - (slope * cosine).sum(2, keepdim=True) * unit_items
    turned, across = slope.mT, cosine.mT
    of_prototypes = turned @ unit_items - (turned * across).sum(2, keepdim=True) * unit_prototypes
    return of_items * inverse_length(items), of_prototypes * inverse_length(prototypes)


def euclidean_gradient(
    items: Tensor, prototypes: Tensor, support: Support
) -> tuple[Tensor, Tensor]:
    """Gradients of the cross-entropy of `-||z - c||^2` for items `[E, N, D]` and prototypes."""
    slope = 2 * support.score_gradient(-squared_distances(items, prototypes))
    of_items = slope @ prototypes - slope.sum(2, keepdim=True) * items
    of_prototypes = slope.mT @ items - slope.mT.sum(2, keepdim=True) * prototypes
    return of_items, of_prototypes
