"""Published results on Meta-Dataset, as data: every number with its reference.

`leaderboard.csv` holds the rows of the benchmark's own leaderboard (README of
google-research/meta-dataset), mean and 95 % interval over 600 episodes in percent, in the order
they were registered there. `recent.csv` holds results published since, which came without
intervals and are listed but never ranked. `references.csv` says where each was published.
`plans.csv` has the hashes of the benchmark's episodes, by which a leaderboard knows them; it was
written by `leaderboard plans` from the benchmark's own specifications and from the miniature's.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files

from fewshot.results.aggregate import Cell
from fewshot.results.known_plans import KnownPlans, parse_known
from fewshot.results.leaderboard import (
    COLUMNS,
    TRAININGS,
    Entry,
    Leaderboard,
    Reference,
    build_leaderboard,
    own_entry,
    reasons_against,
)
from fewshot.results.methods import Method

EPISODES = 600  # of every row of the leaderboard
NO_INTERVALS = "published without intervals"


def read_references() -> dict[str, Reference]:
    """Every reference by its key; its number is its place in the file."""
    return {
        row["key"]: Reference(number, row["citation"], row["url"])
        for number, row in enumerate(_read("references.csv"), start=1)
    }


def read_published(training: str) -> list[Entry]:
    """The rows of one of the two leaderboards, and then the results published since.

    Args:
        training: "imagenet" (trained on ImageNet only) or "all" (on all training sources).

    Raises:
        KeyError: there is no such leaderboard.
    """
    references, name = read_references(), TRAININGS[training]
    ranked = [
        Entry(
            method=row["method"],
            training=training,
            pretraining=name,
            cells={column: _cell(row[column]) for column in COLUMNS.values()},
            references=tuple(references[key] for key in row["references"].split()),
            transductive=row["transductive"] == "yes",
        )
        for row in _read("leaderboard.csv")
        if row["training"] == training
    ]
    recent = [
        Entry(
            method=row["method"],
            training=training,
            pretraining=name,
            cells={column: Cell(float(row[column]) / 100, None, 0) for column in COLUMNS.values()},
            references=tuple(references[key] for key in row["references"].split()),
            backbone=row["backbone"],
            why_unranked=(f"{NO_INTERVALS}; {row['backbone']}",),
        )
        for row in _read("recent.csv")
        if row["training"] == training
    ]
    return ranked + recent


def read_known_plans() -> list[KnownPlans]:
    """The first 600 episodes of every source, by protocol and seed, as far as they are known."""
    return parse_known(_lines("plans.csv"), "plans.csv")


def place_among(methods: Sequence[Method], training: str) -> Leaderboard:
    """The published results of a leaderboard, and then one's own.

    Args:
        methods: of one's own; those that may not be ranked there are shown with the reasons.
        training: "imagenet" or "all".
    """
    own = []
    for method in methods:
        entry = own_entry(method)
        reasons = reasons_against(method, entry, training)
        own.append(replace(entry, why_unranked=reasons))
    return build_leaderboard(TRAININGS[training], training, [*read_published(training), *own])


def _cell(text: str) -> Cell:
    mean, ci = map(float, text.split("±"))
    return Cell(mean / 100, ci / 100, EPISODES)


def _read(name: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(_lines(name))


def _lines(name: str) -> list[str]:
    return (files(__name__) / name).read_text(encoding="utf-8").splitlines()
