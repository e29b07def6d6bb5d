"""The table of corruptions: 15 that count and 4 more, each at five severities.

Written against the published definitions, whose constants are for images of 224 pixels. Every
random number is a function of seed, corruption, severity and the image's own name, so the same
image is corrupted the same way whatever else is corrupted, where and when. Pixels are those in
memory: they have not been through the JPEG in which the released images are stored, and so are
another test than the release.

Source: Hendrycks & Dietterich 2019, section 4.1 and the code published with it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import RandomState

from episodes.faults import InputError, unknown_name
from fewshot.imagenet_c import blur, digital, noise, spatter, weather
from fewshot.imagenet_c.picture import Floats, Pixels, cut_to_levels

CORRUPTIONS_VERSION = 1
"""Rises with any change that moves a pixel."""
SIDE = 224
"""Pixels a side, for which the constants are meant."""
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes:
        family: noise, blur, weather or digital; "extra" for the four that do not count.
        apply: an image, the constants of a severity, a generator → the corrupted image, whose
            values may leave [0, 1].
        constants: one per severity.
    """

    family: str
    apply: Callable[[Floats, Any, RandomState], Floats]
    constants: tuple[Any, Any, Any, Any, Any]


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption("noise", noise.gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption("noise", noise.shot_noise, (60, 25, 12, 5, 3)),
    "impulse_noise": Corruption("noise", noise.impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": Corruption(
        "blur", blur.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
    ),
    "glass_blur": Corruption(
        "blur", blur.glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
    ),
    "motion_blur": Corruption(
        "blur", blur.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
    ),
    "zoom_blur": Corruption(
        "blur",
        blur.zoom_blur,
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "snow": Corruption(
        "weather",
        weather.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": Corruption(
        "weather", weather.frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
    ),
    "fog": Corruption("weather", weather.fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "brightness": Corruption("weather", digital.brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption("digital", digital.contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": Corruption(
        "digital",
        digital.elastic_transform,
        # 244, not 224: the released images were made so
        tuple(
            (244 * strength, 244 * sigma, 244 * reach)
            for strength, sigma, reach in (
                (2, 0.7, 0.1),
                (2, 0.08, 0.2),
                (0.05, 0.01, 0.02),
                (0.07, 0.01, 0.02),
                (0.12, 0.01, 0.02),
            )
        ),  # type: ignore[arg-type]
    ),
    "pixelate": Corruption("digital", digital.pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Corruption("digital", digital.jpeg_compression, (25, 18, 15, 10, 7)),
    "speckle_noise": Corruption("extra", noise.speckle_noise, (0.15, 0.2, 0.35, 0.45, 0.6)),
    "gaussian_blur": Corruption("extra", blur.gaussian_blur, (1, 2, 3, 4, 6)),
    "spatter": Corruption(
        "extra",
        spatter.spatter,
        (
            (0.65, 0.3, 4, 0.69, 0.6, "water"),
            (0.65, 0.3, 3, 0.68, 0.6, "water"),
            (0.65, 0.3, 2, 0.68, 0.5, "water"),
            (0.65, 0.3, 1, 0.65, 1.5, "mud"),
            (0.67, 0.4, 1, 0.65, 1.5, "mud"),
        ),
    ),
    "saturate": Corruption(
        "extra", digital.saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))
    ),
}
"""Corruptions by the names of their folders in the release, in its order."""

COUNTED = tuple(name for name, one in CORRUPTIONS.items() if one.family != "extra")
"""The 15 that the mean corruption error is over."""


def find_corruptions(names: Sequence[str]) -> tuple[str, ...]:
    """The corruptions asked for, in the order of the table; "all" is all of them.

    Raises:
        InputError: there is no such corruption, or none is named.
    """
    if tuple(names) == ("all",):
        return tuple(CORRUPTIONS)
    for name in names:
        if name not in CORRUPTIONS:
            raise unknown_name("corruption", name, ("all", *CORRUPTIONS))
    if not names:
        raise InputError("--corruptions is empty.", remedy="Name at least one.")
    return tuple(name for name in CORRUPTIONS if name in names)


def corruption_rng(name: str, severity: int, image: str, seed: int) -> RandomState:
    """The generator of one corrupted image: a function of its key alone."""
    key = f"imagenet-c/{CORRUPTIONS_VERSION}/{seed}/{name}/{severity}/{image}"
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).digest()
    return RandomState(np.frombuffer(digest, dtype="<u4"))


def corrupt(pixels: Pixels, name: str, severity: int, image: str, seed: int = 0) -> Pixels:
    """A corrupted copy of an image.

    Args:
        pixels: uint8 [224, 224, 3], RGB.
        name: of the corruption.
        severity: 1 to 5.
        image: the image's own name, e.g. "n01440764/ILSVRC2012_val_00000293.JPEG".
        seed: another one gives other random numbers.

    Returns:
        uint8 [224, 224, 3].

    Raises:
        InputError: no corruption has this name.
        ValueError: the image has another shape, or there is no such severity.
    """
    if name not in CORRUPTIONS:
        raise unknown_name("corruption", name, CORRUPTIONS)
    if pixels.shape != (SIDE, SIDE, 3) or severity not in SEVERITIES:
        raise ValueError(f"shape {pixels.shape}, severity {severity}")
    corruption = CORRUPTIONS[name]
    constants = corruption.constants[severity - 1]
    light = pixels.transpose(2, 0, 1) / 255
    rng = corruption_rng(name, severity, image, seed)
    corrupted = cut_to_levels(corruption.apply(light, constants, rng))
    return np.ascontiguousarray(corrupted.transpose(1, 2, 0))
