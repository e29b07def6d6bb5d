"""Labelled images by number, and the workers that read ahead."""

import os
import shutil
import signal
import time
from itertools import count, islice

import numpy as np
import pytest
import torch

from episodes.faults import InputError
from episodes.loader import LabelledImages, load_batches, prefetch, stream_generator


@pytest.fixture(scope="module")
def images(miniature):
    return LabelledImages(miniature, "vgg_flower", "train", 16)


def test_every_image_is_located_once(images):
    spec = images.reader.spec
    class_ids, numbers = images.locate(np.arange(len(images)))
    expected = [
        (class_id, number)
        for class_id in spec.split_classes["train"]
        for number in range(spec.images_per_class[class_id])
    ]
    assert list(zip(class_ids.tolist(), numbers.tolist(), strict=True)) == expected


def test_labels_count_from_zero_in_any_split(miniature):
    valid = LabelledImages(miniature, "vgg_flower", "valid", 16)
    labels = valid.labels(np.arange(len(valid)))
    assert sorted(set(labels.tolist())) == list(range(len(valid.class_names)))
    class_ids, _ = valid.locate(np.arange(len(valid)))
    assert set(class_ids - labels) == {valid.reader.spec.split_classes["valid"].start}


def test_orders_are_permutations_that_differ_by_seed_and_epoch(images):
    orders = [images.order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(len(images))) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert (images.order(0, 1) == orders[1]).all()


def test_streams_of_other_keys_are_unrelated():
    draws = {float(stream_generator(*key).random()) for key in ((1, 23), (12, 3), (1, 2, 3))}
    assert len(draws) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_images_in_order(images, workers):
    chosen = images.order(3, 0)[:21]
    class_ids, numbers = images.locate(chosen)
    batches = list(load_batches(images.reader, class_ids, numbers, 8, workers))
    assert [len(batch) for batch in batches] == [8, 8, 5]
    assert torch.equal(torch.cat(batches), images.reader.read(class_ids, numbers))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_in_a_worker_is_one_plain_message(miniature, tmp_path, workers):
    shutil.copytree(miniature / "dtd", tmp_path / "dtd")
    damaged = tmp_path / "dtd" / "0.tfrecords"
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    images = LabelledImages(tmp_path, "dtd", "train", 16)
    with pytest.raises(InputError, match=r"0\.tfrecords: .* record 0 fails its checksum") as caught:
        list(load_batches(images.reader, *images.locate(np.arange(20)), 8, workers))
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("source", ["traffic_sign", "mscoco"])
def test_a_source_without_train_classes_is_refused(miniature, source):
    with pytest.raises(InputError, match="the train split is empty"):
        LabelledImages(miniature, source, "train", 16)


# ---- workers ---------------------------------------------------------------------------------


def square(number):
    return number * number


def die(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number):
    time.sleep(0.01 * (3 - number % 3))
    if number >= 5:
        raise InputError(f"task {number} is refused.", "a file", "Do another.")
    return number


def fail(number):
    raise ValueError("a fault of the program")


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_order_from_tasks_without_end(workers):
    found = list(islice(prefetch(square, ((n,) for n in count()), workers), 20))
    assert found == [n * n for n in range(20)]
    assert list(prefetch(square, [], workers)) == []


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_first_fault_in_order_is_raised(workers):
    found = []
    with pytest.raises(InputError) as caught:
        for number in prefetch(refuse, ((n,) for n in count()), workers):
            found.append(number)
    assert found == [0, 1, 2, 3, 4]
    error = caught.value
    assert (error.what, error.where, error.remedy) == (
        "task 5 is refused.",
        "a file",
        "Do another.",
    )


def test_a_killed_worker_is_one_plain_message():
    with pytest.raises(InputError, match=r"a working process died\. Free memory"):
        list(prefetch(die, [(n,) for n in range(9)], 2))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_of_the_program_is_not_hidden(workers):
    with pytest.raises(ValueError, match="a fault of the program"):
        list(prefetch(fail, [(0,)], workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_ahead_draws_nothing_from_the_global_generators(images, workers):
    located = images.locate(np.arange(20))
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    list(load_batches(images.reader, *located, 8, workers))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_held_out_images_are_a_share_of_every_class_and_of_no_other(miniature, share):
    images = LabelledImages(miniature, "dtd", "train", 24)
    kept, held = images.hold_out(share, seed=1)
    assert len(kept) + len(held) == len(images)
    everything = {pair for part in (kept, held) for pair in located(part)}
    assert everything == located(images) and len(everything) == len(images)
    assert kept.class_names == held.class_names == images.class_names
    counts = np.bincount(held.labels(np.arange(len(held))), minlength=len(images.class_names))
    sizes = images.reader.spec.images_in_split(images.reader.split)
    assert counts.tolist() == [max(1, round(share * size)) for size in sizes]
    again, other = images.hold_out(share, seed=1)[1], images.hold_out(share, seed=2)[1]
    assert located(again) == located(held) != located(other)
    assert sorted(kept.order(0, 0)) == list(range(len(kept)))


def located(images):
    return set(zip(*map(np.ndarray.tolist, images.locate(np.arange(len(images)))), strict=True))


def test_a_share_that_cannot_be_held_out(miniature):
    with pytest.raises(InputError, match="cannot be held out"):
        LabelledImages(miniature, "dtd", "train", 24).hold_out(1.0, 0)
