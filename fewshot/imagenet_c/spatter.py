"""Spatter: drops of water or mud on the lens. Images are float64 [3, height, width] in [0, 1].

The published definition is written in calls of OpenCV; the same operations are spelled out here.
One differs: distances to the rim of a drop are exact, where OpenCV approximates within 2 %.
"""

import numpy as np
import numpy.typing as npt
from numpy.random import RandomState
from scipy.ndimage import correlate, distance_transform_edt, label, sobel, uniform_filter

from fewshot.imagenet_c.blur import smooth
from fewshot.imagenet_c.picture import Floats, Pixels

WATER = np.array([175, 238, 238]) / 255  # pale turquoise
MUD = np.array([63, 42, 20]) / 255
EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
FARTHEST = 20  # pixels from the rim, beyond which a drop is as in its middle
WEAK_EDGE, STRONG_EDGE = 50, 150
TAN_22 = 13573  # tan 22.5° in units of 2⁻¹⁵

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


def spatter(
    image: Floats, drops: tuple[float, float, float, float, float, str], rng: RandomState
) -> Floats:
    """Drops where smoothed noise exceeds a threshold.

    `drops`: mean and standard deviation of the noise, σ of its smoothing, the threshold, opacity
    of water or softness of mud, and which of the two.
    """
    mean, deviation, sigma, threshold, finish, liquid = drops
    depth = smooth(rng.normal(mean, deviation, image.shape[1:]), sigma)
    depth[depth < threshold] = 0
    if liquid == "mud":
        cover = smooth((depth > threshold).astype(np.float64), finish)
        cover[cover < 0.8] = 0
        return image * (1 - cover) + MUD[:, None, None] * cover
    # More than 1 wraps around in eight bits, as in the published code.
    wet = (depth * 255).astype(np.int64).astype(np.uint8)
    light = wet * _reflection(wet).astype(np.float64)
    if light.max() > 0:
        light *= finish / light.max()
    return image + WATER[:, None, None] * light


def _reflection(wet: Pixels) -> Pixels:
    """How drops shine: distance from their rims, equalised and embossed."""
    rims = find_edges(wet)
    distance = np.full(wet.shape, float(FARTHEST))
    if rims.any():
        distance = np.minimum(distance_transform_edt(~rims), FARTHEST)
    levels = uniform_filter(distance, 3, mode="mirror").astype(np.uint8)
    equal = equalise(levels).astype(np.float64)
    embossed = np.clip(correlate(equal, EMBOSS, mode="mirror"), 0, 255)
    return np.rint(uniform_filter(embossed, 3, mode="mirror")).astype(np.uint8)


def equalise(levels: Pixels) -> Pixels:
    """Grey levels by their rank, as OpenCV's equalizeHist: the darkest becomes 0."""
    counts = np.bincount(levels.ravel(), minlength=256)
    darkest = int(np.flatnonzero(counts)[0])
    others = levels.size - counts[darkest]
    if others == 0:
        return levels
    counts[darkest] = 0
    table = np.rint(np.cumsum(counts) * (255 / others))
    return table.astype(np.uint8)[levels]


def find_edges(levels: Pixels) -> Mask:
    """Edges by Canny's method with the weak threshold 50, the strong 150, and |gx| + |gy|."""
    plane = levels.astype(np.int64)
    across: Integers = sobel(plane, axis=1, mode="nearest")
    down: Integers = sobel(plane, axis=0, mode="nearest")
    strength = np.abs(across) + np.abs(down)
    ringed = np.pad(strength, 1)

    def beside(rows: int, columns: int) -> Integers:
        height, width = strength.shape
        return ringed[1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    steep, flat = np.abs(down) << 15, np.abs(across) * TAN_22
    horizontal = steep < flat
    vertical = steep > flat + (np.abs(across) << 16)
    falling = (across ^ down) < 0
    crest = np.where(
        horizontal,
        (strength > beside(0, -1)) & (strength >= beside(0, 1)),
        np.where(
            vertical,
            (strength > beside(-1, 0)) & (strength >= beside(1, 0)),
            np.where(
                falling,
                (strength > beside(-1, 1)) & (strength > beside(1, -1)),
                (strength > beside(-1, -1)) & (strength > beside(1, 1)),
            ),
        ),
    )
    weak = crest & (strength > WEAK_EDGE)
    groups, _ = label(weak, structure=np.ones((3, 3)))
    strong = np.unique(groups[weak & (strength > STRONG_EDGE)])
    edges: Mask = np.isin(groups, strong[strong > 0])
    return edges
