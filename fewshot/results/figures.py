"""Figures of results, for papers and for the page: drawn once by matplotlib, themed by the page.

Identity is never told by colour alone: bars stand beside their names, lines differ in marker and
dash, cells of the heat map carry their numbers. Colours are those of Okabe and Ito.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from episodes.faults import InputError
from fewshot.results.aggregate import Table
from fewshot.results.critical import CriticalDifference
from fewshot.results.curves import Curve
from fewshot.results.tables import SHORT_NAMES, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

INK, QUIET, LINE, ACCENT = "#1b1f24", "#57606a", "#d0d7de", "#0b5cad"
THEMED = {INK: "var(--ink)", QUIET: "var(--quiet)", LINE: "var(--line)", ACCENT: "var(--accent)"}
"""Colours that follow the page's theme, by the colour that papers get."""
SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
MARKERS, DASHES = "osD^vP", ("-", "--", ":", "-.")
STYLE = {
    "font.size": 9,
    "text.parse_math": False,  # a head may be called anything
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": LINE,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
INCH = 96.0  # pixels of the page


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure.

    Attributes:
        name: of its files.
        title, caption: in words.
        canvas: matplotlib's.
        tips: what is shown when the pointer rests on a part, by the part's gid.
    """

    name: str
    title: str
    caption: str
    canvas: "Canvas"
    tips: Mapping[str, str] = field(default_factory=dict)

    def as_svg(self) -> str:
        """Markup that a page holds inside itself and that takes the page's colours."""
        text = self._render("svg").decode()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", text, count=1, flags=re.S)
        width = re.search(r'viewBox="0 0 ([\d.]+) ', text)
        pixels = float(width[1]) * INCH / 72 if width else 640
        opening = (
            f'<svg role="img" aria-label="{escape(f"{self.title}. {self.caption}", quote=True)}" '
            f'style="width:100%;min-width:{min(pixels, 0.62 * pixels):.0f}px;'
            f'max-width:{pixels:.0f}px;height:auto"'
        )
        text = re.sub(r"<svg(?= )", lambda _: opening, text, count=1)
        text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
        text = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1inherit", text)
        for color, variable in THEMED.items():
            text = text.replace(color, variable)
        for gid, tip in self.tips.items():
            tag = f'<g id="{gid}">'
            text = text.replace(tag, f"{tag}<title>{escape(tip)}</title>", 1)
        return text

    def save(self, folder: Path) -> None:
        """Write it as PDF and SVG, for papers.

        Raises:
            InputError: a file cannot be written.
        """
        write_text(folder / f"{self.name}.svg", self._render("svg").decode())
        try:
            (folder / f"{self.name}.pdf").write_bytes(self._render("pdf"))
        except OSError as error:
            raise InputError(f"cannot be written ({error}).", folder) from error

    def _render(self, form: str) -> bytes:
        import matplotlib

        sink = io.BytesIO()
        date = {"svg": "Date", "pdf": "CreationDate"}[form]  # equal results are equal files
        with matplotlib.rc_context({**STYLE, "svg.hashsalt": self.name}):
            self.canvas.savefig(sink, format=form, metadata={date: None}, bbox_inches="tight")
        return sink.getvalue()


def _canvas(width: float, height: float) -> "Canvas":
    """An empty canvas in inches.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        remedy = "pip install matplotlib"
        raise InputError("figures need matplotlib, which is missing.", remedy=remedy) from error
    return Canvas(figsize=(width, height))


def _styled(draw: Any) -> Any:
    """Runs a drawing function in this file's style."""

    def styled(*arguments: Any, **named: Any) -> Any:
        try:
            import matplotlib
        except ImportError:
            return draw(*arguments, **named)  # says what is missing
        with matplotlib.rc_context(STYLE):
            return draw(*arguments, **named)

    return styled


def _short(source: str) -> str:
    return SHORT_NAMES.get(source, source)


def _clip(name: str, most: int = 34) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


@_styled
def draw_bars(table: Table, name: str = "bars") -> Figure:
    """One panel per source, one bar per method with its interval; the best are in colour."""
    sources, methods = table.sources, table.heads
    across = min(5, len(sources))
    down = -(-len(sources) // across)
    height = down * (0.23 * len(methods) + 0.65)
    canvas = _canvas(1.75 * across + 1.6, height)
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
                f"{methods[h]} on {_short(sources[s])}: {100 * cell.mean:.2f}{interval}, "
                f"{cell.episodes} episodes{', best or tied' if best else ''}"
            )
        panel.set_title(_short(sources[s]), fontsize=9, loc="left", color=INK)
        panel.set_yticks(range(len(methods)), [_clip(method) for method in methods])
        panel.tick_params(length=0)
        panel.spines["bottom"].set_visible(False)
        panel.grid(axis="x", linewidth=0.6)
        panel.set_axisbelow(True)
    panels[0, 0].set_ylim(len(methods) - 0.4, -0.6)
    panels[0, 0].set_xlim(0, 100)
    panels[0, 0].set_xticks([0, 25, 50, 75, 100], ["0", "", "50", "", "100"])
    canvas.tight_layout(w_pad=0.8, h_pad=0.8)
    caption = (
        "Accuracy in %, with 95 % intervals over episodes. In colour: the best, and all that tie."
    )
    return Figure(name, "Accuracy by source", caption, canvas, tips)


@_styled
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
    import matplotlib

    points, half = 100 * differences, 100 * widths
    size = len(methods)
    canvas = _canvas(0.72 * size + 2.4, 0.5 * size + 1.5)
    axes = canvas.subplots()
    most = np.nanmax(np.abs(points), initial=0.5)
    colors = matplotlib.colormaps["PuOr_r"]
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
            color = colors(0.5 + 0.42 * value / most)
            patch = matplotlib.patches.Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, facecolor=color)
            axes.add_patch(patch)
            gid = f"{name}-{i}-{j}"
            patch.set_gid(gid)
            tips[gid] = (
                f"{methods[i]} minus {methods[j]}: {value:+.2f} ± {ci:.2f} points, same episodes"
            )
            number = f"{value:+.2f}".replace("-", "−")
            weight, text = ("bold", number) if sure else ("normal", f"({number})")
            brightness = float(np.dot(color[:3], (0.299, 0.587, 0.114)))
            shade = "#000000" if brightness > 0.5 else "#ffffff"
            axes.text(j, i, text, ha="center", va="center", color=shade, weight=weight, fontsize=8)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_yticks(range(size), [_clip(method) for method in methods])
    axes.set_xticks(range(size), [_clip(method, 24) for method in methods], rotation=35, ha="left")
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    caption = (
        "Row minus column, mean over sources of paired differences on identical episodes, in "
        "points. In brackets: within the 95 % interval of no difference. –: not the same episodes."
    )
    return Figure(name, "Paired differences", caption, canvas, tips)


