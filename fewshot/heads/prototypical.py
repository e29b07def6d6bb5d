"""Nearest class mean: prototypical networks at test time, and its cosine variant."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fewshot.heads.base import Features, Head, Predictor, check_support

COSINE_SCALE = 10.0
"""The factor on every cosine. Source: fixed at 10 in SUR, URL, URT (test) and TSA."""


@dataclass(frozen=True)
class Prototypical(Head):
    """Scores a query by its distance to the mean of each class's raw support features.

    * "euclidean": `-||q - c||^2`, squared and without temperature.
      Source: Snell et al. 2017; the benchmark's prototypical network.
    * "cosine": `10 cos(q, c)`. Source: SUR's and URL's nearest-centroid classifier.

    A squared distance beyond the range of the dtype scores the lowest finite number.
    """

    name: ClassVar[str] = "prototypical"
    distance: Literal["euclidean", "cosine"] = "euclidean"

    def fit(
        self, support: Features, labels: Tensor, way: int, generator: torch.Generator
    ) -> Predictor:
        check_support(support, labels, way, self)
        prototypes = class_means(at_least_float32(support[0]), labels, way)

        def predict(query: Features) -> Tensor:
            features = at_least_float32(query[0])
            if self.distance == "cosine":
                scores = COSINE_SCALE * unit(features) @ unit(prototypes).T
            else:
                scores = -squared_distances(features, prototypes)
            return scores.clamp(min=torch.finfo(query[0].dtype).min).to(query[0].dtype)

        return predict


def class_means(features: Tensor, labels: Tensor, way: int) -> Tensor:
    """Prototypes `[way, D]`: the plain mean of each class's features `[N, D]`.

    A matrix product, so that it gives the same bits every time on a GPU too.
    """
    members = functional.one_hot(labels.long(), way).to(features.dtype)
    return (members / members.sum(dim=0)).T @ features


def squared_distances(queries: Tensor, prototypes: Tensor) -> Tensor:
    """`||q - c||^2` for queries `[Q, D]` and prototypes `[W, D]`: `[Q, W]`.

    From the differences, not from `|q|^2 - 2 qc + |c|^2`, which loses all digits when the
    features share a large offset.
    """
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(queries, prototypes, compute_mode=exact).square()


def unit(features: Tensor) -> Tensor:
    """Vectors `[..., D]` scaled to length 1; a zero vector stays zero.

    Dividing by the largest entry first keeps huge and tiny vectors from over- or underflowing
    when squared. It cancels out, so no gradient flows through it.
    """
    largest = features.detach().abs().amax(dim=-1, keepdim=True)
    scaled = features / torch.where(largest > 0, largest, torch.ones_like(largest))
    length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / torch.where(length > 0, length, torch.ones_like(length))


def at_least_float32(features: Tensor) -> Tensor:
    """Half-precision features as float32; float32 and float64 as they are."""
    return features.float() if torch.finfo(features.dtype).bits < 32 else features
