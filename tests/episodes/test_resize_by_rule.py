"""A decoded image is resized as its bytes would have been."""

import io

import numpy as np
import pytest
from PIL import Image

from episodes.images import IMAGE_RULES, decode, load_image, resize_by_rule


@pytest.mark.parametrize("rule", IMAGE_RULES)
@pytest.mark.parametrize(("height", "width", "size"), [(224, 224, 84), (31, 50, 64), (40, 40, 1)])
def test_equal_to_the_bit(rule, height, width, size):
    levels = np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    expected = load_image(buffer.getvalue(), size, rule)
    found = resize_by_rule(decode(buffer.getvalue()), size, rule)
    assert found.dtype == np.float32 and found.shape == (3, size, size)
    assert (found == expected).all()


def test_a_read_only_image_is_taken():
    levels = np.full((20, 20, 3), 255, np.uint8)
    levels.flags.writeable = False
    assert all((resize_by_rule(levels, 8, rule) == 1).all() for rule in IMAGE_RULES)
