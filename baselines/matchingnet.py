"""Matching networks: attention over the support images."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.batch_norm import Rule
from baselines.learner import Learner, one_hot
from baselines.method import Method
from fewshot.backbones import Backbone
from fewshot.heads.nearest import benchmark_unit


class MatchingnetLearner(Learner):
    """Scores are log probabilities: the attention to a class's images, summed.

    Args:
        backbone, batch_norm: as for `Learner`.
        exact_cosine: whether queries are scaled to length 1 like support features.
    """

    def __init__(self, backbone: Backbone, batch_norm: Rule, exact_cosine: bool) -> None:
        super().__init__(backbone, batch_norm)
        self.exact_cosine = exact_cosine

    def forward(self, support: Tensor, labels: Tensor, query: Tensor, way: int) -> Tensor:
        known, asked = self.embed_episode(support, query)
        if self.exact_cosine:
            asked = benchmark_unit(asked)
        log_attention = (asked @ benchmark_unit(known).mT).log_softmax(dim=1)
        others = one_hot(labels, way, known).T == 0
        # [Q, way, N]: of each class, the attention to its own images
        own = log_attention[:, None].masked_fill(others, -torch.inf)
        return own.logsumexp(dim=2)


@dataclass(frozen=True)
class Matchingnet(Method):
    """Matching networks (Vinyals et al. 2016) as the benchmark trains them.

    The softmax is over `<q, unit(x)>` of all support images, without temperature and without
    full-context embeddings. Source: Triantafillou et al. 2020.

    Attributes:
        exact_cosine: whether the query is scaled to length 1 too.
    """

    name: ClassVar[str] = "learned_matchingnet"
    exact_cosine: bool = False

    def learner(self, backbone: Backbone, image_size: int) -> Learner:
        return MatchingnetLearner(backbone, self.batch_norm, self.exact_cosine)
