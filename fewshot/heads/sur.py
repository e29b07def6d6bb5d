"""SUR: select, per episode, how much each feature extractor counts.

Source: Dvornik et al. 2020, "Selecting Relevant Features from a Multi-domain Representation",
and its released code for the constants.

Every feature is unit-normalised, multiplied by its extractor's weight s_k = sigmoid(lambda_k)
and concatenated; lambda minimises the cross-entropy of 10 cos(item, prototype) on the support
set itself, each item being part of its own prototype.

The code never concatenates. With w_k = s_k^2, the cosine of the concatenations is

    cos = sum_k w_k <f_k, c_k> / sqrt(sum_k w_k |f_k|^2) / sqrt(sum_k w_k |c_k|^2)

whose inner products do not depend on lambda: they are computed once, and an iteration then
touches K x W x N numbers and no feature. On a CPU an iteration is compiled: of PyTorch's operations
on arrays this small, most of the time is spent on starting them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from episodes.images import compiled
from fewshot.heads.base import check_setting
from fewshot.heads.batch import SELECTION, EpisodeHead, EpisodePredictor, Queries, Size, Support
from fewshot.heads.descent import ADADELTA, Adadelta, adadelta_step, descend
from fewshot.heads.geometry import COSINE_SCALE, inverse_length

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


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
        prototypes, parts = [], []
        for items in support.features:
            scale = inverse_length(items)
            prototypes.append((shares * scale).mT @ items)
            parts.append(inner_products(items, scale, prototypes[-1]))
        weights = self.select(InnerProducts.stack(parts), support)
        support.told[SELECTION] = weights / weights.sum(dim=1, keepdim=True)

        def predict(queries: Queries) -> Tensor:
            pairs = zip(queries.features, prototypes, strict=True)
            parts = [inner_products(x, inverse_length(x), means) for x, means in pairs]
            products = InnerProducts.stack(parts)
            return cosine_scores(weights, products, inverse_lengths(weights, products)).mT

        return predict

    def numbers(self, size: Size) -> int:
        features = sum(size.dims) / 2 + 2 * max(size.dims)  # stored ones; of one extractor
        products = (len(size.dims) + 4) * size.way
        return int(size.items * (features + products))

    def select(self, products: "InnerProducts", support: Support) -> Tensor:
        """The selection: how much each extractor counts in the cosine.

        Returns:
            `[E, K]` relative weights w_k = s_k^2, the largest being 1.
        """
        on_cpu = products.dots.device.type == "cpu"
        descend = descend_compiled if on_cpu else descend_in_tensors
        return relative_weights(descend(products, support, self.lr / support.ways, self.steps))


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

    dots: Tensor  # [E, K, W, N]: <prototype, unit item>
    items: Tensor  # [E, K, N]: squared length of the unit items (1, or 0 for a zero vector)
    prototypes: Tensor  # [E, K, W]: squared length of the prototypes

    @classmethod
    def stack(cls, extractors: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Self:
        """From those of each extractor."""
        return cls(*(torch.stack(parts, dim=1) for parts in zip(*extractors, strict=True)))


def inner_products(
    items: Tensor, scale: Tensor, prototypes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The inner products of items `[E, N, D]` and prototypes `[E, W, D]` of one extractor.

    Items are scaled to length 1 on the way, by 1 / their lengths `[E, N, 1]`: a product is
    divided, not the item.
    """
    dots = (items @ prototypes.mT).mul_(scale)
    return dots.mT, scale[..., 0].sign(), prototypes.square().sum(dim=2)


def relative_weights(logit: Tensor) -> Tensor:
    """sigmoid(logit)^2 divided by the largest, in logs, for logits `[E, K]`.

    A common factor cancels in the cosine, so the division changes neither scores nor gradient;
    it keeps the weights from vanishing together when all logits are driven far below zero.
    """
    log_weights = 2 * functional.logsigmoid(logit)
    return (log_weights - log_weights.amax(dim=1, keepdim=True)).exp()


def inverse_lengths(weights: Tensor, products: InnerProducts) -> tuple[Tensor, Tensor]:
    """`1 / |x|` of weighted items `[E, 1, N]` and prototypes `[E, W, 1]`; 0 for a zero vector."""
    items = weights[:, None] @ products.items
    prototypes = (weights[:, None] @ products.prototypes).mT
    return reciprocal_root(items), reciprocal_root(prototypes)


def reciprocal_root(squares: Tensor) -> Tensor:
    """`1 / sqrt(x)`, and 0 for 0."""
    return torch.where(squares > 0, squares.rsqrt(), 0.0)


def cosine_scores(
    weights: Tensor, products: InnerProducts, lengths: tuple[Tensor, Tensor]
) -> Tensor:
    """10 x the cosine of weighted concatenations, `[E, W, N]`; 0 where a vector is zero."""
    items, prototypes = lengths
    dots = COSINE_SCALE * weights[:, None] @ products.dots.flatten(2)
    return dots.view(products.dots[:, 0].shape) * (items * prototypes)


def descend_in_tensors(
    products: InnerProducts, support: Support, rates: Tensor, steps: int
) -> Tensor:
    """The logits `[E, K]` after so many steps of Adadelta with learning rates `[E]`."""

    def slope(logit: Tensor, gradient: Tensor) -> None:
        weights = relative_weights(logit)
        of_weights = weight_gradient(weights, products, support)
        torch.mul(of_weights, 2 * weights * (-logit).sigmoid(), out=gradient)

    start = products.dots.new_zeros(products.dots.shape[:2])
    return descend(start, slope, Adadelta(rates[:, None]), steps)


