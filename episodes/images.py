"""Bytes to pixels, by one of three image rules.

`official`: the benchmark's own. Decode with libjpeg's fast integer DCT, stretch to a square with
bilinear interpolation on aligned corners and no low-pass filter, not rounded. Equal to the
pixels of the benchmark's TensorFlow pipeline to the last bit (facts, section 4.4).

`official_rounded`: the same, rounded to whole grey levels (half to even), so that an image is
stored in a quarter of the bytes. No value is more than half a level (1/255 of the range) away
from `official`; results under the two rules are not the same numbers.

`antialiased`: the same size by a low-passed resize: bilinear (triangle) filter whose support
grows with the reduction, half-pixel centres, rounded to whole grey levels. A JPEG that is far
larger than asked for is decoded at 1/2, 1/4 or 1/8 (see `SPARE`). Computed by torch's 8-bit
kernel; processors without AVX2 may round single values the other way.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.uint32]
Function = TypeVar("Function", bound=Callable[..., Any])

JPEG_START = b"\xff\xd8"
SPARE = 3
"""The decoder's own scaling leaves at least this many times the pixels asked for along each side.
The triangle filter then removes nearly all in which scaled and full decoding differ."""


MOST_PIXELS = 178_956_970
"""Pillow refuses images of more; a file of few bytes can claim to be as large as it likes."""


# ---- decoding --------------------------------------------------------------------------------


def decode(image: bytes, spare_size: int | None = None) -> Pixels:
    """An encoded image as [height, width, 3] RGB; grey images have three equal channels.

    The format is told by the content: JPEG, or PNG, GIF and BMP as in the official decoder.

    Args:
        image: the encoded bytes.
        spare_size: a JPEG may be decoded at 1/2, 1/4 or 1/8 if both sides stay at least this
            long, in pixels; None decodes in full.

    Raises:
        ValueError: the bytes do not decode.
    """
    if image[:2] == JPEG_START:
        _refuse_giants(image)
        return _decode_jpeg(image, *_scaled_shape(image, spare_size) if spare_size else (0, 0))
    return _decode_with_pillow(image, ("PNG", "GIF", "BMP"))


def _jpeg_shape(image: bytes) -> tuple[int, int]:
    """Height and width that a JPEG claims; zeros where decoding will say what is wrong."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(image, strict=False)
    except (ValueError, KeyError):  # KeyError: of a header without colours
        return 0, 0
    return height, width


def _refuse_giants(image: bytes) -> None:
    height, width = _jpeg_shape(image)
    if height * width > MOST_PIXELS:
        raise ValueError(f"an image of {width} × {height} pixels is larger than any photograph")


