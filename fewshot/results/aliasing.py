"""Aliasing of a run's backbones, where `aliasing` has measured it; read without torch."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot.results.collection import StoredRun

FOLDER = "aliasing"
"""How the folders begin that `aliasing` writes beside those of runs."""


@dataclass(frozen=True)
class FoldingStep:
    """A sub-sampling step.

    Attributes:
        name: of the step in the network.
        before, after: share of energy that folds, mean over sources, before and after the filter.
    """

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Aliasing:
    """What was measured of a network.

    Attributes:
        network: its name.
        steps: in the order of the network.
        agreement: (shift in pixels, how often the guess stays, in %), mean over sources.
        sources: how many.
    """

    network: str
    steps: tuple[FoldingStep, ...]
    agreement: tuple[tuple[float, float], ...]
    sources: int


def find_aliasing(stored: StoredRun) -> list[Aliasing]:
    """Measures of the very weights that a run used; none where nothing was measured.

    They are looked for in the run's folder, and in folders of `aliasing` in it and beside it.
    """
    folder = stored.path.absolute().parent
    cards = stored.run.calls[-1].get("backbones", []) if stored.run.calls else []
    weights = [card.get("weights") for card in cards]
    places = [folder, *folder.glob(f"{FOLDER}*"), *folder.parent.glob(f"{FOLDER}*")]
    found: dict[str, Aliasing] = {}
    for path in sorted({path for place in places for path in place.glob("*.json")}):
        for weight, measured in read_measures(path):
            if weight in weights:
                found.setdefault(weight, measured)
    return [found[weight] for weight in dict.fromkeys(weights) if weight in found]


def read_measures(path: Path) -> Iterator[tuple[str, Aliasing]]:
    """The weights and the measures in a file of `aliasing`; nothing if it is another file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        identity, by_source = content["identity"], list(content["results"].values())
        if by_source:
            yield str(identity["weights"]), _summed(str(identity["backbone"]), by_source)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return  # no result of an evaluation: its loss costs a figure and no number


def _summed(network: str, by_source: list[Mapping[str, Any]]) -> Aliasing:
    steps = [
        FoldingStep(
            f"{here[0]['path']} ({here[0]['place']})",
            *(_mean([_folded(step[which]) for step in here]) for which in ("before", "after")),
        )
        for here in zip(*(found["steps"] for found in by_source), strict=True)
    ]
    agreement = [
        (float(shift), 100 * _mean([_mean(found["moved"][shift]["same"]) for found in by_source]))
        for shift in by_source[0]["moved"]
    ]
    return Aliasing(network, tuple(steps), tuple(agreement), len(by_source))


def _folded(spectrum: Mapping[str, float]) -> float:
    return spectrum["folding"] / spectrum["total"] if spectrum["total"] else 0.0


def _mean(values: list[float]) -> float:
    mean = sum(values) / len(values)
    if not math.isfinite(mean):
        raise ValueError("a measure is not finite")
    return mean
