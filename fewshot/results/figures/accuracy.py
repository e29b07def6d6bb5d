"""Accuracies as figures: by source, against ways and against shots."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fewshot.results.aggregate import Table
from fewshot.results.figures.figure import (
    ACCENT,
    INK,
    MARKERS,
    QUIET,
    SERIES,
    Figure,
    add_legend,
    clip,
    draw_line,
    new_canvas,
    short_name,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WORDS = {"way": "classes of the episode (way)", "shot": "support images per class (mean shot)"}


@styled
def draw_bars(table: Table, name: str = "bars") -> Figure:
    """One panel per source, one bar per method with its interval; the best are in colour."""
    sources, methods = table.sources, table.heads
    across = min(5, len(sources))
    down = -(-len(sources) // across)
    height = down * (0.23 * len(methods) + 0.65)
    canvas = new_canvas(1.75 * across + 1.6, height)
    panels = canvas.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    tips = {}
    for s, panel in enumerate(panels.flat):
        if s >= len(sources):
            panel.set_visible(False)
            continue
        for h in range(len(methods)):
            cell, best = table.cells[h][s], table.best[h][s]
            if cell is None:
                panel.text(1, h, "no result", va="center", color=QUIET, fontsize=7)
                continue
            (bar,) = panel.barh(h, 100 * cell.mean, 0.72, color=ACCENT if best else "#8a96a3")
            gid = f"{name}-{h}-{s}"
            bar.set_gid(gid)
            interval = ""
            if cell.ci is not None:
                interval = f" ± {100 * cell.ci:.2f}"
                ends = [100 * (cell.mean - cell.ci), 100 * (cell.mean + cell.ci)]
                panel.plot(ends, [h, h], color=INK, linewidth=1.2, solid_capstyle="butt")
            tips[gid] = (
                f"{methods[h]} on {short_name(sources[s])}: {100 * cell.mean:.2f}{interval}, "
                f"{cell.episodes} episodes{', best or tied' if best else ''}"
            )
        panel.set_title(short_name(sources[s]), fontsize=9, loc="left", color=INK)
        panel.set_yticks(range(len(methods)), [clip(method) for method in methods])
        panel.tick_params(length=0)
        panel.spines["bottom"].set_visible(False)
        panel.grid(axis="x", linewidth=0.6)
        panel.set_axisbelow(True)
    panels[0, 0].set_ylim(len(methods) - 0.4, -0.6)
    panels[0, 0].set_xlim(0, 100)
    panels[0, 0].set_xticks([0, 25, 50, 75, 100], ["0", "", "50", "", ""])
    canvas.tight_layout(w_pad=0.8, h_pad=0.8)
    caption = (
        "Accuracy in %, from 0 to 100, with 95 % intervals over episodes. In colour: the best of "
        "those that are ranked together, and all that tie."
    )
    return Figure(name, "Accuracy by source", caption, canvas, tips)


Points = list[tuple[float, float | None, float | None, int]]
"""As `spread.accuracy_against` gives them."""


@styled
def draw_against(
    curves: Mapping[str, Mapping[str, Points]], name: str = "ways_and_shots"
) -> Figure:
    """Accuracy against ways and shots, a line per method.

    Args:
        curves: by what is on the axis ("way", "shot"), then by method.
        name: of the files.
    """
    canvas = new_canvas(8.6, 3.4)
    panels: Sequence[Axes] = canvas.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for panel, (what, by_method) in zip(panels, curves.items(), strict=True):
        _draw_curves(panel, what, by_method)
        panel.set_xlabel(WORDS[what])
    panels[0].set_ylabel("accuracy, %")
    add_legend(panels[-1])
    caption = (
        "All sources together; each point holds about as many episodes; shaded: 95 % intervals."
    )
    return Figure(name, "Accuracy against ways and shots", caption, canvas)


@styled
def draw_against_by_source(
    curves: Mapping[str, Mapping[str, Points]], what: str, name: str
) -> Figure:
    """Accuracy against ways or shots, a panel per source, a line per method.

    Args:
        curves: by source, then by method.
        what: is on the axis, "way" or "shot".
        name: of the files.
    """
    across = min(5, len(curves))
    down = -(-len(curves) // across)
    canvas = new_canvas(1.75 * across + 1.6, 1.75 * down + 0.4)
    panels = canvas.subplots(down, across, sharey=True, squeeze=False)
    for panel in panels.flat[len(curves) :]:
        panel.set_visible(False)
    for panel, (source, by_method) in zip(panels.flat, curves.items(), strict=False):
        _draw_curves(panel, what, by_method)
        panel.set_title(short_name(source), fontsize=9, loc="left", color=INK)
    for row in panels:
        row[0].set_ylabel("accuracy, %")
    lowest = [panels[min(down - 1, (len(curves) - 1 - k) // across), k] for k in range(across)]
    lowest[across // 2].set_xlabel(WORDS[what])
    canvas.tight_layout(w_pad=0.6, h_pad=0.8)
    add_legend(panels[0, -1])
    title = {"way": "Accuracy against ways, by source", "shot": "Accuracy against shots, by source"}
    caption = "Each point holds about as many episodes of the source; shaded: 95 % intervals."
    return Figure(name, title[what], caption, canvas)


def _draw_curves(panel: "Axes", what: str, by_method: Mapping[str, Points]) -> None:
    """A line per method with its interval; shots on a logarithmic axis."""
    from matplotlib.ticker import MaxNLocator

    for i, (method, points) in enumerate(by_method.items()):
        known = [point for point in points if point[1] is not None]
        x, y = [p[0] for p in known], [100 * (p[1] or 0) for p in known]
        color, mark = draw_line(panel, i, method, x, y)
        mark.set_marker(MARKERS[(i + i // len(SERIES)) % len(MARKERS)])
        half = [100 * (p[2] or 0) for p in known]
        panel.fill_between(x, np.subtract(y, half), np.add(y, half), color=color, alpha=0.13, lw=0)
    panel.grid(axis="y", linewidth=0.6)
    panel.tick_params(length=0)
    if what == "way":
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    else:
        panel.set_xscale("log")
        ticks = [t for t in (1, 2, 5, 10, 20, 50, 100) if _within(t, by_method)]
        panel.set_xticks(ticks, [str(t) for t in ticks])
        panel.minorticks_off()


def _within(tick: float, by_method: Mapping[str, Points]) -> bool:
    x = [point[0] for points in by_method.values() for point in points]
    return min(x) * 0.8 <= tick <= max(x) * 1.25
