"""Released and validation folders: what is read, what is missing, what is refused."""

import shutil

import numpy as np
import pytest
from PIL import Image

from episodes.faults import InputError
from fewshot.imagenet_c.corruptions import CORRUPTIONS, corrupt
from fewshot.imagenet_c.folders import CLEAN, IN_MEMORY, RELEASED, open_images, read_middle
from tests.fewshot.imagenet_c.layouts import CLASSES, write_release, write_validation


@pytest.fixture
def validation(tmp_path):
    return write_validation(tmp_path / "val")


TWO = ("gaussian_noise", "fog")


def test_a_validation_folder_is_corrupted_in_memory(validation):
    images = open_images(validation, CLASSES, tuple(CORRUPTIONS))
    assert images.kind == IN_MEMORY == "imagenet-c/in-memory-v1"
    assert len(images.cells) == 1 + 19 * 5 and images.cells[0] == CLEAN
    assert images.names == tuple(f"{name}/{k}.JPEG" for name in CLASSES for k in (0, 1))
    assert (images.classes, images.skipped) == (3, 1)
    name = "n002/1.JPEG"
    middle = read_middle(validation / name)
    assert (images.read(CLEAN, name) == middle).all()
    assert (images.read(("fog", 4), name) == corrupt(middle, "fog", 4, name)).all()


def test_the_middle_is_that_of_the_shorter_side_at_256(tmp_path):
    # a stripe at 3/8 of the width: 512 → 256 high, 640 → 320 wide; cut from column 48
    levels = np.zeros((512, 640, 3), np.uint8)
    levels[:, 240:400] = 255  # columns 120 to 200 of 320, 72 to 152 of the middle
    path = tmp_path / "x.png"
    Image.fromarray(levels).save(path)
    middle = read_middle(path)
    assert middle.shape == (224, 224, 3)
    assert (middle[0, :, 0] > 127).nonzero()[0][[0, -1]].tolist() == [72, 151]


def test_released_images_are_taken_as_they_are(tmp_path):
    folder = write_release(tmp_path / "c", TWO)
    images = open_images(folder, CLASSES, TWO)
    assert images.kind == RELEASED == "imagenet-c/official-jpeg"
    assert images.cells == tuple((name, severity) for name in TWO for severity in range(1, 6))
    pixels = images.read(("fog", 3), "n003/1.JPEG")
    assert pixels.shape == (224, 224, 3) and (pixels == 136).all()  # 2 · 60 + 5 · 3 + 1


def test_a_released_image_of_another_size_is_refused(tmp_path):
    folder = write_release(tmp_path / "c", ["fog"], [1], side=256)
    images = open_images(folder, CLASSES, ["fog"])
    with pytest.raises(InputError, match="256 × 256 pixels, not 224 × 224"):
        images.read(("fog", 1), "n001/0.JPEG")


def test_all_that_is_missing_is_listed_at_once(tmp_path):
    folder = write_release(tmp_path / "c", TWO)
    shutil.rmtree(folder / "fog" / "2")
    shutil.rmtree(folder / "fog" / "4" / "n001")
    (folder / "gaussian_noise" / "1" / "n002" / "1.JPEG").unlink()
    images = open_images(folder, CLASSES, ("gaussian_noise", "snow", "fog"))
    assert images.missing == (
        "snow",
        "fog/2",
        "gaussian_noise/1 (1 images missing, 0 too many)",
        "fog/4 (2 images missing, 0 too many)",
    )
    assert len(images.cells) == 10 - 3 and ("fog", 4) not in images.cells
    assert len(images.names) == 6


def test_clean_images_must_be_those_that_were_corrupted(tmp_path, validation):
    folder = write_release(tmp_path / "c", TWO)
    images = open_images(folder, CLASSES, TWO, clean=validation)
    assert images.cells[0] == CLEAN
    assert (images.read(CLEAN, "n001/0.JPEG") == read_middle(validation / "n001/0.JPEG")).all()
    (validation / "n001" / "0.JPEG").rename(validation / "n001" / "other.JPEG")
    with pytest.raises(InputError, match="under the same names"):
        open_images(folder, CLASSES, TWO, clean=validation)
    with pytest.raises(InputError, match="--clean"):
        open_images(validation, CLASSES, TWO, clean=validation)


def test_the_first_of_each_class(validation):
    images = open_images(validation, CLASSES, TWO, per_class=1)
    assert images.names == tuple(f"{name}/0.JPEG" for name in CLASSES)
    assert images.fingerprint != open_images(validation, CLASSES, TWO).fingerprint


def test_a_folder_of_neither_shape_says_what_it_should_be(tmp_path, validation):
    with pytest.raises(InputError, match=r"no images of the checkpoint's classes.*n001"):
        open_images(validation, ["cat"], TWO)
    with pytest.raises(InputError, match="it holds no folders"):
        open_images(validation / "n001", CLASSES, TWO)
    with pytest.raises(InputError, match="cannot be listed"):
        open_images(tmp_path / "nowhere", CLASSES, TWO)
    folder = write_release(tmp_path / "c", TWO, classes=("x1", "x2"))
    with pytest.raises(InputError, match="no images of the checkpoint's classes"):
        open_images(folder, CLASSES, TWO)


def test_a_damaged_image_is_named(tmp_path):
    folder = write_release(tmp_path / "c", ["fog"])
    (folder / "fog" / "1" / "n001" / "0.JPEG").write_bytes(b"\xff\xd8\xffno")
    images = open_images(folder, CLASSES, ["fog"])
    with pytest.raises(InputError, match=r"fog/1/n001/0.JPEG: the image does not decode"):
        images.read(("fog", 1), "n001/0.JPEG")
