"""What a run tells of itself: kept with its rows, and written below its table."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from episodes.protocol import find_protocol
from fewshot.checkpoint import Card
from fewshot.evaluation import Entry
from fewshot.experiment import Experiment

PUBLISHED_EPISODES = 600


def describe_makings(
    experiment: Experiment, benchmark: str, cards: Sequence[Card], entries: Sequence[Entry]
) -> dict[str, Any]:
    """What `show` tells of a run and tables group by; JSON values only."""
    protocol = find_protocol(experiment.protocol)
    return {
        "benchmark": benchmark,
        "protocol": {
            "name": protocol.name,
            "version": protocol.version,
            "hash": protocol.hash,
        },
        "image": {"size": experiment.image_size, "rule": experiment.image_rule},
        "split": experiment.split,
        "seed": experiment.seed,
        "backbones": [asdict(card) for card in cards],
        "heads": {
            entry.label: {
                "name": entry.head.name,
                "transductive": entry.transductive,
                "tuning": entry.head.tuning,
                "settings": asdict(entry.head),
            }
            for entry in entries
        },
        "experiment": experiment.settings(),
    }


def notes_on(
    experiment: Experiment, benchmark: str, cards: Sequence[Card], entries: Sequence[Entry]
) -> list[str]:
    """What a reader of the table must know about how its numbers came to be."""
    notes = []
    if benchmark.startswith("miniature"):
        notes.append(
            "miniature: drawn stand-ins of the ten sources; never comparable to published numbers."
        )
    for card in cards:
        elsewhere = "" if card.records == benchmark else f" of {card.records}"
        trained = f"{card.source} ({card.split} classes{elsewhere}) at {card.image_size} px"
        notes.append(f"{card.backbone}: trained on {trained}.")
        own = {f"{source}:{card.split}" for source in card.source.split("+")}
        if card.made_from.get("init") and (before := [o for o in card.seen if o not in own]):
            notes.append(f"{card.backbone}: it began with weights that saw {', '.join(before)}.")
        if seen := card.seen_of(experiment.split):
            what = f"pre-training saw the {experiment.split} classes of {', '.join(seen)}"
            notes.append(f"{card.backbone}: {what}.")
        elif card.seen == ("unknown",):
            notes.append(f"{card.backbone}: what its pre-training saw is unknown.")
    for entry in entries:
        settings = cards[entry.backbone or 0].learner
        same_method = settings.keys() == asdict(entry.head).keys()
        if same_method and (others := entry.head.unlike(settings)):
            notes.append(f"{entry.label}: trained with {', '.join(others)}.")
    protocol = find_protocol(experiment.protocol)
    rules = f"{protocol.name} version {protocol.version} ({protocol.hash})"
    pixels = f"{experiment.image_size} px, image rule {experiment.image_rule}"
    notes.append(f"Protocol {rules}, seed {experiment.seed}; {pixels}.")
    if experiment.episodes < PUBLISHED_EPISODES:
        notes.append(f"Published results use {PUBLISHED_EPISODES} episodes per source.")
    return list(dict.fromkeys(notes))
