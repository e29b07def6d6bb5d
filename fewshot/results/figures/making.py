"""How the numbers came about, as figures: training, selection of extractors, aliasing."""

from collections.abc import Sequence

from fewshot.results.aliasing import Aliasing
from fewshot.results.curves import Curve
from fewshot.results.figures.figure import (
    ACCENT,
    INK,
    LINE,
    MARKERS,
    Figure,
    add_legend,
    clip,
    draw_line,
    new_canvas,
    short_name,
    styled,
)
from fewshot.results.selection import Selection


@styled
def draw_training(curves: Sequence[Curve], name: str = "training") -> Figure:
    """Loss and, where there were validations, their value against the step, a line each."""
    told = [what for what in ("loss", "validation") if any(getattr(c, what) for c in curves)]
    canvas = new_canvas(4.3 * len(told), 3.0)
    panels = canvas.subplots(1, len(told), squeeze=False)[0]
    for what, panel in zip(told, panels, strict=True):
        for i, curve in enumerate(curves):
            points = getattr(curve, what)
            draw_line(panel, i, curve.name, [x for x, _ in points], [y for _, y in points])
        panel.set_title(what, fontsize=9, loc="left", color=INK)
        panel.set_xlabel("step")
        panel.grid(axis="y", linewidth=0.6)
        panel.tick_params(length=0)
    add_legend(panels[-1])
    caption = "From the logs beside the checkpoints: loss of the step, and the validation's value."
    return Figure(name, "Training", caption, canvas)


@styled
def draw_selection(selection: Selection, name: str = "selection") -> Figure:
    """How much each extractor counted, a row per source: the darker, the more."""
    from matplotlib.patches import Rectangle

    across, down = len(selection.extractors), len(selection.means)
    canvas = new_canvas(0.85 * across + 1.9, 0.32 * down + 1.0)
    axes = canvas.subplots()
    tips = {}
    for i, (source, means) in enumerate(selection.means.items()):
        most = max(means)
        for j, share in enumerate(means):
            shade = 0.06 + 0.39 * share
            cell = Rectangle((j - 0.48, i - 0.45), 0.96, 0.9, facecolor=ACCENT, alpha=shade, lw=0)
            axes.add_patch(cell)
            gid = f"{name}-{i}-{j}"
            cell.set_gid(gid)
            extractor = selection.extractors[j]
            tips[gid] = f"{short_name(source)}: {extractor} counts {100 * share:.1f} %"
            weight = "bold" if share == most else "normal"
            text = f"{100 * share:.0f}"
            axes.text(j, i, text, ha="center", va="center", weight=weight, fontsize=8, color=INK)
    axes.set_xlim(-0.5, across - 0.5)
    axes.set_ylim(down - 0.5, -0.5)
    axes.set_yticks(range(down), [short_name(source) for source in selection.means])
    names = [clip(extractor, 24) for extractor in selection.extractors]
    axes.set_xticks(range(across), names, rotation=35, ha="left")
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    caption = (
        "How much each extractor counts, in %, mean over the episodes of a source; bold: the most."
    )
    return Figure(name, f"Selection by {selection.method}", caption, canvas, tips)


@styled
def draw_aliasing(measured: Sequence[Aliasing], name: str = "aliasing") -> Figure:
    """Energy that folds at every step, and agreement with shifted images; a colour per network."""
    most = max(len(one.steps) for one in measured)
    canvas = new_canvas(8.6, max(2.8, 0.3 * most + 1.0))
    left, right = canvas.subplots(1, 2)
    lanes = [(k - (len(measured) - 1) / 2) * 0.24 for k in range(len(measured))]
    for k, one in enumerate(measured):
        places = [number + lanes[k] for number in range(len(one.steps))]
        before = [100 * step.before for step in one.steps]
        after = [100 * step.after for step in one.steps]
        color, mark = draw_line(right, k, one.network, *zip(*one.agreement, strict=True))
        mark.set_marker(MARKERS[k % len(MARKERS)])
        left.hlines(places, after, before, color=color, lw=1)
        look = {"color": color, "marker": MARKERS[k % len(MARKERS)], "ls": "none", "ms": 4.5}
        left.plot(before, places, markerfacecolor="none", **look)
        left.plot(after, places, **look)
    longest = max(measured, key=lambda one: len(one.steps))
    left.set_yticks(range(most), [clip(step.name, 28) for step in longest.steps])
    left.set_ylim(most - 0.5, -0.5)
    left.set_xlim(left=0)
    left.grid(axis="x", linewidth=0.6)
    left.set_xlabel("energy that folds, %")
    left.set_title("at every sub-sampling step", fontsize=9, loc="left", color=INK)
    right.set_xscale("log", base=2)
    ticks = [t for t in (0.25, 0.5, 1, 2, 4, 8) if any(t == x for x, _ in longest.agreement)]
    right.set_xticks(ticks, [f"{t:g}" for t in ticks])
    right.minorticks_off()
    right.grid(axis="y", linewidth=0.6)
    right.set_xlabel("shift of the image, pixels")
    right.set_title("same guess as for the unmoved image, %", fontsize=9, loc="left", color=INK)
    for panel in (left, right):
        panel.tick_params(length=0)
        panel.set_axisbelow(True)
        panel.spines["bottom"].set_color(LINE)
    add_legend(right)
    canvas.tight_layout(w_pad=2.0)
    caption = (
        f"Mean over {longest.sources} sources. Left: share of a map's spectral energy above the "
        "new Nyquist frequency, hollow before the filter that stands there, filled after it. "
        "Compare before with after at one step; networks with care."
    )
    return Figure(name, "Aliasing", caption, canvas)
