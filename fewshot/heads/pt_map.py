"""PT-MAP: prototypes and an optimal transport of the queries to them, in turns."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.images import compiled
from fewshot.heads.base import check_setting
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Queries, Support
from fewshot.heads.geometry import class_means, squared_distances, unit

SMALL = 1e-6
"""Added to features before the root. Source: the paper's epsilon."""
TOLERANCE, MOST_ROUNDS = 1e-6, 1000
TINY = float(np.finfo(np.float64).tiny)

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
            prototypes = class_means(items, support.members)
            for _ in range(self.rounds):
                plan = self.transport(query, prototypes, support, queries)
                means = class_means(both, torch.cat([support.members, plan], dim=1))
                prototypes = prototypes + self.step * (means - prototypes)
            return self.transport(query, prototypes, support, queries)

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
        self, query: Tensor, prototypes: Tensor, support: Support, queries: Queries
    ) -> Tensor:
        """The plan `[E, Q, W]`: each query is one unit of mass, each class receives Q / W."""
        kernel = -self.sharpness * squared_distances(query, prototypes)
        plan = support.only_real(kernel).exp() * queries.items[..., None]
        sizes = torch.stack([queries.items.sum(dim=1), support.ways], dim=1)
        on_cpu = plan.cpu().contiguous()
        balance(on_cpu.numpy(), sizes.cpu().numpy())
        return on_cpu.to(plan.device)


@compiled
def balance(plans: Array, sizes: Integers) -> None:
    """Sinkhorn's algorithm: scale rows and columns of each plan until neither changes much.

    Compiled, on the CPU: a plan is small, and takes tens of rounds.

    Args:
        plans: `[E, Q, W]`, positive; changed in place.
        sizes: `[E, 2]`: how many queries and classes are real.
    """
    for e in range(len(plans)):
        count, way = sizes[e]
        plan = plans[e, :count]
        plan /= max(plan.sum(), TINY)
        before = np.zeros(count)
        received = np.empty(way)
        for _ in range(MOST_ROUNDS):
            moved = 0.0
            received[:] = 0
            for q in range(count):
                mass = plan[q].sum()
                moved = max(moved, abs(before[q] - mass))
                before[q] = mass
            if not moved > TOLERANCE:
                break
            for q in range(count):
                row = plan[q, :way]
                if before[q] > 0:
                    row /= before[q]
                received += row
            for c in range(way):
                received[c] = count / way / received[c] if received[c] > 0 else count / way
            for q in range(count):
                plan[q, :way] *= received
