"""Errors on ImageNet-C as a table and as a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fewshot.grid import MISSING, Grid, percent
from fewshot.imagenet_c.corruptions import CORRUPTIONS, SEVERITIES
from fewshot.imagenet_c.evaluation import Score, errors_of
from fewshot.imagenet_c.folders import CLEAN, Cell
from fewshot.imagenet_c.metrics import (
    corruption_error,
    mce_alexnet,
    mean_corruption_error,
    relative_mce_alexnet,
)
from fewshot.plots import INK, colour_of, drawing, entitle, mark_of, save

Scores = Mapping[Cell, Score]
FAMILIES = ("noise", "blur", "weather", "digital", "extra")
SUMMARY = {
    "mean_corruption_error": mean_corruption_error,
    "mce_alexnet": mce_alexnet,
    "relative_mce_alexnet": relative_mce_alexnet,
}
NOTES = (
    "Top-1 error in %, mean over the five severities; a corruption with a severity missing has no "
    "mean, and a summary over the 15 has no value unless all are there.",
    "mean_corruption_error: raw mean over the 15. mce_alexnet: each of the 15 divided by "
    "AlexNet's error first (the papers' mCE). relative_mce_alexnet: the same of the error added "
    "to the clean one. The extra four count in none.",
    "images/s: read and corrupted by one core.",
)


def build_grid(
    title: str, names: Sequence[str], columns: Sequence[Scores], notes: Sequence[str]
) -> Grid:
    """The table: a row per corruption, a column per classifier.

    Args:
        title: of the table.
        names: of the columns.
        columns: their scores.
        notes: on how the numbers came to be, before the table's own.
    """
    errors = [errors_of(scores) for scores in columns]
    sections = []
    for family in FAMILIES:
        kinds = [name for name, one in CORRUPTIONS.items() if one.family == family]
        sections.append(
            tuple(
                (name, *(percent(corruption_error(e, name)) for e in errors), _speed(columns, name))
                for name in kinds
            )
        )
    clean = ("clean", *(percent(e.get(CLEAN)) for e in errors), "")
    sections.append(
        (clean, *((n, *(percent(f(e)) for e in errors), "") for n, f in SUMMARY.items()))
    )
    return Grid(
        title=title,
        header=("Corruption", *names, "images/s"),
        sections=tuple(sections),
        notes=(*notes, *NOTES),
        values=_values(names, columns),
    )


def _speed(columns: Sequence[Scores], name: str) -> str:
    """Images per second of one core, over the severities that were scored."""
    found = [
        scores[name, severity]
        for scores in columns[:1]
        for severity in SEVERITIES
        if (name, severity) in scores
    ]
    seconds = sum(score.seconds for score in found)
    return f"{sum(score.images for score in found) / seconds:,.0f}" if seconds else MISSING


def _values(
    names: Sequence[str], columns: Sequence[Scores]
) -> tuple[tuple[str | float | int | None, ...], ...]:
    """One line per column and cell, and per summary: fractions at full precision."""
    lines: list[tuple[str | float | int | None, ...]] = [
        ("column", "corruption", "severity", "error", "correct", "images", "core_seconds")
    ]
    cells = [CLEAN, *((name, severity) for name in CORRUPTIONS for severity in SEVERITIES)]
    for name, scores in zip(names, columns, strict=True):
        errors = errors_of(scores)
        for cell in cells:
            score = scores.get(cell)
            known = (score.correct, score.images, score.seconds) if score else (None, None, None)
            lines.append((name, *cell, errors.get(cell), *known))
        lines += [(name, what, None, f(errors), None, None, None) for what, f in SUMMARY.items()]
    return tuple(lines)


def draw_errors(
    title: str,
    names: Sequence[str],
    columns: Sequence[Scores],
    folder: Path,
    formats: Sequence[str],
) -> tuple[Path, ...]:
    """Error against severity, a panel per corruption, a line per classifier.

    Severity 0 is the clean error, where it is known.

    Raises:
        InputError: a file cannot be written.
    """
    with drawing(9.6, 8.0) as figure:
        panels = figure.subplots(4, 5, sharex=True, sharey=True)
        places = list(panels.flat)
        for panel, name in zip(places, CORRUPTIONS, strict=False):
            extra = " (extra)" if CORRUPTIONS[name].family == "extra" else ""
            panel.set_title(name.replace("_", " ") + extra, color=INK)
            cells = [(name, severity) for severity in SEVERITIES]
            if not any(cell in scores for scores in columns for cell in cells):
                panel.text(2.5, 50, "not measured", ha="center", va="center", color="#888888")
                continue
            for k, scores in enumerate(columns):
                errors = errors_of(scores)
                line = [(c[1], 100 * errors[c]) for c in (CLEAN, *cells) if c in errors]
                panel.plot(
                    [severity for severity, _ in line],
                    [error for _, error in line],
                    color=colour_of(k),
                    marker=mark_of(k),
                    label=names[k],
                )
        for panel in places:
            panel.set_ylim(0, 100)
            panel.set_xlim(-0.4, 5.4)
            panel.set_xticks([0, *SEVERITIES], ["clean", *map(str, SEVERITIES)])
        for panel in panels[-1]:
            panel.set_xlabel("severity")
        places[len(CORRUPTIONS)].set_axis_off()
        drawn = next((panel for panel in places if panel.lines), places[0])
        handles, labels = drawn.get_legend_handles_labels()
        # Below, not in the free panel: long names would push the panels apart.
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        figure.supylabel("top-1 error, %", fontsize=9)
        entitle(figure, "Errors on corrupted images", title)
        return save(figure, folder, "errors", formats)
