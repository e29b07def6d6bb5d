"""SUR: select, per episode, how much each feature extractor counts.

Source: Dvornik et al. 2020, "Selecting Relevant Features from a Multi-domain Representation",
and its released code for the constants.

Every feature is unit-normalised, multiplied by its extractor's weight s_k = sigmoid(lambda_k)
and concatenated; lambda minimises the cross-entropy of 10 cos(item, prototype) on the support
set itself, each item being part of its own prototype.

The code never concatenates. With w_k = s_k^2, the cosine of the concatenations is

    cos = sum_k w_k <f_k, c_k> / sqrt(sum_k w_k |f_k|^2) / sqrt(sum_k w_k |c_k|^2)

whose inner products do not depend on lambda: they are computed once, and an iteration then
touches K x N x W numbers and no feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fewshot.heads.base import check_setting
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Queries, Support
from fewshot.heads.descent import Adadelta, descend
from fewshot.heads.geometry import COSINE_SCALE, class_means, unit


@dataclass(frozen=True)
class Sur(EpisodeHead):
    """Cosine prototypes over several extractors, weighted for the episode.

    Extractors may differ in dimension. With one extractor the weight cancels and the head is
    the cosine prototype classifier on unit features. A zero feature vector stays zero: it adds
    nothing to a cosine, and an item that is zero in every extractor scores 0 for all classes.

    Attributes:
        steps: iterations of Adadelta.
        lr: learning rate times the number of classes; the rate used is `lr / way`.
    """

    name: ClassVar[str] = "sur"
    extractors: ClassVar[Literal["one", "many"]] = "many"
    steps: int = 40
    lr: float = 3000.0

    def __post_init__(self) -> None:
        check_setting(self.steps >= 0, self, "steps is a count, 0 or more")
        check_setting(self.lr > 0, self, "lr is positive")

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        features = [unit(extractor) for extractor in support.features]
        prototypes = [class_means(extractor, support.members) for extractor in features]
        weights = self.select(inner_products(features, prototypes), support)

        def predict(queries: Queries) -> Tensor:
            items = [unit(extractor) for extractor in queries.features]
            return cosine_scores(weights, inner_products(items, prototypes))

        return predict

    def select(self, products: "InnerProducts", support: Support) -> Tensor:
        """The selection: how much each extractor counts in the cosine.

        Returns:
            `[E, K]` relative weights w_k = s_k^2, the largest being 1.
        """

        def loss(logit: Tensor) -> Tensor:
            return support.cross_entropy(cosine_scores(relative_weights(logit), products))

        start = products.dots.new_zeros(products.dots.shape[:2])
        rule = Adadelta(self.lr / support.ways[:, None])
        return relative_weights(descend(start, loss, rule, self.steps))


@dataclass(frozen=True)
class SurPnf(Sur):
    """SUR over a parametric network family: one network, adapted to each domain.

    The extractors are the passes of one network with the scales, offsets and statistics of each
    domain in its normalisation layers; the selection is SUR's.

    Source: Dvornik et al. 2020, section 3.3.
    """

    name: ClassVar[str] = "sur_pnf"


class InnerProducts(NamedTuple):
    """What the weighted cosine needs of K extractors, N items and W prototypes."""

    dots: Tensor  # [E, K, N, W]: <item, prototype>
    items: Tensor  # [E, K, N]: squared length of the items (1, or 0 for a zero vector)
    prototypes: Tensor  # [E, K, W]: squared length of the prototypes


def inner_products(features: Sequence[Tensor], prototypes: Sequence[Tensor]) -> InnerProducts:
    """The inner products of K pairs of items `[E, N, D_k]` and prototypes `[E, W, D_k]`."""
    pairs = list(zip(features, prototypes, strict=True))
    return InnerProducts(
        torch.stack([items @ means.mT for items, means in pairs], dim=1),
        torch.stack([items.square().sum(dim=2) for items, _ in pairs], dim=1),
        torch.stack([means.square().sum(dim=2) for _, means in pairs], dim=1),
    )


def relative_weights(logit: Tensor) -> Tensor:
    """sigmoid(logit)^2 divided by the largest, in logs, for logits `[E, K]`.

    A common factor cancels in the cosine, so the division changes neither scores nor gradient;
    it keeps the weights from vanishing together when all logits are driven far below zero.
    """
    log_weights = 2 * functional.logsigmoid(logit)
    return (log_weights - log_weights.detach().amax(dim=1, keepdim=True)).exp()


def cosine_scores(weights: Tensor, products: InnerProducts) -> Tensor:
    """10 x the cosine of weighted concatenations, `[E, N, W]`; 0 where a vector is zero."""
    weights = weights[:, None]  # [E, 1, K]
    items = (weights @ products.items).mT
    squared = items * (weights @ products.prototypes)
    lengths = torch.where(squared > 0, squared, 1.0).sqrt()
    dots = (weights @ products.dots.flatten(2)).view(products.dots[:, 0].shape)
    return COSINE_SCALE * dots / lengths
