"""Noise: Gaussian, shot, impulse, speckle. Images are float64 [3, height, width] in [0, 1].

What leaves that range is cut by `corruptions.corrupt`.
"""

import numpy as np
from numpy.random import RandomState

from fewshot.imagenet_c.picture import Floats


def gaussian_noise(image: Floats, scale: float, rng: RandomState) -> Floats:
    """Normal noise of this standard deviation, in every channel."""
    return image + rng.normal(0.0, scale, image.shape)


def shot_noise(image: Floats, photons: float, rng: RandomState) -> Floats:
    """Poisson noise of so many photons at white."""
    return rng.poisson(image * photons) / photons


def impulse_noise(image: Floats, amount: float, rng: RandomState) -> Floats:
    """Salt and pepper on this share of the values, half and half."""
    hit = rng.random_sample(image.shape) <= amount
    salt = rng.random_sample(image.shape) <= 0.5
    return np.where(hit, salt, image)


def speckle_noise(image: Floats, scale: float, rng: RandomState) -> Floats:
    """Normal noise in proportion to the value itself."""
    return image + image * rng.normal(0.0, scale, image.shape)