def weight_gradient(weights: Tensor, products: InnerProducts, support: Support) -> Tensor:
    """Gradient `[E, K]` of the mean cross-entropy of the support items for the weights.

    Of a cosine D / sqrt(A B), in which D, A and B are sums weighted by w: the derivative is that
    of D by the lengths, less half the cosine times what A and B grow by, relatively.
    """
    items, prototypes = lengths = inverse_lengths(weights, products)
    scores = cosine_scores(weights, products, lengths)
    slope = support.score_gradient(scores.mT).mT
    pull = slope * scores
    of_dots = products.dots.flatten(2) @ (slope * (items * prototypes)).flatten(1)[..., None]
    of_items = products.items @ (pull.sum(dim=1, keepdim=True) * items.square()).mT
    pull_of_class = pull.sum(dim=2, keepdim=True)
    of_prototypes = products.prototypes @ (pull_of_class * prototypes.square())
    return (COSINE_SCALE * of_dots - (of_items + of_prototypes) / 2)[..., 0]


# ---- the same, compiled ----------------------------------------------------------------------


def descend_compiled(
    products: InnerProducts, support: Support, rates: Tensor, steps: int
) -> Tensor:
    """`descend_in_tensors`, episode by episode."""
    logits = torch.zeros_like(products.items[..., 0])
    sizes = torch.stack([support.items.sum(dim=1), support.ways], dim=1)
    tensors = logits, *products, support.labels, sizes, rates
    descend_episodes(steps, *(part.numpy() for part in tensors))
    return logits


@compiled
def descend_episodes(
    steps: int,
    logits: Array,
    dots: Array,
    items: Array,
    prototypes: Array,
    labels: Integers,
    sizes: Integers,
    rates: Array,
) -> None:
    """Move the logits by so many steps.

    Args:
        labels: `[E, N]`.
        sizes: `[E, 2]`: how many items and classes are real.
    """
    constants = np.array(ADADELTA)
    for e in range(len(logits)):
        logit = logits[e]
        gradients, changes = np.zeros_like(logit), np.zeros_like(logit)
        for _ in range(steps):
            logs = np.minimum(logit, 0) - np.log1p(np.exp(-np.abs(logit)))
            weights = np.exp(2 * (logs - logs.max()))
            step = episode_gradient(
                weights, dots[e], items[e], prototypes[e], labels[e], sizes[e, 0], sizes[e, 1]
            )
            step *= 2 * weights / (1 + np.exp(logit))
            adadelta_step(logit, step, gradients, changes, rates[e : e + 1], constants)


@compiled
def episode_gradient(
    weights: Array,
    dots: Array,
    items: Array,
    prototypes: Array,
    labels: Integers,
    count: int,
    way: int,
) -> Array:
    """`weight_gradient` of one episode: `[K]`.

    Loops over the items are the inner ones, of which the processor does several at a time. No
    score exceeds 10, so the softmax needs no largest one.
    """
    scores, slopes = np.empty((way, count)), np.empty((way, count))
    lengths, of_class = np.zeros(count), np.empty(way)  # the inverse ones, times 10 of these
    totals, pulls, dot_pulls = np.zeros(count), np.zeros(count), np.empty(count)
    gradient = np.zeros_like(weights)
    for k, weight in enumerate(weights):
        for n in range(count):
            lengths[n] += weight * items[k, n]
    for n in range(count):
        lengths[n] = 1 / np.sqrt(lengths[n]) if lengths[n] > 0 else 0.0
    for c in range(way):
        score, slope = scores[c], slopes[c]
        square = (weights * prototypes[:, c]).sum()
        of_class[c] = COSINE_SCALE / np.sqrt(square) if square > 0 else 0.0
        score[:] = 0
        for k, weight in enumerate(weights):
            for n in range(count):
                score[n] += weight * dots[k, c, n]
        for n in range(count):
            score[n] *= of_class[c] * lengths[n]
        for n in range(count):
            slope[n] = np.exp(score[n])
        for n in range(count):
            totals[n] += slope[n]
    for n in range(count):
        totals[n] = 1 / (totals[n] * count)
    for c in range(way):
        score, slope, pull = scores[c], slopes[c], 0.0
        for n in range(count):
            slope[n] = slope[n] * totals[n] - (1 / count if labels[n] == c else 0.0)
        for n in range(count):
            score[n] *= slope[n]
            pulls[n] += score[n]
            slope[n] *= of_class[c] * lengths[n]
        for n in range(count):
            pull += score[n]
        gradient -= pull * (of_class[c] / COSINE_SCALE) ** 2 / 2 * prototypes[:, c]
    for n in range(count):
        pulls[n] *= lengths[n] ** 2 / 2
    for k in range(len(weights)):
        dot_pulls[:], pull = 0, 0.0
        for c in range(way):
            for n in range(count):
                dot_pulls[n] += dots[k, c, n] * slopes[c, n]
        for n in range(count):
            pull += dot_pulls[n] - pulls[n] * items[k, n]
        gradient[k] += pull
    return gradient
