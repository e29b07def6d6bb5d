"""Bytes to pixels, by the benchmark's own rule.

The rule `official`: decode with libjpeg's fast integer DCT, stretch to a square with bilinear
interpolation on aligned corners and no low-pass filter, scale to [−1, 1]. Equal to the pixels
of the benchmark's TensorFlow pipeline (facts, section 4.4).
"""

import io
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

IMAGE_RULES = ("official",)
JPEG_START = b"\xff\xd8"


def decode(image: bytes) -> Pixels:
    """An encoded image as [height, width, 3] RGB; grey images have three equal channels.

    The format is told by the content: JPEG, or PNG, GIF and BMP as in the official decoder.

    Raises:
        ValueError: the bytes do not decode.
    """
    if image[:2] == JPEG_START:
        return _decode_jpeg(image)
    return _decode_with_pillow(image, ("PNG", "GIF", "BMP"))


def _decode_jpeg(image: bytes) -> Pixels:
    # These two settings are TensorFlow's: fast DCT, fancy up-sampling of the chroma.
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(image, "RGB", fastdct=True, fastupsample=False)
    except ValueError as error:
        # Stray bytes between markers (as in a few ImageNet files) leave the picture whole, and
        # TensorFlow accepts them; simplejpeg cannot. Pillow can, with the accurate DCT, which
        # is a few grey levels away. A picture that ends early is refused by all.
        if "extraneous" not in str(error):
            raise
        return _decode_with_pillow(image, ("JPEG",))
    return pixels


def _decode_with_pillow(image: bytes, formats: tuple[str, ...]) -> Pixels:
    try:
        with Image.open(io.BytesIO(image), formats=formats) as opened:
            return np.asarray(opened.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("neither JPEG, PNG, GIF nor BMP, or damaged") from error


@lru_cache(maxsize=4096)
def _grid(length: int, size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    """Lower and upper source positions of `size` aligned-corner samples, and the lerp between."""
    scale = np.float32(length - 1) / np.float32(size - 1) if size > 1 else np.float32(length)
    position = np.arange(size, dtype=np.float32) * scale
    lower = np.floor(position).astype(np.intp)
    upper = np.minimum(lower + 1, length - 1)
    return lower, upper, position - lower.astype(np.float32)


def resize_official(pixels: Pixels, size: int) -> Floats:
    """Stretch to [size, size, 3], bilinear with aligned corners, in float32, not rounded.

    Only the pixels that take part are converted; the order of operations (along the width,
    then the height, a + (b − a)·f) is the official one, so results are equal to the last bit.
    """
    top, bottom, down = _grid(pixels.shape[0], size)
    left, right, across = _grid(pixels.shape[1], size)

    def along_width(rows: Pixels) -> Floats:
        start = rows[:, left].astype(np.float32)
        return start + (rows[:, right] - start) * across[:, None]

    upper = along_width(pixels[top])
    return upper + (along_width(pixels[bottom]) - upper) * down[:, None, None]


def to_unit_range(pixels: Floats) -> Floats:
    """0…255 to [−1, 1], with the official order of operations."""
    return np.float32(2.0) * (pixels / np.float32(255.0) - np.float32(0.5))


def load_image(image: bytes, size: int) -> Floats:
    """An encoded image as float32 [3, size, size] in [−1, 1], by the rule `official`.

    Raises:
        ValueError: the bytes do not decode.
    """
    square = to_unit_range(resize_official(decode(image), size))
    return np.ascontiguousarray(square.transpose(2, 0, 1))