@_styled
def draw_critical_difference(
    found: CriticalDifference, name: str = "critical_difference"
) -> Figure:
    """Average ranks on a line; methods joined by a bar are not told apart."""
    count = len(found.methods)
    rows = (count + 1) // 2
    canvas = _canvas(7.2, 0.9 + 0.22 * rows + 0.13 * len(found.groups))
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
        text = f"{_clip(method)}  {rank:.2f}" if left else f"{rank:.2f}  {_clip(method)}"
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


Points = list[tuple[float, float | None, float | None, int]]


@_styled
def draw_against(
    curves: Mapping[str, Mapping[str, Points]], name: str = "ways_and_shots"
) -> Figure:
    """Accuracy against ways and shots, a line per method.

    Args:
        curves: by what is on the axis ("way", "shot"), then by method, as `accuracy_against`.
        name: of the files.
    """
    words = {"way": "classes of the episode (way)", "shot": "support images per class (mean shot)"}
    canvas = _canvas(8.6, 3.4)
    panels: Sequence[Axes] = canvas.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for panel, (what, by_method) in zip(panels, curves.items(), strict=True):
        for i, (method, points) in enumerate(by_method.items()):
            known = [point for point in points if point[1] is not None]
            x, y = [p[0] for p in known], [100 * (p[1] or 0) for p in known]
            color, mark = _draw_line(panel, i, method, x, y)
            mark.set_marker(MARKERS[(i + i // len(SERIES)) % len(MARKERS)])
            half = [100 * (p[2] or 0) for p in known]
            panel.fill_between(
                x, np.subtract(y, half), np.add(y, half), color=color, alpha=0.13, lw=0
            )
        panel.set_xlabel(words[what])
        panel.grid(axis="y", linewidth=0.6)
        panel.tick_params(length=0)
        if what == "shot":
            panel.set_xscale("log")
            ticks = [t for t in (1, 2, 5, 10, 20, 50, 100) if _within(t, by_method)]
            panel.set_xticks(ticks, [str(t) for t in ticks])
            panel.minorticks_off()
    panels[0].set_ylabel("accuracy, %")
    panels[-1].legend(
        loc="upper left", bbox_to_anchor=(1.02, 1.02), frameon=False, fontsize=8, labelcolor=INK
    )
    caption = (
        "All sources together; each point holds about as many episodes; shaded: 95 % intervals."
    )
    return Figure(name, "Accuracy against ways and shots", caption, canvas)


@_styled
def draw_training(curves: Sequence[Curve], name: str = "training") -> Figure:
    """Loss and validation against the step, a line per training."""
    canvas = _canvas(8.6, 3.0)
    panels = canvas.subplots(1, 2)
    for what, panel in zip(("loss", "validation"), panels, strict=True):
        for i, curve in enumerate(curves):
            points = getattr(curve, what)
            _draw_line(panel, i, curve.name, [x for x, _ in points], [y for _, y in points])
        panel.set_title(what, fontsize=9, loc="left", color=INK)
        panel.set_xlabel("step")
        panel.grid(axis="y", linewidth=0.6)
        panel.tick_params(length=0)
    panels[-1].legend(
        loc="upper left", bbox_to_anchor=(1.02, 1.02), frameon=False, fontsize=8, labelcolor=INK
    )
    caption = "From the logs beside the checkpoints: loss of the step, and the validation's value."
    return Figure(name, "Training", caption, canvas)


def _draw_line(
    panel: "Axes", place: int, name: str, x: Sequence[float], y: Sequence[float]
) -> "tuple[str, Line2D]":
    """A line in the colour and dash of its place in the legend."""
    color = SERIES[place % len(SERIES)]
    dash = DASHES[place // len(SERIES) % len(DASHES)]
    (line,) = panel.plot(x, y, dash, color=color, linewidth=1.5, markersize=4, label=_clip(name))
    return color, line


def _within(tick: float, by_method: Mapping[str, Points]) -> bool:
    x = [point[0] for points in by_method.values() for point in points]
    return min(x) * 0.8 <= tick <= max(x) * 1.25
