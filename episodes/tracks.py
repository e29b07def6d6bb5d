"""Whether the images of a class lie in the order in which they were filmed.

Traffic signs come as tracks of thirty frames of one physical sign. In records made before the
official converter shuffled them (November 2020) the frames of a track are neighbours, and a
method that reads support and query next to each other sees near-duplicates. Source: facts of
the official format, sections 2.3 and 6 (issue 54).

The test: the mean distance between the thumbnails of neighbouring records, against the same in
random orders of the same records. Sizes are not used: they repeat by chance. Thumbnails keep
the brightness, which differs more between tracks than within one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from episodes.images import Pixels

SIDE = 8
"""Of a thumbnail, in pixels."""
ORDERS = 199
"""Random orders that a class is compared with."""
FEWEST = 8
"""Smaller classes say nothing."""
MAX_RATIO = 0.75
"""Neighbours in tracks are at most this share of the random distance apart. Shuffled records
are near 1; frames of real tracks are well below a half."""
MAX_SCORE = -6.0
"""And at least six standard deviations below it: by chance once in a billion."""


@dataclass(frozen=True)
class Order:
    """How near neighbouring records are.

    Attributes:
        neighbours: sum of the distances of neighbouring thumbnails, in grey levels.
        expected, deviation: mean and standard deviation of that sum over random orders.
    """

    neighbours: float
    expected: float
    deviation: float

    @property
    def ratio(self) -> float:
        """Distance of neighbours as a share of the distance in random order; near 1 if shuffled."""
        return self.neighbours / self.expected

    @property
    def is_filmed(self) -> bool:
        """Whether the records lie in tracks, by both bounds."""
        below = self.neighbours - self.expected < MAX_SCORE * self.deviation
        return below and self.ratio < MAX_RATIO


def thumbnail(pixels: Pixels) -> Pixels:
    """Mean grey levels of a coarse grid: [height, width, 3] to [SIDE · SIDE]."""
    small = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small).reshape(-1)


def measure_order(thumbnails: Pixels) -> Order | None:
    """Compare the order of a class's records with random ones.

    Args:
        thumbnails: uint8 [n, SIDE · SIDE] in the order of the records.

    Returns:
        None for fewer than `FEWEST` images, or images that are all alike.
    """
    if len(thumbnails) < FEWEST:
        return None
    images = thumbnails.astype(np.float32)
    rng = np.random.default_rng(len(images))  # the same verdict every time
    sums = [_sum_of_steps(rng.permutation(images)) for _ in range(ORDERS)]
    expected, deviation = float(np.mean(sums)), float(np.std(sums))
    if deviation == 0:
        return None
    return Order(_sum_of_steps(images), expected, deviation)


def combine(orders: Sequence[Order]) -> Order | None:
    """The evidence of independent classes together; None when there is none."""
    if not orders:
        return None
    return Order(
        neighbours=sum(one.neighbours for one in orders),
        expected=sum(one.expected for one in orders),
        deviation=float(np.sqrt(sum(one.deviation**2 for one in orders))),
    )


def _sum_of_steps(images: npt.NDArray[np.float32]) -> float:
    steps = np.diff(images, axis=0)
    return float(np.sqrt((steps**2).mean(axis=1)).sum())
