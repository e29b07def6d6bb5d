"""Validation: means over all of its episodes and images, beside those computed by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from episodes import EpisodeReader, InputError
from episodes.loader import LabelledImages, load_batches
from fewshot.backbones import build_backbone
from fewshot.heads import build_head
from fewshot.training.processes import Place, synchronise_norms
from fewshot.training.recipe import Recipe
from fewshot.training.validation import Validation

EPISODES = 9


class Alone:
    """One of several processes, whose sums are its own."""

    device = torch.device("cpu")

    def __init__(self, rank, ranks):
        self.rank, self.ranks = rank, ranks

    def sum(self, numbers):
        return numbers


@pytest.fixture(scope="module")
def reader(miniature):
    return EpisodeReader(miniature, "dtd", "valid", size=32)


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("resnet18", 3, 0).eval()


@pytest.fixture(scope="module")
def by_hand(reader, backbone):
    """Accuracies by nearest prototypes, episode by episode."""
    accuracies = []
    for index in range(EPISODES):
        episode = reader.read(reader.plan(index))
        with torch.inference_mode():
            support, query = map(backbone.embed, (episode.support_images, episode.query_images))
        labels = torch.as_tensor(episode.plan.support_labels)
        means = [support[labels == k].mean(dim=0) for k in range(episode.plan.way)]
        nearest = torch.cdist(query, torch.stack(means)).argmin(dim=1)
        right = nearest == torch.as_tensor(episode.plan.query_labels)
        accuracies.append(right.double().mean())
    return torch.stack(accuracies)


def validate(reader, backbone, place, head="prototypical"):
    recipe = Recipe(steps=1, select="few_shot", validation_episodes=EPISODES)
    return Validation([reader], [], recipe, build_head(head), place)(backbone)


def test_all_episodes_count(reader, backbone, by_hand):
    score = validate(reader, backbone, Place(torch.device("cpu")))
    assert score.value == pytest.approx(by_hand.mean().item(), abs=0.005)
    mean, interval = score.metrics["few_shot"]["dtd"]
    spread = by_hand.std(correction=0).item() / EPISODES**0.5
    assert mean == score.value
    assert interval == pytest.approx(1.96 * spread, rel=0.05)


def test_processes_share_the_episodes(reader, backbone, by_hand):
    parts = [validate(reader, backbone, Alone(rank, 2)).value for rank in range(2)]
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(by_hand.mean().item(), abs=0.005)


def test_a_head_that_fails_is_no_validation(reader, backbone, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from fewshot.heads import Head\n\nclass Mine(Head):\n    name = 'mine'\n"
        "    def fit(self, support, labels, way, generator):\n        raise ValueError('oh no')\n"
    )
    with pytest.raises(InputError, match="validation episode 0 of dtd: failed: ValueError: oh no"):
        validate(reader, backbone, Place(torch.device("cpu")), f"{path}:Mine")


def test_only_plain_batch_norms_are_synchronised():
    class Filmed(nn.BatchNorm2d):
        """One that does more, which the conversion would drop."""

    plain = nn.Sequential(nn.BatchNorm2d(2))
    synchronise_norms(plain)
    assert isinstance(plain[0], nn.SyncBatchNorm)
    with pytest.raises(InputError, match="the batch norm 0 is a Filmed, which cannot be sync"):
        synchronise_norms(nn.Sequential(Filmed(2)))


def test_held_out_images_are_counted_whatever_the_processes(miniature, backbone):
    images = LabelledImages(miniature, "dtd", "train", 32)
    held_out = images.hold_out(0.1, 0)[1]
    recipe = Recipe(steps=1, held_out=0.1)
    classifier = build_backbone("resnet18", len(images.class_names), 0).eval()
    numbers = np.arange(len(held_out))
    pixels = torch.cat(list(load_batches(held_out.reader, *held_out.locate(numbers), 64)))
    with torch.inference_mode():
        right = classifier(pixels).argmax(dim=1) == torch.from_numpy(held_out.labels(numbers))
    share = right.double().mean().item()

    def top1(place):
        return Validation([], [held_out], recipe, build_head("prototypical"), place)(classifier)

    alone = top1(Place(torch.device("cpu")))
    assert alone.value == alone.metrics["held_out"]["dtd"] == pytest.approx(share)
    ranks = len(held_out) + 1  # the last process has no image
    assert top1(Alone(ranks - 1, ranks)).value == 0
    assert sum(top1(Alone(rank, 3)).value for rank in range(3)) == pytest.approx(share)
