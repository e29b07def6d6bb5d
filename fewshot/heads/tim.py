"""TIM: prototypes that make the queries' predictions certain and the classes balanced."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.heads.base import check_setting
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Queries, Support
from fewshot.heads.descent import Adam, descend
from fewshot.heads.geometry import class_means, softmax, squared_distances, unit

SMALL = 1e-12
"""Inside the logarithm of the conditional entropy, as in the released code."""


@dataclass(frozen=True)
class Tim(EpisodeHead):
    """Transductive information maximisation by gradient descent (TIM-GD).

    Prototypes w of unit features minimise

        support_weight * CE(support) - H(mean query prediction) + entropy_weight * mean H(query)

    for the logits `-temperature / 2 * ||x - w||^2`. It assumes about as many queries of each class.

    Source: Boudiaf et al. 2020, "Transductive Information Maximization for Few-Shot Learning":
    weights 0.1, 1, 0.1, temperature 15, Adam 1e-4 for 1000 steps, as its scripts run it.

    Attributes:
        steps: of Adam.
        lr: learning rate.
        temperature: of the logits.
        support_weight: of the cross-entropy.
        entropy_weight: of the entropy of each query.
    """

    name: ClassVar[str] = "tim"
    transductive: ClassVar[bool] = True
    steps: int = 1000
    lr: float = 1e-4
    temperature: float = 15.0
    support_weight: float = 0.1
    entropy_weight: float = 0.1

    def __post_init__(self) -> None:
        check_setting(self.steps >= 0, self, "steps is a count, 0 or more")
        check_setting(self.lr > 0 and self.temperature > 0, self, "lr and temperature are positive")

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        items = unit(support.features[0])

        def predict(queries: Queries) -> Tensor:
            query = unit(queries.features[0])
            slope = self.slope(torch.cat([items, query], dim=1), support, queries)
            start = class_means(items, support.members)
            prototypes = descend(start, slope, Adam(self.lr), self.steps)
            return -self.temperature / 2 * squared_distances(query, prototypes)

        return predict

    def slope(
        self, items: Tensor, support: Support, queries: Queries
    ) -> Callable[[Tensor], Tensor]:
        """The function from prototypes `[E, W, D]` to the gradient of the loss for them.

        Args:
            items: `[E, N + Q, D]`, first the support.
            support, queries: what they are.
        """
        count = support.members.shape[1]
        query_count = queries.items.sum(dim=1, keepdim=True).clamp(min=1)
        shares = (queries.items / query_count.to(items.dtype))[..., None]

        def of_scores(scores: Tensor) -> Tensor:
            """The gradient for the scores `[E, N + Q, W]`."""
            chances = softmax(support.only_real(scores))
            learned, guessed = chances[:, :count], chances[:, count:]
            certainty = self.support_weight * (learned - support.members) * support.shares
            mean = (guessed * shares).sum(dim=1, keepdim=True)
            above = guessed + SMALL
            # Up to a constant, which the softmax takes away.
            slope = (mean + (mean == 0)).log() - self.entropy_weight * (
                above.log() + guessed / above
            )
            pull = guessed * slope
            spread = (pull - guessed * pull.sum(dim=2, keepdim=True)) * shares
            return torch.cat([certainty, spread], dim=1)

        def slope(prototypes: Tensor) -> Tensor:
            squares = prototypes.square().sum(dim=2)[:, None] / 2
            # The squares of the items are the same for every class.
            slope = of_scores(self.temperature * (items @ prototypes.mT - squares))
            return self.temperature * (slope.mT @ items - slope.sum(1)[..., None] * prototypes)

        return slope
