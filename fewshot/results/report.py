"""A report: one page with everything a reader of results asks, that works offline from disk."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewshot.results import figures
from fewshot.results.aggregate import Table
from fewshot.results.aliasing import find_aliasing
from fewshot.results.collection import StoredRun
from fewshot.results.critical import find_critical_difference
from fewshot.results.curves import find_curves
from fewshot.results.figures import Figure
from fewshot.results.frames import Frames, load_runs
from fewshot.results.leaderboard import COLUMNS, Leaderboard, own_boards
from fewshot.results.leaderboard_tables import html_tables
from fewshot.results.methods import Method, Setting, find_methods, sort_sources, table_of
from fewshot.results.page import render_template
from fewshot.results.paragraph import write_paragraph
from fewshot.results.selection import find_selection
from fewshot.results.spread import accuracy_against, edges_of, half_width

if TYPE_CHECKING:
    from fewshot.gallery import Example

FEWEST_PER_POINT = 10  # episodes; fewer make noise, not a curve
KEY = ["source", "split", "seed", "index", "plan"]


def write_report(
    runs: Sequence[StoredRun],
    title: str,
    faults: Sequence[str] = (),
    examples: Sequence["Example"] = (),
    example_notes: Sequence[str] = (),
) -> tuple[str, list[Figure]]:
    """The page, and its figures for papers.

    Args:
        runs: what it is about; results of different settings get chapters of their own.
        title: heading.
        faults: of files that could not be read; the page tells them.
        examples: episodes in pictures, as `fewshot.gallery.show_examples` gives them.
        example_notes: why some are not shown.

    Raises:
        InputError: matplotlib is missing.
    """
    frames = load_runs(runs, faults)
    by_setting: dict[Setting, list[Method]] = {}
    for method in find_methods(frames):
        by_setting.setdefault(method.setting, []).append(method)
    cards = {stored.run.id: last_call(stored).get("backbones", []) for stored in runs}
    chapters, drawn = [], []
    for number, (setting, methods) in enumerate(by_setting.items(), start=1):
        prefix = f"{number}_" if len(by_setting) > 1 else ""
        pictures, notes = draw_all(methods, prefix)
        pictures += draw_selections(frames, methods, cards, prefix)
        drawn += pictures
        chapters.append(
            {
                "title": str(setting),
                "tables": [
                    {**table, "title": table["title"].removeprefix(f"{setting} · ").capitalize()}
                    for table in html_tables(own_boards(methods))
                ],
                "figures": pictures,
                "notes": notes,
            }
        )
    making = draw_making(runs)
    drawn += making
    page = render_template(
        "report.html",
        title=title,
        chapters=chapters,
        making=making,
        examples=examples,
        example_notes=example_notes,
        runs=[describe(stored, frames) for stored in runs],
        failures=list_failures(frames),
        faults=frames.faults,
    )
    return page, drawn


def last_call(stored: StoredRun) -> dict[str, Any]:
    """What the last command that added to a run recorded; empty where nothing is."""
    return stored.run.calls[-1] if stored.run.calls else {}


def draw_making(runs: Sequence[StoredRun]) -> list[Figure]:
    """Training and aliasing of the backbones, where there are logs and measures of them."""
    curves = dict.fromkeys(curve for stored in runs for curve in find_curves(stored))
    measured = dict.fromkeys(one for stored in runs for one in find_aliasing(stored))
    drawn = [figures.draw_training(list(curves))] if curves else []
    return drawn + ([figures.draw_aliasing(list(measured))] if measured else [])


def draw_selections(
    frames: Frames,
    methods: Sequence[Method],
    cards: Mapping[str, Sequence[dict[str, Any]]],
    prefix: str,
) -> list[Figure]:
    """How much each extractor counted, a figure for each method that tells."""
    found = [find_selection(frames, method, cards[method.runs[-1]]) for method in methods]
    known = [selection for selection in found if selection is not None]
    return [
        figures.draw_selection(one, f"{prefix}selection{f'_{k}' if len(known) > 1 else ''}")
        for k, one in enumerate(known, start=1)
    ]


def describe(stored: StoredRun, frames: Frames) -> dict[str, Any]:
    """A run's paragraph and everything that is known of its making."""
    text = write_paragraph(stored.run, frames.rows[frames.rows["run"] == stored.run.id])
    record = {
        "settings": stored.run.settings,
        "ingredients": stored.run.ingredients,
        "calls": stored.run.calls,
    }
    details = json.dumps(record, indent=2, ensure_ascii=False, default=str)
    folder = Path(stored.path).parent.name
    return {"id": stored.run.id, "folder": folder, "paragraph": text, "details": details}


def list_failures(frames: Frames) -> list[dict[str, Any]]:
    """Why episodes failed: one line per run, head, source and reason."""
    names = ["run", "head", "source", "status"]
    failed = frames.rows[frames.rows["status"] != "ok"][names].astype(str)
    return failed.value_counts(sort=False).reset_index(name="count").to_dict("records")  # type: ignore[return-value]


