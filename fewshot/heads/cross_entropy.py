"""The cross-entropy of linear scores on the support sets of many episodes, for descent on weights.

A step of descent on frozen features is two small matrix products, and between them a softmax over
few classes. Written as PyTorch's operations it spends most of its time on starting them, so on a
CPU what is between the products is compiled, and no step allocates memory. Scores are kept class by
class, `[E, W, N]`: the loops over items are the inner ones, of which the processor does several
at a time.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.images import compiled
from fewshot.heads.batch import Support

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


class SupportLoss:
    """The mean cross-entropy of each episode's support items for the scores `scale <w, x>`.

    Args:
        items: x, `[E, N, D]`.
        support: whose labels these are.
        scale: of the scores.

    Attributes:
        arrays: what is compiled works on; none if nothing is.
    """

    def __init__(self, items: Tensor, support: Support, scale: float = 1.0) -> None:
        self.items, self.columns = items.contiguous(), items.mT.contiguous()
        self.support, self.scale = support, scale
        self.scores = items.new_empty(len(items), support.members.shape[2], items.shape[1])
        sizes = torch.stack([support.items.sum(dim=1), support.ways], dim=1)
        parts = (self.scores, support.labels, sizes)
        on_cpu = items.device.type == "cpu"
        self.arrays = [part.numpy() for part in parts] if on_cpu else []

    def slope(self, weights: Tensor, gradient: Tensor) -> None:
        """Put the gradient for weights `[E, W, D]` into a tensor of their shape."""
        torch.bmm(weights, self.columns, out=self.scores)
        if self.arrays:
            cross_entropy_slopes(self.scale, *self.arrays)
        else:
            slopes = self.support.score_gradient(self.scale * self.scores.mT)
            self.scores.copy_(self.scale * slopes.mT)
        torch.bmm(self.scores, self.items, out=gradient)


@compiled
def cross_entropy_slopes(scale: float, scores: Array, labels: Integers, sizes: Integers) -> None:
    """Turn `<w, x>` `[E, W, N]` into the gradient for them: scale * (softmax - one-hot) / N.

    Args:
        labels: `[E, N]`.
        sizes: `[E, 2]`: how many items and classes are real.
    """
    for e in range(len(scores)):
        count, way = sizes[e]
        softmax_columns(scores[e, :way, :count], scale)
        scores[e, way:] = 0
        scores[e, :, count:] = 0
        for n in range(count):
            scores[e, labels[e, n], n] -= 1
        scores[e] *= scale / count


@compiled
def softmax_columns(scores: Array, scale: float) -> None:
    """Turn scores `[W, N]` into the softmax over the classes of them times a scale."""
    way, count = scores.shape
    largest, totals = np.full(count, -np.inf), np.zeros(count)
    for c in range(way):
        for n in range(count):
            scores[c, n] *= scale
            largest[n] = max(largest[n], scores[c, n])
    for c in range(way):
        for n in range(count):
            scores[c, n] = np.exp(scores[c, n] - largest[n])
            totals[n] += scores[c, n]
    for n in range(count):
        totals[n] = 1 / totals[n]
    for c in range(way):
        for n in range(count):
            scores[c, n] *= totals[n]
