"""Pixels against TensorFlow's, and damaged images.

`tensorflow_pixels.json` holds small images and the sha256 of what TensorFlow 2.21 makes of
them: tf.io.decode_image, resize_bilinear with aligned corners, 2 · (x / 255 − 0.5), float32.
"""

import base64
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from episodes.images import IMAGE_RULES, SPARE, decode, load_image, resize_official

REFERENCE = json.loads((Path(__file__).parent / "tensorflow_pixels.json").read_text())


@pytest.mark.parametrize("size", [31, 84, 126])
@pytest.mark.parametrize("kind", REFERENCE)
def test_equal_to_tensorflow_bit_for_bit(kind, size):
    image = base64.b64decode(REFERENCE[kind]["image"])
    pixels = np.ascontiguousarray(load_image(image, size).transpose(1, 2, 0))
    assert pixels.dtype == np.float32 and pixels.shape == (size, size, 3)
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == REFERENCE[kind]["sha256"][str(size)]


def plain_resize(pixels, size):
    """Aligned-corners bilinear in float64, one pixel at a time."""
    height, width, _ = pixels.shape
    out = np.zeros((size, size, 3))
    for i in range(size):
        for j in range(size):
            y, x = i * (height - 1) / max(size - 1, 1), j * (width - 1) / max(size - 1, 1)
            y0, x0 = min(int(y), height - 1), min(int(x), width - 1)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            across = [(1 - x + x0) * pixels[r, x0] + (x - x0) * pixels[r, x1] for r in (y0, y1)]
            out[i, j] = (1 - y + y0) * across[0] + (y - y0) * across[1]
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_resize_agrees_with_the_definition(height, width, size, seed):
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
    assert np.abs(resize_official(pixels, size) - plain_resize(pixels, size)).max() < 2e-3


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_grey_pictures_are_resized_like_coloured_ones(height, width, size, seed):
    grey = np.random.RandomState(seed).randint(0, 256, (height, width, 1)).astype(np.uint8)
    both = np.concatenate([grey, grey, grey], axis=2)
    other = np.concatenate([grey, grey, 255 - grey], axis=2)
    channels = resize_official(both, size)
    assert np.array_equal(channels[..., 0], resize_official(other, size)[..., 0])
    assert np.array_equal(channels[..., 0], channels[..., 2])


@pytest.mark.parametrize("kind", REFERENCE)
def test_rounded_is_official_to_the_nearest_level(kind):
    image = base64.b64decode(REFERENCE[kind]["image"])
    exact = resize_official(decode(image), 31).transpose(2, 0, 1)
    kept = np.empty((3, 31, 31), np.uint8)
    IMAGE_RULES["official_rounded"].load(image, kept)
    assert np.array_equal(kept, np.rint(exact))
    unit = 2.0 * (kept.astype(np.float32) / np.float32(255) - np.float32(0.5))
    assert np.array_equal(load_image(image, 31, "official_rounded"), unit)


def test_grey_of_16_bits_keeps_its_high_byte():
    levels = (np.arange(200, dtype=np.uint16) * 300).reshape(10, 20)
    encoded = io.BytesIO()
    Image.fromarray(levels).save(encoded, "PNG")
    pixels = decode(encoded.getvalue())
    assert pixels.shape == (10, 20, 3) and pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.stack([levels >> 8] * 3, axis=2))


def photo(height, width, seed=0):
    """A JPEG that is smooth here and busy there, and its pixels."""
    rng = np.random.RandomState(seed)
    small = rng.randint(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    pixels = np.where(rng.rand(height, width, 1) < 0.02, 255 - pixels, pixels)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def triangle_weights(length, size):
    """[size, length] weights of a triangle filter as wide as the reduction, in float64."""
    centre = (np.arange(size) + 0.5) * length / size
    distance = np.abs(np.arange(length) + 0.5 - centre[:, None])
    weights = np.maximum(0, 1 - distance / max(length / size, 1))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (84, 84), (105, 105), (90, 240)])
def test_antialiased_agrees_with_the_triangle_filter(height, width):
    image = photo(height, width)
    kept = np.empty((3, 84, 84), np.uint8)
    IMAGE_RULES["antialiased"].load(image, kept)
    vertical, horizontal = triangle_weights(height, 84), triangle_weights(width, 84)
    exact = np.einsum("ih,hwc,jw->cij", vertical, decode(image).astype(float), horizontal)
    assert np.abs(kept - exact).max() < 1.01  # two passes, each rounded to whole levels


def test_antialiased_removes_what_official_folds():
    """Stripes one pixel wide are above what 25 pixels can show: grey, not other stripes."""
    stripes = np.zeros((84, 84, 3), np.uint8)
    stripes[:, ::2] = 255
    buffer = io.BytesIO()
    Image.fromarray(stripes).save(buffer, "PNG")
    inner = np.s_[:, 2:-2, 2:-2]
    assert load_image(buffer.getvalue(), 25, "antialiased")[inner].std() < 0.05
    assert load_image(buffer.getvalue(), 25, "official")[inner].std() > 0.3


def test_scaled_decoding_leaves_spare_pixels_and_hardly_shows():
    size = 40
    image = photo(600, 1000)
    scaled = decode(image, SPARE * size)
    assert scaled.shape == (150, 250, 3)
    assert decode(image, 600).shape == (600, 1000, 3)
    kept = np.empty((3, size, size), np.uint8)
    IMAGE_RULES["antialiased"].load(image, kept)
    reference = Image.fromarray(decode(image)).resize((size, size), Image.Resampling.BILINEAR)
    difference = np.abs(kept.transpose(1, 2, 0).astype(int) - np.asarray(reference))
    assert difference.mean() < 1 and np.percentile(difference, 99) <= 4


def test_range_is_minus_one_to_one():
    buffer = io.BytesIO()
    Image.fromarray(np.array([[[0] * 3, [255] * 3]], dtype=np.uint8)).save(buffer, "PNG")
    pixels = load_image(buffer.getvalue(), 2)
    assert pixels[:, 0, 0].tolist() == [-1.0] * 3 and pixels[:, 0, 1].tolist() == [1.0] * 3


@pytest.mark.parametrize("kind", ["colour", "progressive", "png", "bmp", "gif"])
def test_a_cut_image_is_refused(kind):
    image = base64.b64decode(REFERENCE[kind]["image"])
    with pytest.raises(ValueError):
        decode(image[: len(image) // 2])


@pytest.mark.parametrize("image", [b"", b"\xff\xd8", b"not an image", b"\x00" * 1000])
def test_other_bytes_are_refused(image):
    with pytest.raises(ValueError):
        decode(image)


def test_stray_bytes_between_markers_are_accepted_as_in_tensorflow():
    image = base64.b64decode(REFERENCE["colour"]["image"])
    marker = image.index(b"\xff\xc4")  # before the first Huffman table
    stray = image[:marker] + b"\x00\x00" + image[marker:]
    difference = np.abs(decode(stray).astype(int) - decode(image))
    assert difference.max() <= 8  # Pillow's accurate DCT against the fast one
