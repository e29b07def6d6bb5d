"""Prototypical networks: squared distances to the mean feature of each class."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from baselines.learner import Learner, one_hot
from baselines.method import Method
from fewshot.backbones import Backbone
from fewshot.heads.geometry import class_means, squared_distances


class ProtonetLearner(Learner):
    """Scores are `-|q - c|^2`, c the mean of a class's support features."""

    def forward(self, support: Tensor, labels: Tensor, query: Tensor, way: int) -> Tensor:
        known, asked = self.embed_episode(support, query)
        prototypes = class_means(known, one_hot(labels, way, known))
        return -squared_distances(asked, prototypes)


@dataclass(frozen=True)
class Protonet(Method):
    """Prototypical networks (Snell et al. 2017) as the benchmark trains them.

    Source: Triantafillou et al. 2020; no temperature.
    """

    name: ClassVar[str] = "learned_protonet"

    def learner(self, backbone: Backbone, image_size: int) -> Learner:
        return ProtonetLearner(backbone, self.batch_norm)
