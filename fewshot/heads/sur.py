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
from fewshot.heads.batch import SELECTION, EpisodeHead, EpisodePredictor, Queries, Size, Support
from fewshot.heads.descent import Adadelta
from fewshot.heads.geometry import COSINE_SCALE, inverse_length


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
        shares = support.members / support.shots.clamp(min=1)[:, None]
        scales = [inverse_length(items) for items in support.features]
        pairs = list(zip(support.features, scales, strict=True))
        prototypes = [(shares * scale).mT @ items for items, scale in pairs]
        weights = self.select(inner_products(support.features, prototypes, scales), support)
        support.told[SELECTION] = weights / weights.sum(dim=1, keepdim=True)

        def predict(queries: Queries) -> Tensor:
            scales = [inverse_length(items) for items in queries.features]
            products = inner_products(queries.features, prototypes, scales)
            return cosine_scores(weights, products, inverse_lengths(weights, products))

        return predict

    def numbers(self, size: Size) -> int:
        scores = len(size.dims) + 8  # per item and class: inner products, and what a step makes
        return size.items * (2 * sum(size.dims) + scores * size.way)

    def select(self, products: "InnerProducts", support: Support) -> Tensor:
        """The selection: how much each extractor counts in the cosine.

        Returns:
            `[E, K]` relative weights w_k = s_k^2, the largest being 1.
        """
        logit = products.dots.new_zeros(products.dots.shape[:2])
        rule = Adadelta(self.lr / support.ways[:, None])
        for _ in range(self.steps):
            weights = relative_weights(logit)
            gradient = weight_gradient(weights, products, support)
            logit += rule.change(gradient * 2 * weights * (-logit).sigmoid())
        return relative_weights(logit)


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

    dots: Tensor  # [E, K, N * W]: <unit item, prototype>
    items: Tensor  # [E, K, N]: squared length of the unit items (1, or 0 for a zero vector)
    prototypes: Tensor  # [E, K, W]: squared length of the prototypes


def inner_products(
    features: Sequence[Tensor], prototypes: Sequence[Tensor], scales: Sequence[Tensor]
) -> InnerProducts:
    """The inner products of K pairs of items `[E, N, D_k]` and prototypes `[E, W, D_k]`.

    Items are scaled to length 1 on the way, by 1 / their lengths `[E, N, 1]`: a product is
    divided, not the item.
    """
    triples = zip(features, prototypes, scales, strict=True)
    dots = [items @ means.mT * scale for items, means, scale in triples]
    return InnerProducts(
        torch.stack([one.flatten(1) for one in dots], dim=1),
        torch.cat(list(scales), dim=2).mT.sign(),
        torch.stack([means.square().sum(dim=2) for means in prototypes], dim=1),
    )


def relative_weights(logit: Tensor) -> Tensor:
    """sigmoid(logit)^2 divided by the largest, in logs, for logits `[E, K]`.

    A common factor cancels in the cosine, so the division changes neither scores nor gradient;
    it keeps the weights from vanishing together when all logits are driven far below zero.
    """
    log_weights = 2 * functional.logsigmoid(logit)
    return (log_weights - log_weights.amax(dim=1, keepdim=True)).exp()


def inverse_lengths(weights: Tensor, products: InnerProducts) -> tuple[Tensor, Tensor]:
    """`1 / |x|` of weighted items `[E, N, 1]` and prototypes `[E, 1, W]`; 0 for a zero vector."""
    items = (weights[:, None] @ products.items).mT
    prototypes = weights[:, None] @ products.prototypes
    return reciprocal_root(items), reciprocal_root(prototypes)


def reciprocal_root(squares: Tensor) -> Tensor:
    """`1 / sqrt(x)`, and 0 for 0."""
    return torch.where(squares > 0, squares.rsqrt(), 0.0)


def cosine_scores(
    weights: Tensor, products: InnerProducts, lengths: tuple[Tensor, Tensor]
) -> Tensor:
    """10 x the cosine of weighted concatenations, `[E, N, W]`; 0 where a vector is zero."""
    items, prototypes = lengths
    shape = len(weights), items.shape[1], prototypes.shape[2]
    return (COSINE_SCALE * weights[:, None] @ products.dots).view(shape) * (items * prototypes)


def weight_gradient(weights: Tensor, products: InnerProducts, support: Support) -> Tensor:
    """Gradient `[E, K]` of the mean cross-entropy of the support items for the weights.

    Of a cosine D / sqrt(A B), in which D, A and B are sums weighted by w: the derivative is that
    of D by the lengths, less half the cosine times what A and B grow by, relatively.
    """
    items, prototypes = lengths = inverse_lengths(weights, products)
    scores = cosine_scores(weights, products, lengths)
    slope = support.score_gradient(scores)
    pull = slope * scores
    of_dots = products.dots @ (slope * (items * prototypes)).flatten(1)[..., None]
    of_items = products.items @ (pull.sum(dim=2, keepdim=True) * items.square())
    of_prototypes = products.prototypes @ (pull.sum(dim=1)[..., None] * prototypes.mT.square())
    return (COSINE_SCALE * of_dots - (of_items + of_prototypes) / 2)[..., 0]
