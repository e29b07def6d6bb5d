"""What backbones have seen, from their cards: the words that tables group by.

A card is a checkpoint's, as JSON values; a submission may bring any.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from episodes.protocol import find_protocol


def splits_seen(card: Mapping[str, Any]) -> tuple[str, ...]:
    """What training and pre-training have seen, as "source:split"."""
    return tuple(map(str, card.get("seen") or [f"{card.get('source')}:{card.get('split')}"]))


def pretraining(card: Mapping[str, Any]) -> str:
    """The same in words, with the number of classes."""
    classes, seen = len(card.get("classes") or ()), splits_seen(card)
    own = f"{card.get('source')}:{card.get('split')}"
    if set(seen) == {own}:
        return f"{card.get('source')}, {classes} {card.get('split')} classes"
    return f"{', '.join(seen)} ({classes} classes)"


def training_of(cards: Sequence[Mapping[str, Any]]) -> str | None:
    """The leaderboard that methods over these backbones belong to: "imagenet" or "all".

    "imagenet" if they have seen the train classes of ILSVRC and nothing else, "all" if those of
    every training source and nothing else, otherwise what they have seen, in words; None without
    cards.
    """
    if not cards:
        return None
    seen = {name for card in cards for name in splits_seen(card)}
    if seen == {"ilsvrc_2012:train"}:
        return "imagenet"
    if seen == {f"{source}:train" for source in find_protocol("md-v1").train_sources}:
        return "all"
    return " + ".join(dict.fromkeys(map(pretraining, cards)))
