"""Training streams: every image in its place, whoever reads it and however often it stops."""

import json
import multiprocessing
import shutil
from itertools import chain, islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from episodes.augmentation import find_augmentation
from episodes.faults import InputError
from episodes.loader import LabelledImages
from episodes.streams import REMAINDERS, LabelledStream, Shard


@pytest.fixture(scope="module")
def images(miniature):
    return LabelledImages(miniature, "vgg_flower", "train", 16)


class Numbered:
    """As many images as one likes, without pixels."""

    reader = SimpleNamespace(spec=SimpleNamespace(folder="numbered"))

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def order(self, seed, epoch):
        return np.random.default_rng([seed, epoch]).permutation(self.length)


def shares(length, batch_size, ranks, remainder, epoch=3):
    """The order of an epoch, and the batches of each rank."""
    found = []
    for rank in range(ranks):
        stream = LabelledStream(Numbered(length), batch_size, 7, remainder, Shard(rank, ranks))
        share = stream.share(epoch)
        batches = [share[k : k + batch_size] for k in range(0, len(share), batch_size)]
        assert len(batches) == stream.batches_per_epoch
        found.append(batches)
    return Numbered(length).order(7, epoch), found


sizes = st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5))


# ---- shards ----------------------------------------------------------------------------------


@given(sizes)
def test_keep_gives_every_image_once_over_all_ranks(size):
    length, batch_size, ranks = size
    if ranks > length:
        return
    _, found = shares(length, batch_size, ranks, "keep")
    lengths = [sum(map(len, batches)) for batches in found]
    assert sorted(np.concatenate([*chain(*found)])) == list(range(length))
    assert max(lengths) - min(lengths) <= 1
    assert all(len(batch) == batch_size for batches in found for batch in batches[:-1])
    assert len(found[0]) == max(map(len, found))


@given(sizes)
def test_drop_leaves_out_less_than_one_batch_of_all_ranks(size):
    length, batch_size, ranks = size
    if batch_size * ranks > length:
        return
    order, found = shares(length, batch_size, ranks, "drop")
    given_images = np.concatenate([*chain(*found)])
    assert all(len(batch) == batch_size for batches in found for batch in batches)
    assert len({len(batches) for batches in found}) == 1
    assert len(set(given_images)) == len(given_images)
    left_out = len(order) - len(given_images)
    assert 0 <= left_out < batch_size * ranks
    assert set(range(length)) - set(given_images) == set(order[length - left_out :])


@given(sizes)
def test_pad_repeats_the_first_images_of_the_epoch(size):
    length, batch_size, ranks = size
    order, found = shares(length, batch_size, ranks, "pad")
    given_images = np.concatenate([*chain(*found)])
    assert all(len(batch) == batch_size for batches in found for batch in batches)
    assert len({len(batches) for batches in found}) == 1
    assert 0 <= len(given_images) - length < batch_size * ranks
    times = np.bincount(given_images, minlength=length)[order]
    assert times.min() >= 1 and (np.diff(times) <= 0).all() and times.max() - times.min() <= 1


@given(sizes, st.sampled_from(REMAINDERS))
def test_batches_of_all_ranks_together_are_those_of_one(size, remainder):
    length, batch_size, ranks = size
    if ranks > length or (remainder == "drop" and batch_size * ranks > length):
        return
    _, ((*alone,),) = shares(length, batch_size * ranks, 1, remainder)
    _, found = shares(length, batch_size, ranks, remainder)
    for index, batch in enumerate(alone):
        together = [batches[index] for batches in found if index < len(batches)]
        assert sorted(np.concatenate(together)) == sorted(batch)