def draw_all(methods: Sequence[Method], prefix: str) -> tuple[list[Figure], list[str]]:
    """The figures of the methods of one setting, and what could not be drawn."""
    boards = own_boards(methods)
    drawn = [figures.draw_bars(with_marks_of(table_of(methods), boards), f"{prefix}bars")]
    notes = []
    if len(methods) > 1:
        differences, widths, unpaired = pair_all(methods)
        names = [method.name for method in methods]
        drawn.append(figures.draw_differences(names, differences, widths, f"{prefix}differences"))
        notes += unpaired
    tested = [find_critical_difference(*ranked_means(board.table)) for board in boards]
    known = [found for found in tested if found is not None]
    for k, found in enumerate(known, start=1):
        name = f"{prefix}critical_difference{f'_{k}' if len(known) > 1 else ''}"
        drawn.append(figures.draw_critical_difference(found, name))
    if not known:
        notes.append("Average ranks need two methods that may be ranked together, on two sources.")
    drawn.append(figures.draw_against(curves_of(methods), f"{prefix}ways_and_shots"))
    for what in ("way", "shot"):
        by_source = curves_by_source(methods, what)
        drawn.append(figures.draw_against_by_source(by_source, what, f"{prefix}{what}s_by_source"))
    return drawn, notes


def with_marks_of(table: Table, boards: Sequence[Leaderboard]) -> Table:
    """A table of all methods that marks the best of those that are ranked together."""
    best = {
        (entry.method, column): mark
        for board in boards
        for entry, marks in zip(board.entries, board.table.best, strict=True)
        for column, mark in zip(board.table.sources, marks, strict=True)
    }
    columns = [COLUMNS.get(source, source) for source in table.sources]
    marks = [tuple(best.get((head, column), False) for column in columns) for head in table.heads]
    return replace(table, best=tuple(marks))


def ranked_means(table: Table) -> tuple[list[str], NDArray[np.float64]]:
    """Methods that are ranked, and their means [methods, sources]; sources of none are left out."""
    rows = [
        (head, [cell.mean for cell in cells if cell is not None])
        for head, cells, rank in zip(table.heads, table.cells, table.average_ranks, strict=True)
        if rank is not None
    ]
    return [head for head, _ in rows], np.array([means for _, means in rows])


def pair_all(
    methods: Sequence[Method],
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Mean over sources of the paired differences of every two methods.

    Only episodes of one plan are paired; a source counts where two methods share episodes of it.

    Returns:
        [M, M] differences, [M, M] half-widths of their 95 % intervals (NaN where nothing can be
        paired), and a sentence for each two methods that share none.
    """
    wide = pd.concat(
        [
            method.rows.set_index(KEY)["accuracy"].rename(position)
            for position, method in enumerate(methods)
        ],
        axis=1,
    )
    sources = wide.index.get_level_values("source").to_numpy()
    values = wide.to_numpy(float)
    size = len(methods)
    differences = np.full((size, size), np.nan)
    widths = np.full((size, size), np.nan)
    notes = []
    for i, j in combinations(range(size), 2):
        both = values[:, i] - values[:, j]
        shared = np.isfinite(both)
        parts = [both[shared & (sources == source)] for source in np.unique(sources[shared])]
        parts = [part for part in parts if len(part) > 1]
        if not parts:
            notes.append(f"{methods[i].name} and {methods[j].name} share no episodes: not paired.")
            continue
        mean = float(np.mean([part.mean() for part in parts]))
        width = float(np.linalg.norm([half_width(part) for part in parts]) / len(parts))
        differences[i, j], differences[j, i] = mean, -mean
        widths[i, j] = widths[j, i] = width
    return differences, widths, notes


def curves_of(methods: Sequence[Method]) -> dict[str, dict[str, figures.Points]]:
    """Accuracy against ways and against shots, by method."""
    rows = {method.name: method.rows for method in methods}
    return {what: curves_against(rows, what) for what in ("way", "shot")}


def curves_by_source(methods: Sequence[Method], what: str) -> dict[str, dict[str, figures.Points]]:
    """Accuracy against ways or shots, by source, then by method."""
    parts: dict[str, dict[str, pd.DataFrame]] = {}
    for method in methods:
        for source, rows in method.rows.groupby("source", observed=True):
            parts.setdefault(str(source), {})[method.name] = rows
    return {source: curves_against(parts[source], what) for source in sort_sources(list(parts))}


def curves_against(rows: Mapping[str, pd.DataFrame], what: str) -> dict[str, figures.Points]:
    """Accuracy against a column of the rows, by method; all methods share the intervals."""
    fewest = min(map(len, rows.values()))
    most = min(8, max(2, fewest // FEWEST_PER_POINT))
    edges = edges_of(pd.concat([one[what] for one in rows.values()]), most)
    curves = {}
    for method, one in rows.items():
        known = one.dropna(subset=["accuracy"])
        curves[method] = accuracy_against(known[what], known["accuracy"], edges)
    return curves
