"""How much each feature extractor counted, as heads that select tell it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fewshot.results.frames import Frames
from fewshot.results.methods import Method, sort_sources

SELECTION = "selection"  # as `fewshot.heads` name it; this folder imports no torch


@dataclass(frozen=True)
class Selection:
    """What a method selected.

    Attributes:
        method: its name.
        extractors: their names.
        means: by source, the mean share of each extractor over the episodes; shares sum to 1.
    """

    method: str
    extractors: tuple[str, ...]
    means: dict[str, tuple[float, ...]]


def find_selection(
    frames: Frames, method: Method, cards: Sequence[dict[str, Any]]
) -> Selection | None:
    """What a method selected; None where it tells nothing.

    Args:
        frames: with what its head told.
        method: it.
        cards: of the backbones that its extractors are of.
    """
    told = frames.told
    told = told[told["run"].isin(method.runs) & (told["head"] == method.head)]
    told = told[told["name"] == SELECTION]
    if told.empty:
        return None
    count = int(told["position"].max()) + 1
    means = told.pivot_table("value", "source", "position", observed=True).dropna()
    shares = {str(source): tuple(row.tolist()) for source, row in means.iterrows()}
    return Selection(
        method.name,
        name_extractors(cards, count),
        {source: shares[source] for source in sort_sources(list(shares))},
    )


def name_extractors(cards: Sequence[dict[str, Any]], count: int) -> tuple[str, ...]:
    """Names of so many extractors that these backbones gave.

    Several backbones are an extractor each, called by what differs: the network, or what it was
    trained on. One backbone gives the maps of its last stages.
    """
    if len(cards) == count:
        for name in ("backbone", "source"):
            names = [str(card.get(name)) for card in cards]
            if len(set(names)) == count:
                return tuple(names)
        return tuple(f"{card.get('backbone')} {k}" for k, card in enumerate(cards, start=1))
    kind = "stage" if len(cards) == 1 else "extractor"
    return tuple(f"{kind} {k}" for k in range(1, count + 1))
