"""The bytes of an image in a record: a JPEG file as it is, or encoded by Pillow's defaults.

Source: facts of the official format, section 1.2. An image is encoded again if, and only if, it is
no JPEG, is not RGB, is cropped or is inverted; otherwise the bytes of its file are kept.
"""

import io
import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
"""Kinds of files that are opened; the benchmark's sources hold the first five."""
END_OF_JPEG = b"\xff\xd9"
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for a file that is no image, or a damaged one."""
Box = tuple[int, int, int, int]


class Unreadable(Exception):
    """An image that cannot be decoded; says why."""


def record_image(content: bytes, box: Box | None = None, invert: bool = False) -> bytes:
    """The bytes that the record of an image file holds.

    Args:
        content: of the file.
        box: left, upper, right, lower in pixels; what to crop.
        invert: every grey level g becomes 255 − g, after cropping.

    Raises:
        Unreadable: the file is no image, is cut off, or (where it has to be decoded) is damaged.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        as_it_is = image.format == "JPEG" and image.mode == "RGB" and box is None and not invert
        if as_it_is and not content.rstrip(b"\0").endswith(END_OF_JPEG):
            image.load()  # tells whether it is cut off, or only has bytes behind its end
        return content if as_it_is else encode(_change(image, box, invert))
    except UNREADABLE as error:
        raise Unreadable(str(error) or type(error).__name__) from error


def open_rgb(content: bytes) -> Image.Image:
    """A decoded image.

    Raises:
        Unreadable: the file is no image, or a damaged one.
    """
    try:
        return _change(Image.open(io.BytesIO(content), formats=FORMATS), None, False)
    except UNREADABLE as error:
        raise Unreadable(str(error) or type(error).__name__) from error


def _change(image: Image.Image, box: Box | None, invert: bool) -> Image.Image:
    changed = image.convert("RGB")
    if box is not None:
        changed = changed.crop(box)
    return ImageOps.invert(changed) if invert else changed


def encode(image: Image.Image) -> bytes:
    """JPEG by Pillow's defaults: quality 75, 4:2:0."""
    stream = io.BytesIO()
    image.save(stream, "JPEG")
    return stream.getvalue()


def encode_pixels(pixels: npt.NDArray[np.uint8], resized: int | None = None) -> bytes:
    """A record's image from an array.

    Args:
        pixels: [height, width] grey, or [height, width, 3].
        resized: side in pixels to resize to first, by Pillow's Lanczos filter.
    """
    image = Image.fromarray(pixels).convert("RGB")
    if resized is not None:
        image = image.resize((resized, resized), resample=Image.Resampling.LANCZOS)
    return encode(image)


def pillow_version() -> str:
    """What decides the bytes of encoded images: Pillow, and the JPEG library in it."""
    from PIL import __version__, features

    library: Callable[[str], str | None] = features.version_feature
    return f"{__version__}, libjpeg-turbo {library('libjpeg_turbo') or 'none'}"
