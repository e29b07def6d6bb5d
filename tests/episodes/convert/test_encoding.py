"""What becomes of the bytes of one image, of one box, and of a large list."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from episodes.convert.crops import crop_box
from episodes.convert.encoding import Unreadable, encode_pixels, record_image
from episodes.convert.json_stream import stream_lists
from tests.episodes.convert.raw_data import draw_image, encoded
from tests.episodes.convert.raw_lists import enlarge

PIXELS = draw_image(5, (31, 22))


def test_a_plain_jpeg_is_kept_with_all_that_is_in_it():
    turned = Image.Exif()
    turned[0x0112] = 6
    content = encoded(PIXELS, quality=95, subsampling=0, exif=turned) + b"trailing bytes"
    assert record_image(content) is content


def test_several_pictures_in_one_file_are_encoded_again():
    """Pillow calls such a JPEG an MPO, and so does the official converter."""
    stream = io.BytesIO()
    image = Image.fromarray(PIXELS)
    image.save(stream, "MPO", save_all=True, append_images=[image])
    found = record_image(stream.getvalue())
    assert Image.open(io.BytesIO(stream.getvalue())).format == "MPO"
    assert found == encoded(np.asarray(Image.open(io.BytesIO(stream.getvalue()))))


@pytest.mark.parametrize("form", ["PNG", "BMP", "PPM", "TIFF", "WEBP"])
def test_other_formats_are_encoded(form):
    options = {"lossless": True} if form == "WEBP" else {}
    assert record_image(encoded(PIXELS, form, **options)) == encoded(PIXELS)


def test_crop_then_invert():
    content = encoded(PIXELS, "PNG")
    assert record_image(content, (3, 4, 20, 15), True) == encoded(255 - PIXELS[4:15, 3:20])


def test_an_encoded_image_has_the_default_tables():
    image = Image.open(io.BytesIO(encode_pixels(PIXELS[..., 0])))
    assert (image.mode, image.size) == ("RGB", (31, 22))
    assert image.quantization[0][:4] == [8, 6, 5, 8]  # quality 75
    assert [layer[1:3] for layer in image.layer] == [(2, 2), (1, 1), (1, 1)]  # 4:2:0


@pytest.mark.parametrize(
    "content", [b"", b"<html>", encoded(PIXELS, "PNG")[:60], encoded(PIXELS, mode="L")[:200]]
)
def test_what_is_no_image(content):
    with pytest.raises(Unreadable):
        record_image(content)


SIDE = st.floats(-40, 700, allow_nan=False).map(lambda value: round(value, 2))


@given(SIDE, SIDE, SIDE, SIDE)
def test_boxes(x, y, w, h):
    expected = enlarge(x, y, w, h, 640, 480)
    assert list(crop_box(np.array([x, y, w, h]), 640, 480)) == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4), st.lists(VALUES), st.booleans())
def test_lists_are_streamed(others, wanted, indented):
    raw = {**others, "wanted": wanted, "last": [1]}
    found = []
    stream_lists(json.dumps(raw, indent=2 if indented else None), {"wanted": found.append})
    assert found == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"wanted": [1, 2',
        '{"wanted": [1 2]}',
        '{"wanted": 3}',
        '{"other": []}',
        "{}",
    ],
)
def test_broken_lists(text):
    with pytest.raises(ValueError, match=r"character|list|Expecting|column"):
        stream_lists(text, {"wanted": lambda item: None})
