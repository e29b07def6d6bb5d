"""One batch of each of several streams at every step."""

from itertools import islice

import pytest
import torch

from episodes.augmentation import find_augmentation
from episodes.loader import LabelledImages
from episodes.mixing import find_mixing
from episodes.streams import JointStream, LabelledStream, Shard

BATCHES = {"dtd": 30, "cu_birds": 8}


def streams(miniature, shard=Shard()):  # noqa: B008
    flip = find_augmentation("flip", 24)
    return [
        LabelledStream(LabelledImages(miniature, name, "train", 24), size, 5, "drop", shard, flip)
        for name, size in BATCHES.items()
    ]


def numbers(steps):
    return [[batch.numbers.tolist() for batch in batches] for batches in steps]


def test_each_step_has_the_next_batch_of_each(miniature):
    joint = numbers(islice(JointStream(streams(miniature)).batches(), 20))
    each = [numbers([[b] for b in islice(one.batches(), 20)]) for one in streams(miniature)]
    assert joint == [[first[0], second[0]] for first, second in zip(*each, strict=True)]
    assert len({tuple(step[0]) for step in joint}) == 20  # the small source came round, reshuffled


@pytest.mark.parametrize("workers", [0, 2])
def test_it_goes_on_at_any_step_to_the_same_pixels(miniature, workers):
    whole = list(JointStream(streams(miniature)).batches(stop=15))
    later = JointStream(streams(miniature))
    later.step = 13
    rest = list(later.batches(workers, stop=15))
    assert len(rest) == 2 and later.step == 15
    for found, wanted in zip(rest, whole[13:], strict=True):
        for a, b in zip(found, wanted, strict=True):
            assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


def test_nothing_is_left_behind_the_last_step(miniature):
    done = JointStream(streams(miniature))
    done.step = 15
    assert list(done.batches(stop=15)) == []


def test_the_facts_name_each_source(miniature):
    facts = JointStream(streams(miniature)).facts()
    assert [one["source"] for one in facts] == list(BATCHES)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "both"])
def test_mixed_images_keep_their_labels_in_part(name):
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 8, 8).contiguous()
    torch.manual_seed(1)
    mixed, shares = find_mixing(name, classes=4)(images, torch.arange(4))
    assert mixed.shape == images.shape and shares.shape == (4, 4)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(4))
    # image k holds the grey level k, so its mean is the mean of its labels
    expected = shares @ torch.arange(4.0)
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), expected, rtol=1e-4, atol=1e-4)


def test_no_mixing():
    assert find_mixing("none", 4) is None
