"""Nearest neighbour on a network that was trained to classify: the benchmark's `baseline`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from baselines.batch_norm import Rule
from baselines.learner import Learner
from baselines.method import Method
from fewshot.backbones import Backbone
from fewshot.heads.geometry import squared_distances, unit


class NearestLearner(Learner):
    """Scores are the similarity to the nearest support image of each class.

    Args:
        backbone, batch_norm: as for `Learner`.
        cosine: whether similarity is the cosine, or minus the squared distance.
    """

    def __init__(self, backbone: Backbone, batch_norm: Rule, cosine: bool) -> None:
        super().__init__(backbone, batch_norm)
        self.cosine = cosine

    def forward(self, support: Tensor, labels: Tensor, query: Tensor, way: int) -> Tensor:
        known, asked = self.embed_episode(support, query)
        near = unit(asked) @ unit(known).mT if self.cosine else -squared_distances(asked, known)
        classes = labels.expand(len(query), -1)
        lowest = near.new_full((len(query), way), -torch.inf)
        return lowest.scatter_reduce(1, classes, near, "amax")


@dataclass(frozen=True)
class BenchmarkKnn(Method):
    """The benchmark's k-NN baseline: k = 1, batch norm by the support images.

    Source: Triantafillou et al. 2020; its best configurations use the cosine.

    Attributes:
        distance: `cosine` or `euclidean`.
    """

    name: ClassVar[str] = "benchmark_knn"
    learns_from: ClassVar[Literal["episodes", "images"]] = "images"
    distance: Literal["cosine", "euclidean"] = "cosine"

    @property
    def method(self) -> str:
        """`baseline`, as the benchmark calls it."""
        return "baseline"

    def learner(self, backbone: Backbone, image_size: int) -> Learner:
        return NearestLearner(backbone, self.batch_norm, self.distance == "cosine")
