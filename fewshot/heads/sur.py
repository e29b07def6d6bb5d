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

from fewshot.heads.base import Features, Head, Predictor, check_setting, check_support
from fewshot.heads.prototypical import COSINE_SCALE, at_least_float32, class_means, unit

ADADELTA_DECAY = 0.9
ADADELTA_EPSILON = 1e-6


@dataclass(frozen=True)
class Sur(Head):
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

    def fit(
        self, support: Features, labels: Tensor, way: int, generator: torch.Generator
    ) -> Predictor:
        check_support(support, labels, way, self)
        features = [unit(at_least_float32(extractor)) for extractor in support]
        prototypes = [class_means(extractor, labels, way) for extractor in features]
        weights = self.select(features, prototypes, labels)

        def predict(query: Features) -> Tensor:
            queries = [unit(at_least_float32(extractor)) for extractor in query]
            return cosine_scores(weights, inner_products(queries, prototypes)).to(query[0].dtype)

        return predict

    def select(
        self, features: Sequence[Tensor], prototypes: Sequence[Tensor], labels: Tensor
    ) -> Tensor:
        """The selection: how much each extractor counts in the cosine.

        Args:
            features: K tensors `[N, D_k]`, unit rows.
            prototypes: K tensors `[way, D_k]`, their class means.
            labels: `[N]`.

        Returns:
            `[K]` relative weights w_k = s_k^2, the largest being 1.
        """
        way = len(prototypes[0])
        with torch.inference_mode(False), torch.enable_grad():
            products = inner_products(features, prototypes)
            target = labels.long().clone()
            logit = products.dots.new_zeros(len(features), requires_grad=True)
            gradient_mean, step_mean = torch.zeros_like(logit), torch.zeros_like(logit)
            for _ in range(self.steps):
                scores = cosine_scores(relative_weights(logit), products)
                loss = functional.cross_entropy(scores, target)
                (gradient,) = torch.autograd.grad(loss, logit)
                with torch.no_grad():  # Adadelta
                    gradient_mean.lerp_(gradient.square(), 1 - ADADELTA_DECAY)
                    ratio = (step_mean + ADADELTA_EPSILON) / (gradient_mean + ADADELTA_EPSILON)
                    step = ratio.sqrt() * gradient
                    step_mean.lerp_(step.square(), 1 - ADADELTA_DECAY)
                    logit -= self.lr / way * step
        return relative_weights(logit.detach())


class InnerProducts(NamedTuple):
    """What the weighted cosine needs of K extractors, N items and W prototypes."""

    dots: Tensor  # [K, N, W]: <item, prototype>
    items: Tensor  # [K, N]: squared length of the items (1, or 0 for a zero vector)
    prototypes: Tensor  # [K, W]: squared length of the prototypes


def inner_products(features: Sequence[Tensor], prototypes: Sequence[Tensor]) -> InnerProducts:
    """The inner products of K pairs of items `[N, D_k]` and prototypes `[W, D_k]`."""
    pairs = list(zip(features, prototypes, strict=True))
    return InnerProducts(
        torch.stack([items @ means.T for items, means in pairs]),
        torch.stack([items.square().sum(dim=1) for items, _ in pairs]),
        torch.stack([means.square().sum(dim=1) for _, means in pairs]),
    )


def relative_weights(logit: Tensor) -> Tensor:
    """sigmoid(logit)^2 divided by the largest, in logs.

    A common factor cancels in the cosine, so the division changes neither scores nor gradient;
    it keeps the weights from vanishing together when all logits are driven far below zero.
    """
    log_weights = 2 * functional.logsigmoid(logit)
    return (log_weights - log_weights.detach().max()).exp()


def cosine_scores(weights: Tensor, products: InnerProducts) -> Tensor:
    """10 x the cosine of weighted concatenations, `[N, W]`; 0 where a vector is zero."""
    squared = torch.outer(weights @ products.items, weights @ products.prototypes)
    lengths = torch.where(squared > 0, squared, torch.ones_like(squared)).sqrt()
    dots: Tensor = torch.tensordot(weights, products.dots, dims=1)
    return COSINE_SCALE * dots / lengths