@pytest.mark.parametrize("rank, ranks", [(2, 2), (-1, 2), (0, 0)])
def test_ranks_that_do_not_exist(rank, ranks):
    with pytest.raises(InputError, match=f"no rank {rank} of {ranks}"):
        Shard(rank, ranks)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch size 0 is not positive"),
        ({"batch_size": 6, "remainder": "drop"}, "a batch of 6 is larger than the 5 images"),
        (
            {"batch_size": 3, "remainder": "drop", "shard": Shard(0, 2)},
            "a batch of 3 on each of 2 ranks is larger than the 5 images",
        ),
        ({"batch_size": 1, "shard": Shard(0, 6)}, "6 ranks are more than the 5 images"),
        ({"batch_size": 1, "remainder": "dorp"}, "Did you mean 'drop'"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(InputError, match=message):
        LabelledStream(Numbered(5), **settings)


# ---- batches ---------------------------------------------------------------------------------


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.epoch, one.index) == (other.epoch, other.index)
        assert one.numbers.tolist() == other.numbers.tolist()
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def test_batches_are_the_images_of_the_epoch_with_their_labels(images):
    stream = LabelledStream(images, 50, seed=3)
    steps = -(-len(images) // 50)
    batches = list(stream.batches(epochs=2))
    places = [(batch.epoch, batch.index) for batch in batches]
    assert places == [(epoch, index) for epoch in (0, 1) for index in range(steps)]
    for epoch in (0, 1):
        numbers = np.concatenate([batch.numbers for batch in batches if batch.epoch == epoch])
        assert numbers.tolist() == images.order(3, epoch).tolist()
    for batch in batches:
        assert torch.equal(batch.images, images.reader.read(*images.locate(batch.numbers)))
        assert batch.labels.tolist() == images.labels(batch.numbers).tolist()


@pytest.mark.parametrize("recipe", [None, "jitter"])
def test_workers_change_nothing(images, recipe):
    augmentation = find_augmentation(recipe, 16) if recipe else None

    def start():
        return LabelledStream(images, 64, 1, "drop", augmentation=augmentation)

    steps = start().batches_per_epoch + 3
    expected = list(islice(start().batches(), steps))
    for workers in (1, 2):
        same(list(islice(start().batches(workers), steps)), expected)


def test_leaving_the_loop_leaves_no_process(images):
    for _ in LabelledStream(images, 8).batches(workers=2):
        break
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("recipe", [None, "crop"])
def test_a_fault_is_one_plain_message(miniature, tmp_path, workers, recipe):
    shutil.copytree(miniature / "dtd", tmp_path / "dtd")
    damaged = tmp_path / "dtd" / "0.tfrecords"
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    augmentation = find_augmentation(recipe, 16) if recipe else None
    stream = LabelledStream(
        LabelledImages(tmp_path, "dtd", "train", 16), 32, augmentation=augmentation
    )
    with pytest.raises(InputError, match=r"0\.tfrecords: .* record 0 fails its checksum") as caught:
        list(stream.batches(workers, epochs=1))
    assert "Traceback" not in str(caught.value)


# ---- augmentation by key ---------------------------------------------------------------------


def by_number(*streams, epochs=2):
    return {
        (batch.epoch, int(number)): image
        for stream in streams
        for batch in stream.batches(epochs=epochs)
        for number, image in zip(batch.numbers, batch.images, strict=True)
    }


def test_what_an_image_becomes_depends_on_its_key_alone(images):
    """Other batches, ranks and places in the batch: the same pixels."""
    crop = find_augmentation("crop", 16)
    alone = by_number(LabelledStream(images, 64, 2, augmentation=crop))
    assert len(alone) == 2 * len(images)
    shared = by_number(
        *(LabelledStream(images, 7, 2, "keep", Shard(rank, 3), crop) for rank in range(3))
    )
    assert shared.keys() == alone.keys()
    assert all(torch.equal(shared[key], alone[key]) for key in alone)


def test_epochs_images_and_seeds_draw_apart(images):
    crop = find_augmentation("crop", 16)
    found = by_number(LabelledStream(images, 64, 2, augmentation=crop))
    other = by_number(LabelledStream(images, 64, 3, augmentation=crop), epochs=1)
    for number in range(20):
        first = found[0, number]
        assert not torch.equal(first, found[1, number])
        assert not torch.equal(first, other[0, number])


# ---- interruption and resumption -------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 4, 5, 7])
def test_a_saved_position_goes_on_where_it_was(images, workers, taken):
    """Within an epoch, at its end, behind it; whatever was read ahead."""
    jitter = find_augmentation("sur", 16)

    def start():
        return LabelledStream(images, -(-len(images) // 5), 1, augmentation=jitter)

    assert start().batches_per_epoch == 5
    expected = list(start().batches(epochs=2))
    first = start()
    before = list(islice(first.batches(workers), taken))
    state = json.loads(json.dumps(first.state()))
    second = start()
    second.resume(state)
    same(before + list(second.batches(workers, epochs=2)), expected)


def test_one_stream_goes_on_after_its_loop_was_left(images):
    stream = LabelledStream(images, 30)
    expected = [batch.numbers.tolist() for batch in LabelledStream(images, 30).batches(epochs=1)]
    found = [batch.numbers.tolist() for batch in islice(stream.batches(), 2)]
    found += [batch.numbers.tolist() for batch in stream.batches(epochs=1)]
    assert found == expected


@pytest.mark.parametrize("remainder", ["drop", "pad"])
def test_another_number_of_ranks_takes_up_the_position(images, remainder):
    alone = LabelledStream(images, 24, 1, remainder)
    expected = [sorted(batch.numbers) for batch in alone.batches(epochs=2)]
    alone.go_to(0)
    list(islice(alone.batches(), 3))
    ranks = [LabelledStream(images, 8, 1, remainder, Shard(rank, 3)) for rank in range(3)]
    for rank in ranks:
        rank.resume(alone.state())
    found = [
        sorted(np.concatenate([batch.numbers for batch in batches]))
        for batches in zip(*(rank.batches(epochs=2) for rank in ranks), strict=True)
    ]
    assert found == expected[3:]
    assert all(rank.state() == ranks[0].state() for rank in ranks)


def test_ranks_with_a_batch_less_take_up_the_position_of_rank_0():
    """Seven images on two ranks in batches of one: rank 1 has three of them."""
    first, second = (LabelledStream(Numbered(7), 1, shard=Shard(rank, 2)) for rank in (0, 1))
    assert (first.batches_per_epoch, second.batches_per_epoch) == (4, 3)
    for batch, places in {2: [(0, 2), (0, 2)], 3: [(0, 3), (1, 0)], 4: [(1, 0), (1, 0)]}.items():
        for stream, place in zip((first, second), places, strict=True):
            stream.go_to(0, batch)
            assert (stream.epoch, stream.batch) == place


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 1}, "seed is 0, not 1"),
        ({"batch_size": 16}, "global batch is 8, not 16"),
        ({"shard": Shard(1, 2)}, "global batch is 8, not 16"),
        ({"remainder": "pad"}, "remainder is keep, not pad"),
        ({"augmentation": find_augmentation("flip", 16)}, "augmentation is none, not flip"),
    ],
)
def test_a_position_of_another_stream_is_refused(images, settings, message):
    state = LabelledStream(images, 8).state()
    with pytest.raises(InputError, match=f"of another stream: {message}"):
        LabelledStream(images, **({"batch_size": 8} | settings)).resume(state)


def test_a_position_of_other_images_is_refused(images, miniature):
    state = LabelledStream(images, 8).state()
    others = [(("dtd", "train", 16), "source"), (("vgg_flower", "valid", 16), "split")]
    for other, message in [*others, (("vgg_flower", "train", 17), "image size is 16, not 17")]:
        with pytest.raises(InputError, match=message):
            LabelledStream(LabelledImages(miniature, *other), 8).resume(state)


@pytest.mark.parametrize("wrong", [{"epoch": -1}, {"batch": 1.5}, {"batch": None}, {"epoch": True}])
def test_a_state_that_is_none_is_refused(images, wrong):
    stream = LabelledStream(images, 8)
    with pytest.raises(InputError, match="the saved position is none"):
        stream.resume(stream.state() | wrong)
    with pytest.raises(InputError, match="source is missing, not vgg_flower"):
        stream.resume({})
