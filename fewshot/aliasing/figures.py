"""What was measured as figures: spectra, energy by step, agreement against shift, filters."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fewshot.aliasing.report import Measured, folded, over_sources
from fewshot.aliasing.spectrum import BINS, gain
from fewshot.antialiasing import parse_filter
from fewshot.plots import INK, colour_of, drawing, entitle, mark_of, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHADE = "#F3E6C4"
"""Of the frequencies that fold."""
BEFORE = "#999999"


@dataclass(frozen=True)
class Compared:
    """Networks side by side, as figures show them.

    Attributes:
        title: what was measured where.
        names: of the networks.
        measured: what was measured of each.
    """

    title: str
    names: Sequence[str]
    measured: Sequence[Measured]

    def __iter__(self) -> Iterator[tuple[str, Measured]]:
        return zip(self.names, self.measured, strict=True)

    @property
    def steps(self) -> list[Sequence[dict[str, Any]]]:
        """The sub-sampling steps of each network, on the first source."""
        return [next(iter(by_source.values()))["steps"] for by_source in self.measured]


def draw_all(
    title: str,
    names: Sequence[str],
    measured: Sequence[Measured],
    folder: Path,
    formats: Sequence[str],
) -> tuple[Path, ...]:
    """Write every figure.

    Raises:
        InputError: a file cannot be written.
    """
    figures = {"spectra": spectra, "energy": energy, "agreement": agreement, "filters": filters}
    written: tuple[Path, ...] = ()
    for stem, draw in figures.items():
        with draw(Compared(title, names, measured)) as figure:
            written += save(figure, folder, stem, formats)
    return written


def _label(step: dict[str, Any]) -> str:
    return f"{step['path']}\n{step['place']}, {'×'.join(map(str, step['size']))}"


def _summed(by_source: Measured, number: int, which: str) -> list[float]:
    """The spectrum at a step, mean over the sources, each with energy 1 before the filter."""
    total = [0.0] * BINS
    for found in by_source.values():
        step = found["steps"][number]
        whole = step["before"]["total"] or 1.0
        total = [t + bin / whole for t, bin in zip(total, step[which]["bins"], strict=True)]
    return [value / len(by_source) for value in total]


@contextmanager
def spectra(shown: Compared) -> Iterator["Figure"]:
    """Energy against frequency at every step, before and after the filter; a row per network."""
    steps = shown.steps
    most = max(map(len, steps))
    centres = [(k + 0.5) / (2 * BINS) for k in range(BINS)]
    with drawing(1.55 * most + 0.8, 1.9 * len(shown.names) + 0.9) as figure:
        panels = figure.subplots(len(shown.names), most, sharex=True, sharey=True, squeeze=False)
        for row, (name, by_source) in enumerate(shown):
            for column in range(most):
                panel = panels[row][column]
                if column >= len(steps[row]):
                    panel.set_axis_off()
                    continue
                step = steps[row][column]
                panel.set_title(_label(step), fontsize=7, color=INK)
                panel.axvspan(0.5 / max(step["stride"]), 0.5, color=SHADE, lw=0)
                after = _summed(by_source, column, "after")
                if step["filter"]:
                    before = _summed(by_source, column, "before")
                    _steps(panel, centres, before, BEFORE, "before the filter", "--")
                _steps(panel, centres, after, colour_of(row), name, "-")
                panel.set_yscale("log")
                panel.set_ylim(1e-5, 2)
                panel.set_xlim(0, 0.5)
                panel.set_xticks([0, 0.25, 0.5], ["0", "¼", "½"])
            handles, labels = panels[row][min(1, len(steps[row]) - 1)].get_legend_handles_labels()
            panels[row][0].legend(handles, labels, fontsize=6.5, loc="lower left")
        figure.supxlabel("frequency, cycles per sample (shaded: folds)", fontsize=9)
        figure.supylabel("share of energy", fontsize=9)
        entitle(figure, "Spectra at the moment of sub-sampling", shown.title)
        yield figure


def _steps(
    panel: Any, x: Sequence[float], y: Sequence[float], colour: str, name: str, line: str
) -> None:
    seen = [(a, b) for a, b in zip(x, y, strict=True) if b > 0]  # small maps leave bins empty
    panel.plot(*zip(*seen, strict=True), color=colour, linestyle=line, label=name, lw=1.3)


@contextmanager
def energy(shown: Compared) -> Iterator["Figure"]:
    """The share that folds at every step: filled after the filter, hollow before it."""
    steps = shown.steps
    most = max(map(len, steps))
    lanes = [(k - (len(shown.names) - 1) / 2) * 0.22 for k in range(len(shown.names))]
    with drawing(7.4, 0.46 * most + 1.6) as figure:
        panel = figure.subplots()
        for k, (name, by_source) in enumerate(shown):
            count = len(steps[k])
            places = [number + lanes[k] for number in range(count)]
            shares = {
                which: [
                    100 * sum(folded(found["steps"][n], which) for found in by_source.values())
                    / len(by_source)
                    for n in range(count)
                ]
                for which in ("before", "after")
            }  # fmt: skip
            panel.hlines(places, shares["after"], shares["before"], color=colour_of(k), lw=1)
            look: dict[str, Any] = {"color": colour_of(k), "marker": mark_of(k), "ls": "none"}
            panel.plot(shares["before"], places, markerfacecolor="white", **look)
            panel.plot(shares["after"], places, label=name, **look)
        longest = steps[[len(one) for one in steps].index(most)]
        labels = [f"{step['path']}  ({step['place']})" for step in longest]
        alike = all([s["path"] for s in one] == [s["path"] for s in longest] for one in steps)
        panel.set_yticks(range(most), labels if alike else _numbered(steps, most))
        panel.invert_yaxis()
        panel.set_xlim(left=0)
        panel.set_xlabel("energy above the new Nyquist frequency, %  (hollow: before the filter)")
        panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        entitle(figure, "Energy that folds", shown.title)
        yield figure


def _numbered(steps: Sequence[Sequence[dict[str, Any]]], most: int) -> list[str]:
    """Names of steps that networks of one family share, else their numbers."""
    labels = []
    for number in range(most):
        here = [one[number] for one in steps if number < len(one)]
        stems = {step["path"].removesuffix(".0") for step in here}
        place = here[0]["place"]
        name = min(stems, key=len) if len({s["place"] for s in here}) == 1 else "step"
        labels.append(f"{name}  ({place})" if len(stems) == 1 else f"step {number + 1}")
    return labels


@contextmanager
def agreement(shown: Compared) -> Iterator["Figure"]:
    """Agreement with the unmoved image against the distance, mean over sources, 95 % bands."""
    what = (("same", "same best guess, %", 100.0), ("cosine", "cosine of the features", 1.0))
    with drawing(7.6, 3.1) as figure:
        panels = figure.subplots(1, 2)
        for panel, (key, label, scale) in zip(panels, what, strict=True):
            for k, (name, by_source) in enumerate(shown):
                distances = list(next(iter(by_source.values()))["moved"])
                cells = [
                    over_sources([found["moved"][d][key] for found in by_source.values()])
                    for d in distances
                ]
                x = [float(d) for d in distances]
                y = [scale * mean for mean, _ in cells]
                width = [scale * (ci or 0.0) for _, ci in cells]
                low = [a - b for a, b in zip(y, width, strict=True)]
                high = [min(a + b, scale) for a, b in zip(y, width, strict=True)]
                panel.fill_between(x, low, high, color=colour_of(k), alpha=0.15, lw=0)
                panel.plot(x, y, color=colour_of(k), marker=mark_of(k), label=name)
            panel.set_xscale("log", base=2)
            panel.set_xticks([0.25, 0.5, 1, 2, 4, 8], ["¼", "½", "1", "2", "4", "8"])
            panel.minorticks_off()
            panel.set_xlabel("shift, pixels")
            panel.set_title(label, color=INK)
        panels[0].legend(loc="lower left")
        entitle(figure, "Agreement with the unmoved image", shown.title)
        yield figure


@contextmanager
def filters(shown: Compared) -> Iterator["Figure"]:
    """How much of each frequency the filters of these networks let through."""
    stride, places = 2, torch.linspace(0, 0.5, 201, dtype=torch.float64)
    used = {step["filter"] for steps in shown.steps for step in steps if step["filter"]}
    with drawing(4.6, 3.0) as figure:
        panel = figure.subplots()
        panel.axvspan(0.5 / stride, 0.5, color=SHADE, lw=0)
        for k, name in enumerate(sorted(used)):
            if (row := _row_of(name, stride)) is not None:
                panel.plot(places, gain(row, places), color=colour_of(k), label=name)
        if (row := _row_of("sinc13", stride)) is not None:
            panel.plot(places, gain(row, places), color=BEFORE, ls="--", label="sinc13")
        panel.set_xlim(0, 0.5)
        panel.set_ylim(0, 1.08)
        panel.set_xticks([0, 0.125, 0.25, 0.375, 0.5], ["0", "⅛", "¼", "⅜", "½"])
        panel.set_xlabel("frequency, cycles per sample (shaded: folds at stride 2)")
        panel.set_ylabel("gain")
        panel.legend(loc="upper right")
        entitle(figure, "Filters, beside a nearly ideal low-pass")
        yield figure


def _row_of(name: str, stride: int) -> torch.Tensor | None:
    """Taps of a filter along one dimension; None for a foreign or two-dimensional one."""
    try:
        row = parse_filter(name).row
    except Exception:
        return None
    return None if row is None else row(stride)
