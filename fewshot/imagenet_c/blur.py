"""Blur: defocus, glass, motion, zoom, Gaussian. Images are float64 [3, height, width] in [0, 1]."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numpy.random import RandomState
from scipy.ndimage import correlate1d, gaussian_filter1d
from scipy.signal import fftconvolve
from scipy.sparse import csr_array

from episodes.images import compiled
from fewshot.imagenet_c.picture import Border, Floats, Pixels, cut_to_levels

# ---- Gaussian --------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _gaussian_matrix(length: int, sigma: float, border: Border, truncate: float) -> Floats:
    """[length, length]: a Gaussian filter with its treatment of the borders is a matrix."""
    matrix: Floats = gaussian_filter1d(
        np.eye(length), sigma, axis=0, mode=border, truncate=truncate
    )
    return matrix


def smooth(
    image: Floats, sigma: float, border: Border = "nearest", truncate: float = 4.0
) -> Floats:
    """Gaussian filter over the last two axes, cut off at `truncate` standard deviations."""
    height, width = image.shape[-2:]
    down = _gaussian_matrix(height, sigma, border, truncate)
    across = _gaussian_matrix(width, sigma, border, truncate)
    smoothed: Floats = down @ image @ across.T
    return smoothed


def gaussian_blur(image: Floats, sigma: float, rng: RandomState) -> Floats:
    """Gaussian filter of this standard deviation, in pixels."""
    return smooth(image, sigma)


# ---- defocus ---------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def disk(radius: int, edge: float) -> Floats:
    """A disk of sum 1 whose edge is softened by a Gaussian of standard deviation `edge`."""
    reach = max(8, radius)
    steps = np.arange(-reach, reach + 1)
    inside = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.float64)
    half = 1 if radius <= 8 else 2
    row = np.exp(-(np.arange(-half, half + 1.0) ** 2) / (2 * edge**2))
    row /= row.sum()
    kernel = inside / inside.sum()
    for axis in (0, 1):
        kernel = correlate1d(kernel, row, axis=axis, mode="mirror")
    return kernel


def defocus_blur(image: Floats, lens: tuple[int, float], rng: RandomState) -> Floats:
    """Average over a disk. `lens`: its radius in pixels, the softness of its edge."""
    kernel = disk(*lens)
    margin = len(kernel) // 2
    padded = np.pad(image, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    blurred: Floats = fftconvolve(padded, kernel[None], mode="valid", axes=(1, 2))
    return blurred


# ---- glass -----------------------------------------------------------------------------------


@compiled
def _shuffle(pixels: Pixels, moves: npt.NDArray[np.int64], reach: int) -> None:
    """Let every pixel, from the last to the first, take the place of one nearby.

    The published code sets out to exchange the two but, working on views, copies one over the
    other; the released images were made so.
    """
    rounds, rows, columns = moves.shape[:3]
    height, width = pixels.shape[1:]
    for turn in range(rounds):
        for i in range(rows):
            for j in range(columns):
                y, x = height - reach - i, width - reach - j
                across, down = moves[turn, i, j]
                for channel in range(3):
                    pixels[channel, y, x] = pixels[channel, y + down, x + across]


def glass_blur(image: Floats, pane: tuple[float, int, int], rng: RandomState) -> Floats:
    """Pixels change places. `pane`: σ of the smoothing before and after, reach, rounds."""
    sigma, reach, rounds = pane
    pixels = cut_to_levels(smooth(image, sigma))
    height, width = image.shape[1:]
    inner = (rounds, height - 2 * reach, width - 2 * reach, 2)
    _shuffle(pixels, rng.randint(-reach, reach, inner), reach)
    return smooth(pixels / 255, sigma)


# ---- motion ----------------------------------------------------------------------------------


def drag(image: Floats, radius: int, sigma: float, angle: float) -> Floats:
    """Blur by a motion: half a Gaussian along a line of 2·radius + 1 whole-pixel steps.

    Borders are repeated; the result is rounded to whole grey levels.

    Args:
        image: [..., height, width].
        radius, sigma: of the Gaussian, in pixels.
        angle: of the line, in degrees.

    Source: the motion blur of ImageMagick, which the published definition calls.
    """
    height, width = image.shape[-2:]
    reach = 2 * radius
    margins = [(0, 0)] * (image.ndim - 2) + [(reach, reach)] * 2
    padded = np.pad(image, margins, mode="edge")
    steps = np.arange(reach + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    turn = np.deg2rad(angle)
    blurred = np.zeros_like(image)
    for step, weight in zip(steps, weights, strict=True):
        top, left = (reach + int(np.ceil(step * f(turn) - 0.5)) for f in (np.sin, np.cos))
        blurred += weight * padded[..., top : top + height, left : left + width]
    rounded: Floats = np.rint(blurred * 255) / 255
    return rounded


def motion_blur(image: Floats, motion: tuple[int, float], rng: RandomState) -> Floats:
    """A motion of random direction, within 45° of the horizontal. `motion`: radius and σ."""
    return drag(image, *motion, angle=rng.uniform(-45, 45))


# ---- zoom ------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _zoom_matrix(length: int, factor: float) -> csr_array:
    """[length, length]: cut out the middle and stretch it to at least `length`, linearly."""
    kept = int(np.ceil(length / factor))
    start = (length - kept) // 2
    stretched = round(kept * factor)
    trim = (stretched - length) // 2
    rows = np.arange(length)
    place = (rows + trim) * (kept - 1) / (stretched - 1)
    lower = np.minimum(np.floor(place).astype(np.int64), kept - 2)
    shares = np.concatenate([1 - (place - lower), place - lower])
    columns = np.concatenate([start + lower, start + lower + 1])
    return csr_array((shares, (np.concatenate([rows, rows]), columns)), (length, length))


def zoom(image: Floats, factor: float) -> Floats:
    """The middle of [height, width, n], enlarged to the same size."""
    height, width, planes = image.shape
    tall = _zoom_matrix(height, factor) @ image.reshape(height, width * planes)
    turned = tall.reshape(height, width, planes).transpose(1, 0, 2).reshape(width, -1)
    wide = _zoom_matrix(width, factor) @ turned
    enlarged: Floats = wide.reshape(width, height, planes).transpose(1, 0, 2)
    return enlarged


def zoom_blur(image: Floats, zooms: tuple[float, float], rng: RandomState) -> Floats:
    """Mean of the image and of its enlargements. `zooms`: bound and step of the factors from 1."""
    factors = np.arange(1, *zooms).tolist()
    interleaved = image.transpose(1, 2, 0)
    total = interleaved + sum(zoom(interleaved, factor) for factor in factors)
    return total.transpose(2, 0, 1) / (len(factors) + 1)
