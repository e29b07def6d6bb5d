"""URL: align the features to the episode by one matrix before the classifier.

Source: Li et al. 2021, "Universal Representation Learning from Multiple Domains for Few-shot
Classification", section 3.3, and its released code for the constants.

A matrix A, the identity at first, minimises the cross-entropy of nearest-centroid scores of
z = A f(x) on the support set itself, each item being part of its own centroid. The gradient is
written out: two products with the D x D matrix a step, where the loop of the paper's code also
broadcasts N x W x D numbers.

With cosines it is computed in the dtype of the features, as published, episode by episode: of two
matrices of a step, each as large as an episode's features or larger, nothing is gained by batches,
and half by single precision. (Adadelta's epsilon keeps it from blowing up rounding errors.)
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fewshot.heads.base import Features, check_setting
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Queries, Size, Support, padded
from fewshot.heads.descent import Adadelta
from fewshot.heads.geometry import COSINE_SCALE, cosines, inverse_length, softmax, squared_distances

SMALLEST = 1e-38
"""Stands for the size of features that are all zero."""


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

    def precision(self, support: Features) -> torch.dtype:
        if self.distance == "euclidean":
            return super().precision(support)
        return torch.promote_types(support[0].dtype, torch.float32)

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        learned = [self.align(items[0], members) for items, members in support.unpadded()]

        def predict(queries: Queries) -> Tensor:
            found = zip(learned, queries.unpadded(), strict=True)
            return padded([self.score(*aligned, items[0]) for aligned, items in found], 2)

        return predict

    def score(self, alignment: Tensor, prototypes: Tensor, queries: Tensor) -> Tensor:
        """Scores `[Q, W]` by aligned prototypes `[W, D]` of queries not yet aligned."""
        items = queries @ alignment
        if self.distance == "cosine":
            return COSINE_SCALE * cosines(items, prototypes)
        return -squared_distances(items, prototypes)

    def align(self, features: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """Learn A^T `[D, D]` of one episode; also the prototypes `[W, D]` aligned by it."""
        if self.distance == "cosine":  # which no common factor changes
            features = features / features.abs().max().clamp(min=SMALLEST)
        shares = members / members.sum(dim=0)
        alignment = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
        gradient, items = torch.empty_like(alignment), torch.empty_like(features)
        move = Adadelta(self.lr).begin(alignment, gradient)
        gradient_of = cosine_gradient if self.distance == "cosine" else euclidean_gradient
        for _ in range(self.steps):
            torch.mm(features, alignment, out=items)
            torch.mm(features.T, gradient_of(items, members, shares), out=gradient)
            move()
        return alignment, shares.T @ features @ alignment

    def numbers(self, size: Size) -> int:
        return super().numbers(size) + 6 * size.dims[0] ** 2


def cosine_gradient(items: Tensor, members: Tensor, shares: Tensor) -> Tensor:
    """Gradient of the cross-entropy of `10 cos(z, c)` for the items z `[N, D]`.

    Args:
        items: of which the prototypes c are means.
        members: `[N, W]`, one-hot.
        shares: `[N, W]`, by how much each item moves each prototype.
    """
    prototypes = shares.T @ items
    of_items, of_prototypes = inverse_length(items), inverse_length(prototypes)
    prototypes *= of_prototypes
    cosine = items @ prototypes.T * of_items
    slope = score_gradient(COSINE_SCALE * cosine, members) * COSINE_SCALE
    # The derivative of a unit vector is the part of the change across it, by its length.
    pull = slope * cosine
    slope *= of_items
    across = slope.T @ items - pull.sum(0)[:, None] * prototypes
    moved = torch.cat([slope, shares * of_prototypes.T], dim=1)
    gradient = moved @ torch.cat([prototypes, across])
    return gradient.addcmul_(pull.sum(1, keepdim=True) * of_items.square(), items, value=-1)


def euclidean_gradient(items: Tensor, members: Tensor, shares: Tensor) -> Tensor:
    """The same of `-||z - c||^2`."""
    prototypes = shares.T @ items
    slope = 2 * score_gradient(-squared_distances(items, prototypes), members)
    of_items = slope @ prototypes - slope.sum(1)[:, None] * items
    of_prototypes = slope.T @ items - slope.sum(0)[:, None] * prototypes
    return of_items + shares @ of_prototypes


def score_gradient(scores: Tensor, members: Tensor) -> Tensor:
    """Gradient `[N, W]` of the mean cross-entropy for the scores: softmax - one-hot, by N."""
    return (softmax(scores) - members) / len(scores)
