"""Frost on a window, drawn.

The published corruption crops photographs of frozen windows that are not ours to hand on. These
are drawn instead, with the photographs' mean colours and contrasts: needles that grow in sheaves
over a cloudy ground. So frost made here is another picture than released frost of the same
weight in the mix.
"""

from functools import lru_cache

import numpy as np
from numpy.random import RandomState
from scipy.ndimage import gaussian_filter

from fewshot.imagenet_c.picture import Floats

FROSTS = (
    ((78, 149, 166), 18),
    ((201, 205, 214), 22),
    ((201, 205, 214), 22),
    ((138, 153, 165), 29),
    ((112, 123, 135), 43),
)
"""Mean colour and standard deviation, in grey levels, of the five published photographs that are
used (the sixth never is)."""
HEIGHT, WIDTH = 320, 480
SHEAVES = 70


@lru_cache(maxsize=len(FROSTS))
def draw_frost(number: int) -> Floats:
    """One of the frosted panes: float64 [3, 320, 480] in [0, 1], the same every time."""
    rng = RandomState([2019, number])
    colour, deviation = FROSTS[number]
    ice = _clouds(rng) + 0.9 * _needles(rng)
    ice = (ice - ice.mean()) / ice.std()
    levels = np.array(colour)[:, None, None] + deviation * ice
    return np.clip(levels / 255, 0, 1)


def _clouds(rng: RandomState) -> Floats:
    """Smooth noise of four octaves, standard deviation 1."""
    clouds = np.zeros((HEIGHT, WIDTH))
    for sigma, weight in ((1.5, 0.5), (4, 0.6), (12, 0.8), (36, 1.0)):
        octave = gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), sigma, mode="wrap")
        clouds += weight * octave / octave.std()
    return clouds / clouds.std()


def _needles(rng: RandomState) -> Floats:
    """Sheaves of branching needles, standard deviation 1."""
    pane = np.zeros((HEIGHT, WIDTH))
    for _ in range(SHEAVES):
        root = rng.uniform(0, 1, 2) * (HEIGHT, WIDTH)
        heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(60, 160)
        for spread in rng.normal(0, 0.25, 6):
            _grow(pane, root, heading + spread, length * rng.uniform(0.5, 1), rng, branches=2)
    fine, broad = gaussian_filter(pane, 0.7), gaussian_filter(pane, 2.5)
    grown = np.sqrt(fine) + np.sqrt(broad)
    needles: Floats = grown / grown.std()
    return needles


def _grow(
    pane: Floats, root: Floats, heading: float, length: float, rng: RandomState, branches: int
) -> None:
    """One needle and, to either side at 60°, its branches."""
    along = np.arange(0, length, 0.5)
    direction = np.array([np.sin(heading), np.cos(heading)])
    places = root + along[:, None] * direction
    rows, columns = (places.astype(np.int64) % (HEIGHT, WIDTH)).T
    np.maximum.at(pane, (rows, columns), 1 - along / length)
    if branches == 0 or length < 12:
        return
    for start in rng.uniform(0.1, 0.9, 5):
        side = np.pi / 3 * rng.choice((-1.0, 1.0))
        branch = length * (1 - start) * 0.5
        _grow(pane, root + start * length * direction, heading + side, branch, rng, branches - 1)
