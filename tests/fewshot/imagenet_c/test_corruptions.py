"""Corruptions against hand-worked values, their own definitions and pinned pixels."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from episodes.faults import InputError
from fewshot.imagenet_c.blur import disk, drag, glass_blur, smooth, zoom
from fewshot.imagenet_c.corruptions import (
    CORRUPTIONS,
    COUNTED,
    SEVERITIES,
    corrupt,
    corruption_rng,
    find_corruptions,
)
from fewshot.imagenet_c.digital import brightness, contrast, elastic_transform, saturate
from fewshot.imagenet_c.frost import FROSTS, draw_frost
from fewshot.imagenet_c.noise import impulse_noise
from fewshot.imagenet_c.picture import cut_to_levels
from fewshot.imagenet_c.spatter import equalise, find_edges
from fewshot.imagenet_c.weather import fog, plasma


def photograph():
    """A picture with slopes, edges and texture, of whole numbers only: the same everywhere."""
    y, x = np.mgrid[:224, :224]
    levels = np.stack([x + 10, (x * y) // 256, 224 - y], axis=-1)
    levels[60:160, 80:150] = (200, 60, 30)
    levels[((x // 8 + y // 8) % 2 == 0) & (y > 170)] = 15
    return levels.astype(np.uint8)


def test_there_are_fifteen_and_four_more():
    assert len(COUNTED) == 15
    assert [n for n in CORRUPTIONS if n not in COUNTED] == [
        "speckle_noise",
        "gaussian_blur",
        "spatter",
        "saturate",
    ]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_severity_changes_pixels_and_a_key_gives_the_same_ones(name):
    image = photograph()
    before = image.copy()
    found = [corrupt(image, name, severity, "a/b.JPEG") for severity in SEVERITIES]
    for severity, pixels in zip(SEVERITIES, found, strict=True):
        assert pixels.dtype == np.uint8 and pixels.shape == (224, 224, 3)
        assert np.abs(pixels.astype(int) - image).mean() > 0.5
        assert (corrupt(image, name, severity, "a/b.JPEG") == pixels).all()
    assert all((found[0] != other).any() for other in found[1:])
    assert (image == before).all()


RANDOM = sorted(set(CORRUPTIONS) - {"defocus_blur", "zoom_blur", "brightness", "contrast",
                "pixelate", "jpeg_compression", "gaussian_blur", "saturate"})  # fmt: skip


@pytest.mark.parametrize("name", RANDOM)
def test_another_image_or_seed_draws_other_numbers(name):
    image = photograph()
    one = corrupt(image, name, 3, "a/b.JPEG")
    assert (corrupt(image, name, 3, "a/c.JPEG") != one).any()
    assert (corrupt(image, name, 3, "a/b.JPEG", seed=1) != one).any()


@pytest.mark.parametrize("name", ["snow", "gaussian_noise", "glass_blur"])
def test_another_process_makes_the_same_pixels(name):
    script = (
        "import hashlib, sys; sys.path.insert(0, '.');"
        "from tests.fewshot.imagenet_c.test_corruptions import *;"
        f"print(digest(corrupt(photograph(), {name!r}, 2, 'k')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest(corrupt(photograph(), name, 2, "k"))


# ---- pinned pixels ---------------------------------------------------------------------------


def digest(pixels):
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:12]


GOLDEN = {
    "gaussian_noise": "4857b5161e9a",
    "shot_noise": "e77c6cb6d013",
    "impulse_noise": "92655a980da0",
    "defocus_blur": "cc8f627cadc3",
    "glass_blur": "a5b1a3d4ed12",
    "motion_blur": "59bf712e2d99",
    "zoom_blur": "30967a0939e5",
    "snow": "a962a5963a3e",
    "frost": "e48645338da4",
    "fog": "56a3655298f6",
    "brightness": "4f95d936321f",
    "contrast": "2a2bc0d1e120",
    "elastic_transform": "3eeb2c414bcf",
    "pixelate": "60a01b4a4db6",
    "jpeg_compression": "665c41ece562",
    "speckle_noise": "ba50bad775d7",
    "gaussian_blur": "6cd6e53015dd",
    "spatter": "e21fa8f6afee",
    "saturate": "082664e0d9be",
}
"""Of `photograph`, all severities. A change that moves them raises CORRUPTIONS_VERSION."""


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_pixels_of_version_1_stay(name):
    found = np.stack([corrupt(photograph(), name, severity, "golden") for severity in SEVERITIES])
    assert digest(found) == GOLDEN[name]


DRAWS_NOTHING = sorted(set(CORRUPTIONS) - set(RANDOM))


@pytest.mark.parametrize("name", DRAWS_NOTHING)
def test_an_independent_implementation_agrees(name):
    """imagecorruptions-imaug, where it happens to be installed; it smooths in single precision."""
    theirs = pytest.importorskip("imagecorruptions")
    for severity in SEVERITIES:
        expected = theirs.corrupt(photograph(), severity, name).astype(int)
        found = corrupt(photograph(), name, severity, "x")
        assert np.abs(found - expected).max() <= 1


# ---- hand-worked -----------------------------------------------------------------------------


def test_levels_are_cut_not_rounded_but_for_rounding_errors():
    light = np.array([0.0, 127.999 / 255, 128 / 255 - 1e-12, 1.2, -0.1])
    assert cut_to_levels(light).tolist() == [0, 127, 128, 255, 0]


def test_impulse_noise_hits_its_share_half_white_half_black():
    noisy = impulse_noise(np.full((3, 224, 224), 0.4), 0.17, np.random.RandomState(3))
    assert (noisy == 1).mean() == pytest.approx(0.085, abs=0.003)
    assert (noisy == 0).mean() == pytest.approx(0.085, abs=0.003)
    assert ((noisy == 0.4) | (noisy == 0) | (noisy == 1)).all()


def test_gaussian_noise_has_its_standard_deviation():
    noisy = corrupt(np.full((224, 224, 3), 128, np.uint8), "gaussian_noise", 1, "x")
    assert noisy.std() / 255 == pytest.approx(0.08, abs=0.002)


def test_shot_noise_has_whole_photons():
    levels = np.unique(corrupt(photograph(), "shot_noise", 5, "x"))
    assert levels.tolist() == [0, 85, 170, 255]  # 0 to 3 photons of 3


def test_a_disk_averages_over_its_area():
    kernel = disk(3, 0.1)
    assert kernel.shape == (17, 17)
    assert kernel.sum() == pytest.approx(1)
    assert (kernel > 1e-9).sum() == 29  # pixels within 3 of the middle
    assert kernel[8, 11] == pytest.approx(1 / 29)


def test_smoothing_keeps_a_constant_and_is_a_gaussian():
    assert smooth(np.full((3, 20, 30), 0.3), 2.0) == pytest.approx(0.3)
    point = np.zeros((41, 41))
    point[20, 20] = 1
    row = smooth(point, 2.0)[20]
    assert row[22] / row[20] == pytest.approx(np.exp(-0.5))


def test_glass_copies_from_within_its_reach_only():
    image = np.broadcast_to(np.linspace(0, 1, 224), (3, 224, 224)).copy()
    found = glass_blur(image, (0.1, 4, 1), np.random.RandomState(0))
    # one round: at most 4 pixels away, and copies of copies on the way
    inner = np.abs(found - image)[:, 8:-8, 8:-8]
    assert 0 < inner.max() < 0.2


def test_a_motion_to_the_right_is_half_a_gaussian():
    image = np.zeros((9, 41))
    image[4, 20] = 1
    row = drag(image, 5, 2.0, angle=0.0)[4]
    weights = np.exp(-(np.arange(11.0) ** 2) / 8)
    expected = np.rint(weights / weights.sum() * 255) / 255
    assert row[20:9:-1] == pytest.approx(expected)
    assert row[21:].max() == 0


def test_zoom_keeps_the_middle_and_stretches_linearly():
    slope = np.broadcast_to(np.linspace(-1, 1, 224)[:, None, None], (224, 224, 1))
    found = zoom(np.ascontiguousarray(slope), 2.0)
    assert found[:, 5, 0] == pytest.approx(np.linspace(-112 / 224, 112 / 224, 224), abs=0.01)


def test_brightness_scales_channels_alike_and_turns_black_grey():
    image = np.array([[0.4, 0.0], [0.2, 0.0], [0.1, 0.0]])[:, :, None]
    found = brightness(image, 0.2, np.random.RandomState(0))
    assert found[:, 0, 0] == pytest.approx([0.6, 0.3, 0.15])  # value 0.4 → 0.6
    assert found[:, 1, 0] == pytest.approx([0.2, 0.2, 0.2])


def test_saturate_by_hand():
    # value 0.8, saturation 1 − 0.4 / 0.8 = 0.5; times 0.3 → 0.15; the middle channel half way
    image = np.array([0.8, 0.6, 0.4])[:, None, None]
    found = saturate(image, (0.3, 0.0), np.random.RandomState(0)).ravel()
    assert found == pytest.approx([0.8, 0.8 * (1 - 0.075), 0.8 * (1 - 0.15)])
    grey = saturate(np.full((3, 1, 1), 0.5), (5, 0.1), np.random.RandomState(0)).ravel()
    assert grey == pytest.approx([0.5, 0.45, 0.45])  # hue 0: red


def test_contrast_draws_to_the_mean():
    image = np.array([[[0.0, 1.0]]] * 3)
    found = contrast(image, 0.4, np.random.RandomState(0))
    assert found[0, 0] == pytest.approx([0.3, 0.7])


def test_an_elastic_cloth_without_force_is_still():
    image = photograph().transpose(2, 0, 1) / 255
    still = elastic_transform(image, (0.0, 1.0, 0.0), np.random.RandomState(0))
    assert still == pytest.approx(image)


def test_fog_keeps_the_brightest_and_plasma_is_a_height_map():
    heights = plasma(256, 2.0, np.random.RandomState(0))
    assert heights.min() == 0 and heights.max() == 1
    assert np.abs(np.diff(heights, axis=0)).mean() < 0.1  # smooth, unlike noise
    fogged = fog(np.full((3, 224, 224), 0.5), (2.0, 2.0), np.random.RandomState(0))
    # 0.5 + 2h, times 0.5 / 2.5
    assert fogged.min() >= 0.1 - 1e-9 and fogged.max() <= 0.5 + 1e-9


@pytest.mark.parametrize("number", range(len(FROSTS)))
def test_frost_has_the_photographs_tone(number):
    colour, _ = FROSTS[number]
    found = draw_frost(number).mean(axis=(1, 2)) * 255
    assert found == pytest.approx(np.array(colour), abs=4)


def test_edges_of_a_step_lie_on_it():
    levels = np.zeros((20, 20), np.uint8)
    levels[:, 10:] = 200
    edges = find_edges(levels)
    assert edges.sum() == 20 and edges.any(axis=0).nonzero()[0].tolist() in ([9], [10])
    faint = (levels // 20).astype(np.uint8)  # |gx| = 40: below the weak threshold
    assert not find_edges(faint).any()


def test_equalised_levels_by_hand():
    # 2 zeros are the darkest → 0; then 1 of 2 → 128 (127.5 to even), 2 of 2 → 255
    assert equalise(np.array([[7, 7], [9, 20]], np.uint8)).tolist() == [[0, 0], [128, 255]]
    assert equalise(np.full((2, 2), 5, np.uint8)).tolist() == [[5, 5], [5, 5]]


# ---- what can be got wrong -------------------------------------------------------------------


def test_unknown_corruptions_are_named():
    with pytest.raises(InputError, match=r"unknown corruption 'defocus'.*'defocus_blur'"):
        find_corruptions(["defocus"])
    with pytest.raises(InputError, match="empty"):
        find_corruptions([])
    assert find_corruptions(["fog", "snow"]) == ("snow", "fog")
    with pytest.raises(ValueError, match="shape"):
        corrupt(np.zeros((100, 100, 3), np.uint8), "fog", 1, "x")


def test_severities_draw_their_own_numbers():
    draws = {corruption_rng("fog", severity, "x", 0).random_sample() for severity in SEVERITIES}
    assert len(draws) == 5
