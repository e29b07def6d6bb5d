"""TIM: prototypes that make the queries' predictions certain and the classes balanced."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.images import compiled
from fewshot.heads.base import check_setting
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Queries, Support
from fewshot.heads.descent import Adam, descend
from fewshot.heads.geometry import class_means, softmax, squared_distances, unit

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

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
    ) -> Callable[[Tensor, Tensor], None]:
        """What puts the gradient for prototypes `[E, W, D]` into a tensor of their shape.

        Args:
            items: `[E, N + Q, D]`, first the support.
            support, queries: what they are.
        """
        columns = items.mT.contiguous()
        scores = items.new_empty(len(items), support.members.shape[2], items.shape[1])
        if items.device.type == "cpu":
            between = self.compiled_slopes(scores, support, queries)
        else:
            between = partial(self.slopes_in_tensors, scores, support, queries)

        def slope(prototypes: Tensor, gradient: Tensor) -> None:
            torch.bmm(prototypes, columns, out=scores)
            between(prototypes, gradient)
            gradient.baddbmm_(scores, items, alpha=self.temperature)

        return slope

    def compiled_slopes(
        self, scores: Tensor, support: Support, queries: Queries
    ) -> Callable[[Tensor, Tensor], None]:
        """`slopes_in_tensors`, compiled but for what PyTorch computes several at a time."""
        parts = [support.items.sum(dim=1), queries.items.sum(dim=1), support.ways]
        above = scores.new_empty(*scores.shape[:2], queries.items.shape[1])
        fixed = scores, above, support.labels, torch.stack(parts, dim=1)
        products, guesses, labels, sizes = (tensor.numpy() for tensor in fixed)
        weights = (self.temperature, self.support_weight, self.entropy_weight)

        def slopes(prototypes: Tensor, gradient: Tensor) -> None:
            moved = prototypes.numpy()
            logits(self.temperature, products, moved, sizes)
            scores.exp_()
            chances(products, guesses, labels, sizes)
            above.log_()
            score_slopes(weights, products, guesses, moved, gradient.numpy(), labels, sizes)

        return slopes

    def slopes_in_tensors(
        self,
        scores: Tensor,
        support: Support,
        queries: Queries,
        prototypes: Tensor,
        gradient: Tensor,
    ) -> None:
        """Turn products into the gradient for the scores, and begin that for the prototypes.

        The squares of the items are the same for every class, so the scores are without them; what
        the entropies add to every class alike is left out, since a softmax takes it away.

        Args:
            scores: `<w, x>` `[E, W, N + Q]`; becomes the gradient for `<w, x> - |w|^2 / 2`, but for
                the temperature.
            support, queries: what they are.
            prototypes: w, `[E, W, D]`.
            gradient: `[E, W, D]`; becomes what `|w|^2` adds to that for the prototypes.
        """
        squares = prototypes.square().sum(dim=2, keepdim=True)
        chances = softmax(support.only_real(self.temperature * (scores - squares / 2).mT))
        learned, guessed = chances.split([support.members.shape[1], queries.items.shape[1]], dim=1)
        certainty = self.support_weight * (learned - support.members) * support.shares
        counts = queries.items.sum(dim=1, keepdim=True).clamp(min=1).to(scores.dtype)
        shares = (queries.items / counts)[..., None]
        mean = (guessed * shares).sum(dim=1, keepdim=True)
        above = guessed + SMALL
        slopes = (mean + (mean == 0)).log() - self.entropy_weight * (above.log() + guessed / above)
        away = slopes - (guessed * slopes).sum(dim=2, keepdim=True)
        scores.copy_(torch.cat([certainty, guessed * away * shares], dim=1).mT)
        torch.mul(prototypes, -self.temperature * scores.sum(dim=2, keepdim=True), out=gradient)


@compiled
def logits(temperature: float, scores: Array, prototypes: Array, sizes: Integers) -> None:
    """Turn products into logits, of which the largest of each item is 0 and a padded class's -inf.

    Args:
        scores: `<w, x>` `[E, W, N + Q]`.
        prototypes: w, `[E, W, D]`.
        sizes: `[E, 3]`: how many support items, queries and classes are real.
    """
    largest = np.empty(scores.shape[2])
    for e in range(len(scores)):
        way = sizes[e, 2]
        largest[:] = -np.inf
        for c in range(way):
            half = np.dot(prototypes[e, c], prototypes[e, c]) / 2
            for n in range(len(largest)):
                scores[e, c, n] = temperature * (scores[e, c, n] - half)
                largest[n] = max(largest[n], scores[e, c, n])
        for c in range(way):
            for n in range(len(largest)):
                scores[e, c, n] -= largest[n]
        scores[e, way:] = -np.inf


@compiled
def chances(scores: Array, above: Array, labels: Integers, sizes: Integers) -> None:
    """Make exponentials `[E, W, N + Q]` sum to 1, and put those of the queries in `above`.

    Args:
        above: `[E, W, Q]`; becomes their chances and `SMALL`.
    """
    most, totals = labels.shape[1], np.empty(scores.shape[2])
    for e in range(len(scores)):
        totals[:] = 0
        for c in range(sizes[e, 2]):
            for n in range(len(totals)):
                totals[n] += scores[e, c, n]
        for n in range(len(totals)):
            totals[n] = 1 / totals[n]
        for c in range(len(scores[e])):
            for n in range(len(totals)):
                scores[e, c, n] *= totals[n]
            for q in range(above.shape[2]):
                above[e, c, q] = scores[e, c, most + q] + SMALL


@compiled
def score_slopes(
    weights: tuple[float, float, float],
    scores: Array,
    logs: Array,
    prototypes: Array,
    gradient: Array,
    labels: Integers,
    sizes: Integers,
) -> None:
    """Turn chances into the gradient for the scores, and begin that for prototypes.

    Args:
        weights: temperature, and those of support and entropy.
        scores: chances `[E, W, N + Q]`; becomes the gradient.
        logs: `[E, W, Q]` of the chances of the queries and `SMALL`.
        prototypes, gradient: `[E, W, D]`.
        labels: `[E, N]`.
        sizes: `[E, 3]`: how many support items, queries and classes are real.
    """
    temperature, support_weight, entropy_weight = weights
    most = labels.shape[1]
    for e in range(len(scores)):
        count, queries, way = sizes[e]
        for n in range(count):
            scores[e, labels[e, n], n] -= 1
        scores[e, :way, :count] *= support_weight / count
        pulls = np.zeros(queries)
        for c in range(way):
            guessed, slopes = scores[e, c, most : most + queries], logs[e, c, :queries]
            mean = guessed.sum() / max(queries, 1)
            log_mean = np.log(mean) if mean > 0 else 0.0
            for q in range(queries):
                share = guessed[q] / (guessed[q] + SMALL)
                slopes[q] = log_mean - entropy_weight * (slopes[q] + share)
                pulls[q] += guessed[q] * slopes[q]
        for c in range(way):
            guessed, slopes = scores[e, c, most : most + queries], logs[e, c, :queries]
            for q in range(queries):
                guessed[q] *= (slopes[q] - pulls[q]) / queries
        scores[e, way:] = 0
        scores[e, :, count:most] = 0
        scores[e, :, most + queries :] = 0
        for c in range(len(scores[e])):
            gradient[e, c] = (-temperature * scores[e, c].sum()) * prototypes[e, c]
