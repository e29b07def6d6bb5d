"""TIM: prototypes that make the queries' predictions certain and the classes balanced."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewshot.heads.base import check_setting
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Queries, Support
from fewshot.heads.descent import Adam, descend
from fewshot.heads.geometry import class_means, squared_distances, unit

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
            query, counts = unit(queries.features[0]), queries.items.sum(dim=1).clamp(min=1)

            def logits(features: Tensor, prototypes: Tensor) -> Tensor:
                return -self.temperature / 2 * squared_distances(features, prototypes)

            def loss(prototypes: Tensor) -> Tensor:
                chances = support.only_real(logits(query, prototypes)).softmax(dim=2)
                chances = chances * queries.items[..., None]
                each = -(chances * (chances + SMALL).log()).sum(dim=(1, 2)) / counts
                mean = chances.sum(dim=1) / counts[:, None]
                balance = -(mean * (mean + (mean == 0)).log()).sum(dim=1)
                certainty = support.cross_entropy(logits(items, prototypes))
                return self.support_weight * certainty - balance + self.entropy_weight * each

            start = class_means(items, support.members)
            return logits(query, descend(start, loss, Adam(self.lr), self.steps))

        return predict
