"""Validation: the mean over all of its episodes, beside one that is computed by hand."""

import pytest
import torch

from episodes import EpisodeReader
from fewshot.backbones import build_backbone
from fewshot.heads import build_head
from fewshot.training.processes import Place
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


def validate(reader, backbone, place):
    recipe = Recipe(steps=1, select="few_shot", validation_episodes=EPISODES)
    head = build_head("prototypical")
    return Validation([reader], [], recipe, head, place)(backbone)


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
