"""Augmentation: what it does to pixels, and that its draws come from its key alone."""

import colorsys
import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from episodes.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    find_augmentation,
    scale_contrast,
    scale_saturation,
    turn_hue,
)
from episodes.faults import InputError
from episodes.images import decode
from episodes.packing import pack_split
from episodes.packs import pack_folder
from episodes.reader import ImageReader

SIZE = 24


@pytest.fixture(scope="module")
def reader(miniature):
    return ImageReader(miniature, "vgg_flower", "train", SIZE)


def located(count=12):
    """Images of three classes, not in the order of the files."""
    return np.asarray([2, 0, 1] * (count // 3)), np.arange(count)[::-1].copy() % 7


def augmented(reader, augmentation, seeds=None):
    class_ids, numbers = located()
    return augmentation.read(reader, class_ids, numbers, seeds or range(len(numbers)))


# ---- stored images ---------------------------------------------------------------------------


def test_images_as_stored(reader):
    class_ids, numbers = located()
    found = dict(reader.decode(class_ids, numbers))
    assert sorted(found) == list(range(len(numbers)))
    shapes = set()
    for place, pixels in found.items():
        ((encoded, _),) = reader.encoded.read(int(class_ids[place]), numbers[place : place + 1])
        assert pixels.dtype == np.uint8 and (pixels == decode(encoded)).all()
        shapes.add(pixels.shape)
    assert any(height != SIZE or width != SIZE for height, width, _ in shapes)


# ---- draws -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_global_generators_are_neither_used_nor_moved(reader, name):
    augmentation = find_augmentation(name, SIZE)
    torch.manual_seed(1)
    first = augmented(reader, augmentation)
    torch.manual_seed(2)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    second = augmented(reader, augmentation)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1] and random.getstate() == before[2]


def test_a_transform_that_fails_leaves_the_generator_as_it_was(reader):
    def fail(image):
        torch.rand(3)
        raise RuntimeError("a fault of the transform")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="a fault of the transform"):
        augmented(reader, Augmentation("failing", fail, full_size=False))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_image_depends_on_its_own_seed_only(reader, name):
    augmentation = find_augmentation(name, SIZE)
    class_ids, numbers = located()
    whole = augmented(reader, augmentation)
    for place in (7, 3):
        part = slice(place, place + 1)
        alone = augmentation.read(reader, class_ids[part], numbers[part], [place])
        assert torch.equal(alone[0], whole[place])
    others = augmented(reader, augmentation, seeds=range(100, 112))
    assert not torch.equal(others, whole)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_recipe_gives_finite_squares_and_travels_to_workers(reader, name):
    augmentation = find_augmentation(name, SIZE)
    found = augmented(reader, augmentation)
    assert found.shape == (12, 3, SIZE, SIZE) and found.dtype == torch.float32
    assert found.isfinite().all()
    if name != "sur":  # whose contrast is not cut off
        assert found.min() >= -1 and found.max() <= 1
    assert torch.equal(augmented(reader, pickle.loads(pickle.dumps(augmentation))), found)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_pack_changes_nothing(miniature, reader, tmp_path, name):
    """Squares come from it, with the same bits; stored images still come from the records."""
    folder = pack_folder(reader.spec, tmp_path)
    pack_split(reader.encoded, reader.split, reader.rule, reader.size, folder)
    packed = ImageReader(miniature, "vgg_flower", "train", SIZE, packs=tmp_path)
    assert packed.pack is not None
    augmentation = find_augmentation(name, SIZE)
    assert torch.equal(augmented(packed, augmentation), augmented(reader, augmentation))


# ---- what recipes do -------------------------------------------------------------------------


def test_flip_mirrors_about_half_and_leaves_the_others(reader):
    class_ids, numbers = np.zeros(200, dtype=int), np.zeros(200, dtype=int)
    (plain,) = reader.read(class_ids[:1], numbers[:1])
    found = find_augmentation("flip", SIZE).read(reader, class_ids, numbers, range(200))
    mirrored = [torch.equal(image, plain.flip(2)) for image in found]
    same = [torch.equal(image, plain) for image in found]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 70 <= sum(mirrored) <= 130


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("crop", []),
        ("jitter", [v2.ColorJitter(0.4, 0.4, 0.4)]),
        ("randaugment", [v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR)]),
    ],
)
def test_crops_are_those_of_torchvision_on_the_stored_image(reader, name, others):
    found = augmented(reader, find_augmentation(name, SIZE))
    chain = v2.Compose([v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), *others])
    for place, stored in reader.decode(*located()):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(place)
            expected = chain(v2.functional.to_image(stored)).float() / 127.5 - 1
        torch.testing.assert_close(found[place], torch.Tensor(expected), rtol=0, atol=1e-6)


