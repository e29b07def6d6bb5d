"""The probe finds what planted heads depend on, and nothing about the heads of the project."""

import pytest
import torch

from fewshot.heads import FROZEN, TRANSDUCTIVE, build_head
from fewshot.probe import probe
from tests.fewshot.heads.test_planted_faults import (
    LooksAtTheOrder,
    Planted,
    Remembers,
    ReturnsNan,
    SecretlyTransductive,
    TunesInPlace,
)


class PrefersTheFirst(Planted):
    def spoil(self, scores, features, labels):
        return scores + 100 * torch.eye(scores.shape[1])[0]


class Marked(SecretlyTransductive):
    transductive = True


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (SecretlyTransductive, "depend on the other queries"),
        (PrefersTheFirst, "depend on how the classes are numbered"),
        (LooksAtTheOrder, "depend on the order of the support"),
        (Remembers, "differ when the same episode is given again"),
        (ReturnsNan, "failed on a small made-up episode: gave scores that are not finite"),
        (TunesInPlace, "failed on a small made-up episode: changed the backbone"),
    ],
)
def test_a_planted_fault_is_named(head, words):
    assert any(words in sentence for sentence in probe(head()).sentences)


def test_a_head_that_peeks_is_known_to_peek():
    assert probe(SecretlyTransductive()).peeks
    assert probe(Marked()).peeks and probe(Marked()).sentences == ()
    assert not probe(Planted()).peeks


@pytest.mark.parametrize("head", [*FROZEN, *TRANSDUCTIVE], ids=lambda head: head.name)
def test_nothing_is_found_about_heads_of_the_project(head):
    if head.name != "urt":  # needs a trained attention
        made = build_head("tim:steps=30" if head.name == "tim" else head.name)
        found = probe(made)
        assert found.sentences == () and found.peeks == made.transductive


def test_tuning_heads_are_probed_on_images():
    assert probe(build_head("finetune:layers=all,steps=3")).sentences == ()
