"""Images in the order of filming are told from shuffled ones, on made tracks both ways."""

import json
import shutil
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from episodes.tfrecord import encode_example, write_records
from episodes.tracks import FEWEST, combine, measure_order, thumbnail
from tests.episodes.damage import faults_of


def smooth(rng, side):
    coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def made_tracks(rng, tracks, frames=30):
    """One sign in different light and surroundings per track, growing as the camera nears."""
    sign = smooth(rng, 64)
    images = []
    for _ in range(tracks):
        light, around = rng.uniform(0.3, 1.2), smooth(rng, 64)
        share = rng.uniform(0.3, 0.6)
        for frame in range(frames):
            side = 20 + 2 * frame
            picture = share * around + (1 - share) * sign + rng.normal(0, 6, (64, 64, 3))
            whole = Image.fromarray(np.clip(light * picture, 0, 255).astype(np.uint8))
            images.append(np.asarray(whole.resize((side, side), Image.Resampling.BILINEAR)))
    return images


def order_of(images):
    return measure_order(np.stack([thumbnail(image) for image in images]))


@pytest.mark.parametrize("tracks", [2, 7, 40])
@pytest.mark.parametrize("seed", range(5))
def test_both_ways(tracks, seed):
    rng = np.random.default_rng([tracks, seed])
    images = made_tracks(rng, tracks)
    assert order_of(images).is_filmed
    shuffled = [images[k] for k in rng.permutation(len(images))]
    assert not order_of(shuffled).is_filmed
    assert order_of(shuffled).ratio == pytest.approx(1, abs=0.25)


def test_the_official_shuffle_is_not_filmed():
    images = made_tracks(np.random.default_rng(5), 7)
    np.random.RandomState(23).shuffle(order := list(range(len(images))))
    assert not order_of([images[k] for k in order]).is_filmed


def test_a_set_capped_within_two_tracks():
    """The first forty images of ten classes: each class says little, together they say enough."""
    orders = [order_of(made_tracks(np.random.default_rng(k), 2)[:40]) for k in range(10)]
    assert combine(orders).is_filmed


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(FEWEST, 60), st.integers(1, 64))
def test_independent_images_are_never_filmed(seed, count, kinds):
    """Any order of pictures drawn from a pool, repeats included."""
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 256, (kinds, 64)).astype(np.uint8)
    order = measure_order(pool[rng.integers(0, kinds, count)])
    assert order is None or not order.is_filmed


def test_sizes_that_repeat_in_a_cycle_say_nothing():
    """Runs of one size, each picture its own: neighbours share their size, not their content."""
    rng = np.random.default_rng(0)
    images = [smooth(rng, side) for side in (20, 40, 60, 80) for _ in range(15)]
    assert not order_of(images).is_filmed


def test_a_slow_drift_of_brightness_is_no_track():
    """Sorted by date, say: far from chance, but neighbours differ nearly as much as any two."""
    rng = np.random.default_rng(1)
    images = [
        np.clip(0.7 * smooth(rng, 30) + 0.07 * k, 0, 255).astype(np.uint8) for k in range(900)
    ]
    order = order_of(images)
    assert order.neighbours < order.expected - 10 * order.deviation
    assert not order.is_filmed


def test_few_or_equal_images_say_nothing():
    rng = np.random.default_rng(2)
    assert measure_order(rng.integers(0, 256, (FEWEST - 1, 64)).astype(np.uint8)) is None
    assert measure_order(np.full((50, 64), 7, np.uint8)) is None
    assert combine([]) is None


def test_the_sum_by_hand():
    # Grey levels 0, 3, 3, 7 …: steps of 3, 0, 4, then zeros; the mean over random orders of a
    # sum of n − 1 steps is (n − 1) times the mean distance of a pair.
    levels = np.array([0, 3, 3, 7, 7, 7, 7, 7])
    order = measure_order(np.repeat(levels[:, None], 64, axis=1).astype(np.uint8))
    assert order.neighbours == pytest.approx(7)
    pairs = [abs(a - b) for k, a in enumerate(levels) for b in levels[k + 1 :]]
    assert order.expected == pytest.approx(7 * np.mean(pairs), rel=0.1)


def test_a_thumbnail_is_the_mean_grey_of_each_cell():
    pixels = np.kron(np.arange(64).reshape(8, 8), np.ones((3, 5)))[:, :, None].repeat(3, axis=2)
    assert thumbnail(pixels.astype(np.uint8)).tolist() == list(range(64))


# ---- found in whole sources ------------------------------------------------------------------


def write_signs(records, shuffled):
    """Three classes of four tracks each, as an old or a new converter writes them."""
    sizes = {}
    for class_id in range(3):
        rng = np.random.default_rng(class_id)
        encoded = []
        for image in made_tracks(rng, 4):
            buffer = BytesIO()
            Image.fromarray(image).save(buffer, "JPEG")
            encoded.append(encode_example(buffer.getvalue(), class_id))
        if shuffled:
            np.random.RandomState(23).shuffle(encoded)
        path = records / "traffic_sign" / f"{class_id}.tfrecords"
        sizes[str(class_id)] = write_records(path, encoded)
    raw = {
        "__class__": "DatasetSpecification",
        "name": "traffic_sign",
        "classes_per_split": {"TRAIN": 0, "VALID": 0, "TEST": 3},
        "class_names": {k: f"0{k}.sign" for k in sizes},
        "images_per_class": sizes,
    }
    (records / "traffic_sign" / "dataset_spec.json").write_text(json.dumps(raw))


def test_old_conversions_of_traffic_signs(tmp_path):
    write_signs(tmp_path / "new", shuffled=True)
    assert faults_of(tmp_path / "new", ["traffic_sign"]) == []
    write_signs(tmp_path / "old", shuffled=False)
    (fault,) = faults_of(tmp_path / "old", ["traffic_sign"])
    assert fault.startswith("traffic_sign: the images lie in the order in which they were filmed")
    assert "(classes that show it alone: 0–2)" in fault


def test_one_old_file_among_new_ones(tmp_path):
    write_signs(tmp_path / "old", shuffled=False)
    write_signs(tmp_path / "new", shuffled=True)
    shutil.copy(*(tmp_path / age / "traffic_sign" / "1.tfrecords" for age in ("old", "new")))
    (fault,) = faults_of(tmp_path / "new", ["traffic_sign"])
    assert "(classes that show it alone: 1)" in fault
