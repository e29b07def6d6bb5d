"""Light and digital faults: brightness, contrast, elastic, pixelate, JPEG, saturate.

Images are float64 [3, height, width] in [0, 1].
"""

import io

import numpy as np
from numpy.random import RandomState
from PIL import Image
from scipy.ndimage import map_coordinates

from fewshot.imagenet_c.blur import smooth
from fewshot.imagenet_c.picture import Border, Floats, from_picture, to_picture


def brightness(image: Floats, more: float, rng: RandomState) -> Floats:
    """Raise the value of hue, saturation and value; the other two stay, so channels scale alike."""
    value = image.max(axis=0)
    raised = np.minimum(value + more, 1)
    black = value == 0
    return np.where(black, raised, image * (raised / np.where(black, 1, value)))


def contrast(image: Floats, share: float, rng: RandomState) -> Floats:
    """Draw every channel towards its mean."""
    means = image.mean(axis=(1, 2), keepdims=True)
    return (image - means) * share + means


def saturate(image: Floats, change: tuple[float, float], rng: RandomState) -> Floats:
    """Saturation times a factor plus a term. Greys have hue 0, red, as the definition has it."""
    factor, term = change
    value = image.max(axis=0)
    missing = value - image
    spread = missing.max(axis=0)
    grey = spread == 0
    saturation = spread / np.where(value == 0, 1, value)
    wanted = np.clip(saturation * factor + term, 0, 1)
    direction = missing / np.where(grey, 1, spread)
    direction[1:, grey] = 1
    return value * (1 - direction * wanted)


def elastic_transform(image: Floats, cloth: tuple[float, float, float], rng: RandomState) -> Floats:
    """An affine map of three points moved at random, then a smooth random displacement.

    `cloth`: strength and σ of the displacement, reach of the points' moves, in pixels.
    """
    strength, sigma, reach = cloth
    height, width = image.shape[1:]
    middle, arm = np.array([height, width]) // 2, min(height, width) // 3
    corners = middle + arm * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + rng.uniform(-reach, reach, (3, 2))
    # The map from where a pixel lands (x, y, 1) to where it comes from.
    back = np.linalg.solve(np.c_[moved, np.ones(3)], corners)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    from_x, from_y = (back[0, k] * x + back[1, k] * y + back[2, k] for k in (0, 1))
    bent = _sample(image, from_y, from_x, "mirror")
    across, down = (
        smooth(rng.uniform(-1, 1, (height, width)), sigma, "reflect", 3.0) * strength
        for _ in range(2)
    )
    return _sample(bent, y + down, x + across, "reflect")


def _sample(image: Floats, y: Floats, x: Floats, border: Border) -> Floats:
    """The image at these places, linearly interpolated."""
    return np.stack(
        [map_coordinates(plane, np.stack([y, x]), order=1, mode=border) for plane in image]
    )


def pixelate(image: Floats, share: float, rng: RandomState) -> Floats:
    """Shrink by averaging over boxes, then enlarge again."""
    height, width = image.shape[1:]
    small = to_picture(image).resize(
        (int(width * share), int(height * share)), Image.Resampling.BOX
    )
    return from_picture(small.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(image: Floats, quality: int, rng: RandomState) -> Floats:
    """Through a JPEG of this quality and back."""
    buffer = io.BytesIO()
    to_picture(image).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as opened:
        return from_picture(opened)
