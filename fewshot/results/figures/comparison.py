"""Methods compared, as figures: paired differences, critical differences."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewshot.results.critical import CriticalDifference
from fewshot.results.figures.figure import ACCENT, INK, QUIET, Figure, clip, new_canvas, styled

BETTER, WORSE = "#0072b2", "#d55e00"  # let the ground through: ink is legible on both, anywhere


@styled
def draw_differences(
    methods: Sequence[str],
    differences: NDArray[np.float64],
    widths: NDArray[np.float64],
    name: str = "differences",
) -> Figure:
    """Row minus column, mean over sources, in points; what the interval cannot tell from 0 is grey.

    Args:
        methods: [M] names.
        differences: [M, M] fractions; NaN where two cannot be paired.
        widths: [M, M] half-widths of 95 % intervals, fractions.
        name: of the files.
    """
    from matplotlib.patches import Rectangle

    points, half = 100 * differences, 100 * widths
    size = len(methods)
    canvas = new_canvas(0.72 * size + 2.4, 0.5 * size + 1.5)
    axes = canvas.subplots()
    most = np.nanmax(np.abs(points), initial=0.5)
    tips = {}
    for i in range(size):
        for j in range(size):
            value, ci = points[i, j], half[i, j]
            if i == j:
                continue
            if np.isnan(value):
                axes.text(j, i, "–", ha="center", va="center", color=QUIET)
                continue
            sure = abs(value) > ci
            color, shade = BETTER if value > 0 else WORSE, 0.06 + 0.44 * abs(value) / most
            patch = Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, fc=color, alpha=shade, lw=0)
            axes.add_patch(patch)
            gid = f"{name}-{i}-{j}"
            patch.set_gid(gid)
            tips[gid] = (
                f"{methods[i]} minus {methods[j]}: {value:+.2f} ± {ci:.2f} points, same episodes"
            )
            number = f"{value:+.2f}".replace("-", "−")
            weight, text = ("bold", number) if sure else ("normal", f"({number})")
            axes.text(j, i, text, ha="center", va="center", weight=weight, fontsize=8, color=INK)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_yticks(range(size), [clip(method) for method in methods])
    axes.set_xticks(range(size), [clip(method, 24) for method in methods], rotation=35, ha="left")
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    caption = (
        "Row minus column, mean over sources of paired differences on identical episodes, in "
        "points. In brackets: within the 95 % interval of no difference. –: not the same episodes."
    )
    return Figure(name, "Paired differences", caption, canvas, tips)


@styled
def draw_critical_difference(
    found: CriticalDifference, name: str = "critical_difference"
) -> Figure:
    """Average ranks on a line; methods joined by a bar are not told apart."""
    count = len(found.methods)
    rows = (count + 1) // 2
    canvas = new_canvas(7.2, 0.9 + 0.22 * rows + 0.13 * len(found.groups))
    axes = canvas.subplots()
    axes.set_axis_off()
    low, high = 1, max(count, 2)
    axes.plot([low, high], [0, 0], color=INK, linewidth=1)
    for tick in range(low, high + 1):
        axes.plot([tick, tick], [0, 0.12], color=INK, linewidth=1)
        axes.text(tick, 0.2, str(tick), ha="center", va="bottom", color=QUIET, fontsize=8)
    length = min(found.difference, high - low)
    axes.plot([low, low + length], [0.85, 0.85], color=INK, linewidth=1.5)
    label = f"critical difference {found.difference:.2f}"
    axes.text(low, 0.95, label, ha="left", va="bottom", fontsize=8)
    depth = 0.0
    for first, last in found.groups:
        depth -= 0.26
        ends = [found.ranks[first] - 0.03, found.ranks[last] + 0.03]
        axes.plot(ends, [depth, depth], color=ACCENT, linewidth=3.5, solid_capstyle="round")
    side = 0.06 * (high - low)
    for i, (method, rank) in enumerate(zip(found.methods, found.ranks, strict=True)):
        left = i < rows
        row = i if left else count - 1 - i
        y = depth - 0.45 - 0.42 * row
        edge = low - side if left else high + side
        axes.plot([rank, rank, edge], [0, y, y], color=QUIET, linewidth=0.8)
        text = f"{clip(method)}  {rank:.2f}" if left else f"{rank:.2f}  {clip(method)}"
        axes.text(
            edge - side / 4 if left else edge + side / 4,
            y,
            text,
            ha="right" if left else "left",
            va="center",
        )
    p = "" if found.p is None else f" Friedman's test that all are equal: p = {found.p:.2g}."
    caption = (
        f"Average rank of the means over {found.sources} sources, 1 is best. Methods joined by a "
        f"bar are not told apart (Nemenyi, 5 %).{p}"
    )
    return Figure(name, "Average ranks", caption, canvas)
