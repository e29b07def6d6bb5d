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

from episodes.images import decode, load_image, resize_official

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