def _scaled_shape(image: bytes, spare_size: int) -> tuple[int, int]:
    """Height and width of the smallest fast decoding that is large enough; (0, 0): in full."""
    height, width = _jpeg_shape(image)
    for parts in (8, 4, 2):
        scaled = -(-height // parts), -(-width // parts)
        if min(scaled) >= spare_size:
            return scaled
    return 0, 0


def _decode_jpeg(image: bytes, min_height: int, min_width: int) -> Pixels:
    # These two settings are TensorFlow's: fast DCT, fancy up-sampling of the chroma.
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(
            image,
            "RGB",
            fastdct=True,
            fastupsample=False,
            min_height=min_height,
            min_width=min_width,
        )
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
            if opened.mode.startswith("I"):  # grey of 16 bits, which `convert` would clip to white
                return np.repeat((np.asarray(opened) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
            return np.array(opened.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("neither JPEG, PNG, GIF nor BMP, or damaged") from error


# ---- the official resize ---------------------------------------------------------------------


def compiled(function: Function) -> Function:
    """Compile for the processor: other threads run meanwhile, and no temporary arrays.

    Compiled once per installation where its folder or the user's cache can be written, else
    once per process. Without `fastmath`: every operation is rounded as IEEE 754 says, and x / 0
    is infinite, which lets divisions run side by side.
    """
    compiler = partial(numba.njit, nogil=True, error_model="numpy")
    try:
        return cast(Function, compiler(cache=True)(function))
    except RuntimeError:  # no folder to keep it in
        return cast(Function, compiler()(function))


@lru_cache(maxsize=4096)
def _grid(length: int, size: int, channels: int) -> tuple[Places, Places, Floats]:
    """Lower and upper source positions of `size` aligned-corner samples, and the lerp between.

    Returns:
        Three arrays [channels · size], one channel after the other; positions are those in a
        line of interleaved channels.
    """
    scale = np.float32(length - 1) / np.float32(size - 1) if size > 1 else np.float32(length)
    position = np.arange(size, dtype=np.float32) * scale
    lower = np.floor(position).astype(np.int64)
    upper = np.minimum(lower + 1, length - 1)
    lerp = position - lower.astype(np.float32)
    channel = np.arange(channels)[:, None]

    def interleaved(places: npt.NDArray[np.int64]) -> Places:
        return (places * channels + channel).astype(np.uint32).ravel()

    return interleaved(lower), interleaved(upper), np.tile(lerp, channels)


@compiled
def _is_grey(pixels: Pixels) -> bool:
    """Whether the three channels of interleaved [height, 3 · width] are equal."""
    # Neighbours within a pixel must not differ; whole rows at once, as the processor likes it.
    within = np.full(pixels.shape[1] - 1, 255, np.uint8)
    within[2::3] = 0
    for row in pixels:
        difference = np.uint8(0)
        for k in range(len(within)):
            difference |= (row[k] ^ row[k + 1]) & within[k]
        if difference:
            return False
    return True


@compiled
def _lerp(  # noqa: PLR0913
    pixels: Pixels,
    top: Places,
    bottom: Places,
    down: Floats,
    left: Places,
    right: Places,
    across: Floats,
    unit: np.float32,
    zero: np.float32,
    out: Floats,
) -> None:
    """Interleaved [height, 3 · width] to planar [3, size, size], as value / unit − zero.

    The order of operations (along the width, then the height, a + (b − a)·f, in float32) is the
    official one, so results are equal to the last bit. Of a grey picture (all of Omniglot and
    QuickDraw), one channel is computed.
    """
    size = len(top)
    channels = 1 if _is_grey(pixels) else 3
    # Two source rows, resized along the width; each is used for all rows that it takes part in.
    rows = np.empty((2, channels * size), np.float32)
    held = np.full(2, -1, np.int64)
    for i in range(size):
        upper = 0 if held[0] == top[i] else 1
        lower = 1 - upper
        for which, source in ((upper, top[i]), (lower, bottom[i])):
            if held[which] == source:
                continue
            held[which] = source
            row, resized = pixels[source], rows[which]
            for k in range(channels * size):
                start = np.float32(row[left[k]])
                resized[k] = start + (np.float32(row[right[k]]) - start) * across[k]
        for channel in range(channels):
            above = rows[upper, channel * size : (channel + 1) * size]
            below = rows[lower, channel * size : (channel + 1) * size]
            line = out[channel, i]
            for j in range(size):
                line[j] = (above[j] + (below[j] - above[j]) * down[i]) / unit - zero
    for channel in range(channels, 3):
        out[channel] = out[0]


def _resize(pixels: Pixels, out: Floats, unit: float, zero: float) -> None:
    height, width, _ = pixels.shape
    flat = pixels.reshape(height, width * 3)
    rows, columns = _grid(height, out.shape[1], 1), _grid(width, out.shape[1], 3)
    _lerp(flat, *rows, *columns, np.float32(unit), np.float32(zero), out)


def resize_official(pixels: Pixels, size: int) -> Floats:
    """Stretch [height, width, 3] to [size, size, 3], bilinear with aligned corners.

    Returns:
        float32 grey levels, not rounded.
    """
    out = np.empty((3, size, size), dtype=np.float32)
    _resize(np.require(pixels, np.uint8, ["C", "W"]), out, 1.0, 0.0)
    return out.transpose(1, 2, 0)


# ---- image rules -----------------------------------------------------------------------------


def _load_official(image: bytes, out: Floats) -> None:
    # 2 · (x / 255 − 0.5) and x / 127.5 − 1 are equal to the last bit: doubling is exact.
    _resize(decode(image), out, 127.5, 1.0)


def _resize_rounded(pixels: Pixels, out: Pixels) -> None:
    np.rint(resize_official(pixels, out.shape[1]).transpose(2, 0, 1), out, casting="unsafe")


def _load_rounded(image: bytes, out: Pixels) -> None:
    _resize_rounded(decode(image), out)


def _resize_antialiased(pixels: Pixels, out: Pixels) -> None:
    import torch  # here, because the other rules do without

    planes = torch.from_numpy(np.require(pixels, np.uint8, ["C", "W"])).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        planes, out.shape[1:], mode="bilinear", align_corners=False, antialias=True
    )
    out[:] = resized[0].numpy()


def _load_antialiased(image: bytes, out: Pixels) -> None:
    _resize_antialiased(decode(image, SPARE * out.shape[1]), out)


@dataclass(frozen=True)
class ImageRule:
    """How bytes become pixels.

    Attributes:
        name: recorded with every result.
        dtype: in which its pixels are kept without loss: float32 in [−1, 1], or uint8 levels.
        load: writes an encoded image into an array [3, size, size] of that type; raises
            ValueError when the bytes do not decode.
    """

    name: str
    dtype: npt.DTypeLike
    load: Callable[[bytes, npt.NDArray[Any]], None]

    def image_bytes(self, size: int) -> int:
        """Bytes that an image of this size is kept in."""
        return 3 * size**2 * np.dtype(self.dtype).itemsize


IMAGE_RULES = {
    rule.name: rule
    for rule in (
        ImageRule("official", np.float32, _load_official),
        ImageRule("official_rounded", np.uint8, _load_rounded),
        ImageRule("antialiased", np.uint8, _load_antialiased),
    )
}
"""Image rules by name."""


@compiled
def _to_unit_range(levels: Pixels, out: Floats) -> None:
    for k in range(len(levels)):
        out[k] = np.float32(levels[k]) / np.float32(127.5) - np.float32(1.0)


def to_unit_range(pixels: npt.NDArray[Any]) -> Floats:
    """Kept pixels, of either type, as float32 in [−1, 1]."""
    if pixels.dtype == np.float32:
        return pixels
    out = np.empty(pixels.shape, dtype=np.float32)
    _to_unit_range(pixels.reshape(-1), out.reshape(-1))
    return out


def load_image(image: bytes, size: int, rule: str = "official") -> Floats:
    """An encoded image as float32 [3, size, size] in [−1, 1].

    Raises:
        ValueError: the bytes do not decode.
    """
    out = np.empty((3, size, size), dtype=IMAGE_RULES[rule].dtype)
    IMAGE_RULES[rule].load(image, out)
    return to_unit_range(out)


def resize_by_rule(pixels: Pixels, size: int, rule: str) -> Floats:
    """A decoded image [height, width, 3] as float32 [3, size, size] in [−1, 1]."""
    out = np.empty((3, size, size), dtype=IMAGE_RULES[rule].dtype)
    if rule == "official":
        _resize(np.require(pixels, np.uint8, ["C", "W"]), out, 127.5, 1.0)
    elif rule == "official_rounded":
        _resize_rounded(pixels, out)
    else:
        _resize_antialiased(pixels, out)
    return to_unit_range(out)
