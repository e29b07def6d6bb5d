"""What was measured as tables: energy by step, agreement by source."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fewshot.aliasing.spectrum import Spectrum
from fewshot.grid import MISSING, Grid, percent
from fewshot.results.aggregate import mean_and_interval
from fewshot.results.tables import SHORT_NAMES

Measured = Mapping[str, Mapping[str, Any]]
"""By source: what `measurement.measure` returns."""

ENERGY_NOTES = (
    "Share of the map's spectral energy above the new Nyquist frequency, in %: before and after "
    "the filter that stands there, mean over the sources; then after it, by source.",
    "Maps of a plain strided convolution are before its activation, those of a filter after it: "
    "compare before with after at one step, and between networks with care.",
)
AGREEMENT_NOTES = (
    "same: how often the classifier's best guess is the same, in %; cosine: of the features; "
    "± 95 % interval over images.",
    "folded: energy that folds in %, mean over the steps.",
)


def folded(step: Mapping[str, Any], which: str, share: str = "folded") -> float:
    """A share of a measured step, `before` or `after` its filter."""
    value: float = getattr(Spectrum(**step[which]), share)
    return value


def mean_folded(steps: Sequence[Mapping[str, Any]]) -> float:
    """Mean over the steps of the share that folds."""
    return sum(folded(step, "after") for step in steps) / len(steps)


def over_sources(values: Sequence[Sequence[float]]) -> tuple[float, float | None]:
    """Mean over sources of their means, each with the same weight, and its 95 % interval.

    Args:
        values: per source, one value per image.
    """
    cells = [mean_and_interval(one) for one in values]
    means = [mean for mean, _ in cells if mean is not None]
    widths = [width for _, width in cells if width is not None]
    whole = len(widths) == len(cells)
    width = math.hypot(*widths) / len(cells) if whole and widths else None
    return sum(means) / len(means), width


def said(mean: float, width: float | None, scale: float = 1.0, decimals: int = 3) -> str:
    """A mean and its interval."""
    text = f"{scale * mean:.{decimals}f}"
    return text if width is None else f"{text} ± {scale * width:.{decimals}f}"


def energy_grid(
    title: str, names: Sequence[str], measured: Sequence[Measured], notes: Sequence[str]
) -> Grid:
    """A row per sub-sampling step of each network, a column per source."""
    sources = list(measured[0])
    sections, lines = [], []
    for name, by_source in zip(names, measured, strict=True):
        rows = []
        for k, step in enumerate(by_source[sources[0]]["steps"]):
            here = [by_source[source]["steps"][k] for source in sources]
            before = sum(folded(one, "before") for one in here) / len(here)
            after = [folded(one, "after") for one in here]
            size = "×".join(map(str, step["size"]))
            facts = (name, step["path"], step["place"], size, step["filter"] or MISSING)
            means = (percent(before), percent(sum(after) / len(after)))
            rows.append((*facts, *means, *map(percent, after)))
            for source, one in zip(sources, here, strict=True):
                shares = [
                    folded(one, which, share)
                    for share in ("folded", "folded_of_variation")
                    for which in ("before", "after")
                ]
                lines.append((name, k, *facts[1:4], step["filter"], source, *shares))
        sections.append(tuple(rows))
    header = ("Network", "step", "place", "map", "filter", "before", "after")
    values = ("network", "number", "step", "place", "map", "filter", "source", "before", "after",
              "before_of_variation", "after_of_variation")  # fmt: skip
    return Grid(
        title=f"{title} · energy that folds",
        header=(*header, *(SHORT_NAMES.get(source, source) for source in sources)),
        sections=tuple(sections),
        notes=(*notes, *ENERGY_NOTES),
        texts=5,
        values=(values, *lines),
    )


def agreement_grid(
    title: str, names: Sequence[str], measured: Sequence[Measured], notes: Sequence[str]
) -> Grid:
    """A row per source, three columns per network: views at random shifts, and folded energy."""
    sources = list(measured[0])
    rows = []
    lines: list[tuple[str | float | None, ...]] = [
        ("network", "source", "shift", "images", "same", "same_ci95", "cosine", "cosine_ci95")
    ]
    for source in sources:
        row = [SHORT_NAMES.get(source, source)]
        for by_source in measured:
            found = by_source[source]
            same, cosine = (over_sources([found["random"][key]]) for key in ("same", "cosine"))
            row += [said(*same, 100, 1), said(*cosine), percent(mean_folded(found["steps"]))]
        rows.append(tuple(row))
    last = ["Mean"]
    for name, by_source in zip(names, measured, strict=True):
        every = [by_source[source] for source in sources]
        same = over_sources([one["random"]["same"] for one in every])
        cosine = over_sources([one["random"]["cosine"] for one in every])
        energy = sum(mean_folded(one["steps"]) for one in every) / len(every)
        last += [said(*same, 100, 1), said(*cosine), percent(energy)]
        for source in sources:
            found = by_source[source]
            for shift, pair in (("random", found["random"]), *found["moved"].items()):
                cells = [v for key in ("same", "cosine") for v in mean_and_interval(pair[key])]
                lines.append((name, source, shift, len(pair["same"]), *cells))
    header = [f"{what} {name}" for name in names for what in ("same", "cosine", "folded")]
    return Grid(
        title=f"{title} · views at random shifts",
        header=("Source", *header),
        sections=(tuple(rows), (tuple(last),)),
        notes=(*notes, *AGREEMENT_NOTES),
        values=tuple(lines),
    )
