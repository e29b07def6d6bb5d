"""PT-MAP: prototypes and an optimal transport of the queries to them, in turns."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.images import compiled
from fewshot.heads.base import check_setting
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Queries, Size, Support
from fewshot.heads.geometry import unit

SMALL = 1e-6
"""Added to features before the root. Source: the paper's epsilon."""
TOLERANCE, MOST_ROUNDS = 1e-6, 1000

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PtMap(EpisodeHead):
    """Power transform and maximum a posteriori.

    Features are `sqrt(relu(f) + 1e-6)`, scaled to length 1, centred (support and queries each by
    their own mean) and scaled again. Then, in turns: queries are spread over the classes by
    Sinkhorn's optimal transport with the kernel exp(-sharpness * ||q - c||^2), each class
    receiving the same number of them; prototypes move by `step` towards the means of support
    items and assigned queries. Scores are a last transport.

    Source: Hu et al. 2021, "Leveraging the Feature Distribution in Transfer-based Few-Shot
    Learning", and its released code, whose lossless reduction of dimensions is left out.
    easy-few-shot-learning has `centre=false,rounds=30,step=0.3`.

    Prototypes are means of items, so their distances follow from the inner products of the items,
    which are computed once.

    Attributes:
        rounds: turns of transport and prototypes.
        step: how far prototypes move, 1 being all the way.
        sharpness: λ of the kernel.
        centre: whether features are centred and scaled once more.
    """

    name: ClassVar[str] = "pt_map"
    transductive: ClassVar[bool] = True
    rounds: int = 20
    step: float = 0.2
    sharpness: float = 10.0
    centre: bool = True

    def __post_init__(self) -> None:
        check_setting(self.rounds >= 0, self, "rounds is a count, 0 or more")
        check_setting(self.step > 0 and self.sharpness > 0, self, "step, sharpness are positive")

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        items = self.transform(support.features[0], support.items)

        def predict(queries: Queries) -> Tensor:
            query = self.transform(queries.features[0], queries.items)
            both = torch.cat([items, query], dim=1)
            products = both @ both.mT
            plan = query.new_zeros(len(query), support.members.shape[2], query.shape[1])
            parts = mean_parts(plan, support)
            for _ in range(self.rounds):
                plan = self.transport(parts, products, support, queries)
                parts = parts.lerp(mean_parts(plan, support), self.step)
            return self.transport(parts, products, support, queries).mT

        return predict

    def transform(self, features: Tensor, real: Tensor) -> Tensor:
        """Features `[E, N, D]` made more Gaussian; padded items stay zero."""
        powered = unit((features.relu() + SMALL).sqrt() * real[..., None])
        if not self.centre:
            return powered
        counts = real.sum(dim=1).clamp(min=1)[:, None, None]
        centred = powered - powered.sum(dim=1, keepdim=True) / counts
        return unit(centred * real[..., None])

    def transport(
        self, parts: Tensor, products: Tensor, support: Support, queries: Queries
    ) -> Tensor:
        """The plan `[E, W, Q]`: each query is one unit of mass, each class receives Q / W.

        Args:
            parts: `[E, W, N + Q]`, of the items in the prototypes.
            products: `[E, N + Q, N + Q]`, inner products of the items.
            support, queries: what they are.
        """
        inner = parts @ products
        squares = (inner * parts).sum(dim=2, keepdim=True)
        # As -||q - c||^2, but for a term of the query's own, which the transport takes away.
        nearness = 2 * inner[..., support.members.shape[1] :] - squares
        scores = support.only_real(self.sharpness * nearness.mT).mT
        kernel = (scores - scores.amax(dim=1, keepdim=True)).exp()
        sizes = torch.stack([queries.items.sum(dim=1), support.ways], dim=1)
        on_cpu = kernel.cpu().contiguous()
        balance(on_cpu.numpy(), sizes.cpu().numpy())
        return on_cpu.to(kernel.device)

    def numbers(self, size: Size) -> int:
        return super().numbers(size) + 2 * size.items**2


def mean_parts(plan: Tensor, support: Support) -> Tensor:
    """The part `[E, W, N + Q]` of each item in the class means, queries being spread by a plan."""
    members = torch.cat([support.members.mT, plan], dim=2)
    mass = members.sum(dim=2, keepdim=True)
    return members / torch.where(mass > 0, mass, 1.0)


@compiled
def balance(plans: Array, sizes: Integers) -> None:
    """Sinkhorn's algorithm: scale queries and classes of each plan until neither changes much.

    Compiled, on the CPU: a plan is small, and takes tens of rounds.

    Args:
        plans: `[E, W, Q]`, not negative, with a positive entry for every real query; changed in
            place, and 0 for padded queries and classes.
        sizes: `[E, 2]`: how many queries and classes are real.
    """
    for e in range(len(plans)):
        count, way = sizes[e]
        plan = plans[e, :way, :count].copy()
        of_query, of_class = np.full(count, 1 / plan.sum()), np.ones(way)
        before, masses = np.zeros(count), np.empty(count)
        for _ in range(MOST_ROUNDS):
            masses[:], moved = 0, 0.0
            for c in range(way):
                for q in range(count):
                    masses[q] += of_class[c] * plan[c, q]
            for q in range(count):
                mass = of_query[q] * masses[q]
                moved = max(moved, abs(before[q] - mass))
                before[q] = mass
            if not moved > TOLERANCE:
                break
            for q in range(count):
                of_query[q] = 1 / masses[q] if masses[q] > 0 else 0.0
            for c in range(way):
                received = np.dot(plan[c], of_query)
                of_class[c] = count / way / received if received > 0 else count / way
        plans[e] = 0
        for c in range(way):
            plans[e, c, :count] = of_class[c] * plan[c] * of_query
