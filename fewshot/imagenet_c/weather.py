"""Weather: snow, frost, fog. Images are float64 [3, height, width] in [0, 1]."""

import numpy as np
from numpy.random import RandomState

from fewshot.imagenet_c.blur import drag, zoom
from fewshot.imagenet_c.frost import FROSTS, draw_frost
from fewshot.imagenet_c.picture import Floats, cut_to_levels

GREY = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in luminance (ITU-R BT.601)."""


def snow(
    image: Floats,
    fall: tuple[float, float, float, float, int, float, float],
    rng: RandomState,
) -> Floats:
    """Dragged flakes over a whitened image.

    `fall`: mean and standard deviation of the noise that flakes are made of, their enlargement,
    the threshold below which there is none, radius and σ of their motion, share of the image.
    """
    mean, deviation, enlargement, threshold, radius, sigma, share = fall
    flakes = rng.normal(mean, deviation, image.shape[1:])
    flakes = zoom(flakes[:, :, None], enlargement)[:, :, 0]
    flakes = cut_to_levels(np.where(flakes < threshold, 0, flakes)) / 255
    flakes = drag(flakes, radius, sigma, angle=rng.uniform(-135, -45))
    grey = np.tensordot(GREY, image, axes=1)
    whitened = share * image + (1 - share) * np.maximum(image, grey * 1.5 + 0.5)
    return whitened + flakes + np.rot90(flakes, 2)


def frost(image: Floats, mix: tuple[float, float], rng: RandomState) -> Floats:
    """A window with frost on it. `mix`: weights of the image and of the frost."""
    pane = draw_frost(int(rng.randint(len(FROSTS))))
    height, width = image.shape[1:]
    top = rng.randint(0, pane.shape[1] - height)
    left = rng.randint(0, pane.shape[2] - width)
    return mix[0] * image + mix[1] * pane[:, top : top + height, left : left + width]


def fog(image: Floats, bank: tuple[float, float], rng: RandomState) -> Floats:
    """Add a plasma fractal and darken to the old brightest value. `bank`: strength, decay."""
    strength, decay = bank
    height, width = image.shape[1:]
    side = 1 << (max(height, width) - 1).bit_length()
    brightest = image.max()
    veiled = image + strength * plasma(side, decay, rng)[:height, :width]
    fogged: Floats = veiled * brightest / (brightest + strength)
    return fogged


def plasma(side: int, decay: float, rng: RandomState) -> Floats:
    """A height map in [0, 1] by the diamond-square algorithm on a torus.

    Args:
        side: of the map, a power of two.
        decay: by which the random part falls from one scale to the next.
        rng: draws it.
    """
    heights = np.zeros((side, side))
    step, wobble = side, 100.0

    def disturbed(sums: Floats) -> Floats:
        return sums / 4 + wobble * rng.uniform(-wobble, wobble, sums.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        above = corners + np.roll(corners, -1, axis=0)
        heights[half::step, half::step] = disturbed(above + np.roll(above, -1, axis=1))
        centres = heights[half::step, half::step]
        beside = corners + np.roll(corners, -1, axis=1)
        heights[::step, half::step] = disturbed(centres + np.roll(centres, 1, axis=0) + beside)
        beside = corners + np.roll(corners, -1, axis=0)
        heights[half::step, ::step] = disturbed(centres + np.roll(centres, 1, axis=1) + beside)
        step, wobble = half, wobble / decay
    heights -= heights.min()
    return heights / heights.max()
