"""What a backbone has seen decides which leaderboard it is on."""

import pytest

from episodes.protocol import find_protocol
from fewshot.results.cards import pretraining, training_of

ILSVRC = {"source": "ilsvrc_2012", "split": "train", "classes": ["a"] * 712}
ALL = find_protocol("md-v1").train_sources


def test_imagenet_only() -> None:
    assert training_of([ILSVRC]) == training_of([ILSVRC, ILSVRC]) == "imagenet"
    assert training_of([{**ILSVRC, "seen": ["ilsvrc_2012:train"]}]) == "imagenet"
    assert pretraining(ILSVRC) == "ilsvrc_2012, 712 train classes"


def test_all_sources_by_one_network_or_by_one_each() -> None:
    each = [{"source": name, "split": "train", "classes": ["a"]} for name in ALL]
    together = {"source": "several", "split": "train", "seen": [f"{name}:train" for name in ALL]}
    assert training_of(each) == training_of([together]) == "all"
    assert training_of(each[:-1]) not in ("imagenet", "all")


@pytest.mark.parametrize(
    "card",
    [
        {**ILSVRC, "split": "test"},
        {**ILSVRC, "seen": ["ilsvrc_2012:train", "ilsvrc_2012:test"]},
        {**ILSVRC, "seen": ["web images"]},
        {**ILSVRC, "source": "fungi"},
        {},
    ],
)
def test_anything_else_is_said(card: dict[str, object]) -> None:
    words = training_of([card])
    assert words not in ("imagenet", "all", None)
    assert words == pretraining(card)


def test_pretraining_beyond_the_training_is_in_the_words() -> None:
    card = {**ILSVRC, "seen": ["web images", "ilsvrc_2012:train"]}
    assert pretraining(card) == "web images, ilsvrc_2012:train (712 classes)"


def test_no_cards_say_nothing() -> None:
    assert training_of([]) is None