def colour_images(low=0.0):
    values = st.floats(low, 1, width=32)
    return st.lists(st.tuples(values, values, values), min_size=4, max_size=4).map(
        lambda pixels: torch.tensor(pixels).T.reshape(3, 2, 2)
    )


def per_pixel(image, change):
    """`change` of each pixel's hue, saturation and value, by the standard library."""
    changed = [
        colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel)))
        for pixel in image.double().reshape(3, -1).T.tolist()
    ]
    return torch.tensor(changed).T.reshape(image.shape).float()


@given(colour_images(), st.floats(0.5, 2))
def test_saturation_is_that_of_hsv(image, factor):
    expected = per_pixel(image, lambda h, s, v: (h, min(s * factor, 1), v))
    torch.testing.assert_close(scale_saturation(image, factor), expected, rtol=0, atol=1e-5)


@given(colour_images(), st.floats(-0.1, 0.1))
def test_hue_is_that_of_hsv(image, turn):
    expected = per_pixel(image, lambda h, s, v: ((h + turn) % 1, s, v))
    torch.testing.assert_close(turn_hue(image, turn), expected, rtol=0, atol=1e-4)


@given(colour_images(), st.floats(-0.1, 0.1), st.floats(-1, 1), st.floats(0.5, 2))
def test_hue_turns_alike_in_any_range(image, turn, origin, scale):
    moved = turn_hue(image * scale + origin, turn)
    torch.testing.assert_close(moved, turn_hue(image, turn) * scale + origin, rtol=0, atol=1e-3)


def test_contrast_is_about_the_mean_of_each_channel():
    image = torch.tensor([[[0.0, 1.0]], [[0.2, 0.4]], [[0.5, 0.5]]])
    expected = torch.tensor([[[-0.1, 1.1]], [[0.18, 0.42]], [[0.5, 0.5]]])
    torch.testing.assert_close(scale_contrast(image, 1.2), expected)


def test_sur_crops_a_reflected_image_and_mirrors_none():
    """Of a grey ramp, colours change contrast only: what is left tells where the crop lay."""
    ramp = torch.arange(SIZE * SIZE, dtype=torch.float32).reshape(1, SIZE, SIZE).expand(3, -1, -1)
    image = ramp / ramp.max() * 2 - 1
    padded = np.pad(image.numpy(), ((0, 0), (8, 8), (8, 8)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, SIZE, SIZE))[0]
    normal = windows - windows.mean((2, 3, 4), keepdims=True)
    normal /= np.abs(normal).max((2, 3, 4), keepdims=True)
    transform, places, contrasts = find_augmentation("sur", SIZE).transform, set(), []
    for seed in range(60):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found = transform(image).numpy()
        centred = found - found.mean()
        errors = np.abs(normal - centred / np.abs(centred).max()).max((2, 3, 4))
        place = np.unravel_index(errors.argmin(), errors.shape)
        assert errors[place] < 1e-4
        places.add(place)
        contrasts.append(np.ptp(found) / np.ptp(windows[place]))
    rows, columns = zip(*places, strict=True)
    assert min(rows) <= 2 and max(rows) >= 14 and min(columns) <= 2 and max(columns) >= 14
    assert 0.799 < min(contrasts) < 0.83 and 1.17 < max(contrasts) < 1.201


# ---- faults ----------------------------------------------------------------------------------


def test_unknown_and_impossible_recipes():
    with pytest.raises(InputError, match=r"unknown augmentation 'cropp'\. Did you mean 'crop'"):
        find_augmentation("cropp", SIZE)
    with pytest.raises(InputError, match="images of 8 pixels are too small to reflect 8"):
        find_augmentation("sur", 8)
    assert find_augmentation("sur", 9).transform(torch.zeros(3, 9, 9)).shape == (3, 9, 9)


@pytest.mark.parametrize("full_size", [True, False])
def test_a_transform_of_another_size_is_refused(reader, full_size):
    wrong = Augmentation("mine", v2.CenterCrop(5), full_size)
    with pytest.raises(InputError, match=r"'mine': gives images of \[3, 5, 5\], not \[3, 24, 24\]"):
        augmented(reader, wrong)
