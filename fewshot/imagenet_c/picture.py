"""What a corruption works on: light in [0, 1], and whole grey levels."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float64]
"""An image is [3, height, width], RGB, in [0, 1]."""
Pixels = npt.NDArray[np.uint8]
Border = Literal["nearest", "reflect", "mirror"]
"""What lies beyond the border, in scipy's words."""

ROUNDING = 1e-6
"""In grey levels: what is a whole level but for rounding errors is not cut to the one below, so
that the pixels do not depend on the processor."""


def cut_to_levels(image: Floats) -> Pixels:
    """Grey levels 0 to 255, cut to whole ones as the published definitions do, not rounded."""
    return (np.clip(image, 0, 1) * 255 + ROUNDING).astype(np.uint8)


def to_picture(image: Floats) -> Image.Image:
    """For Pillow."""
    return Image.fromarray(np.ascontiguousarray(cut_to_levels(image).transpose(1, 2, 0)))


def from_picture(picture: Image.Image) -> Floats:
    """From Pillow."""
    return np.asarray(picture, dtype=np.float64).transpose(2, 0, 1) / 255
