"""A leaderboard as text: the official Markdown, LaTeX, CSV, JSON, HTML, and for the terminal."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group

from fewshot.results.aggregate import Cell
from fewshot.results.leaderboard import Leaderboard, Reference
from fewshot.results.page import render_template
from fewshot.results.tables import MISSING, latex_text, markdown_text, render_console, table_notes

CELL_WIDTH = 27
"""Characters of a cell of the official Markdown table."""


def leaderboard_notes(board: Leaderboard, mark: str = "Bold") -> list[str]:
    """What a reader must know: who is not ranked and why, and what ranked rows do differently."""
    notes = [
        f"{entry.method}: not ranked ({'; '.join(entry.why_unranked)})."
        for entry in board.entries[board.ranked :]
    ]
    looking = [e.method for e in board.entries[: board.ranked] if e.transductive]
    if looking:
        notes.append(f"{', '.join(looking)}: transductive, and ranked as on the official table.")
    makings: dict[str, list[str]] = {}
    for entry in board.entries:
        if not entry.references:
            made = f"{entry.backbone}; pre-training: {entry.pretraining}"
            makings.setdefault(made, []).append(entry.method)
    notes += [f"{', '.join(methods)}: {made}." for made, methods in makings.items()]
    counted = "A rank is the mean place of all that tie with the best of those left."
    return [*notes, counted, *table_notes(board.table, mark)]


def render_terminal(board: Leaderboard, console: Console) -> Group:
    """For a terminal, in the roomiest form that fits."""
    mark = "Bold" if console.is_terminal else "*"
    notes = leaderboard_notes(board, mark)[: -len(table_notes(board.table))]
    return render_console(board.table, console, board.title, notes)


# ---- Markdown, as the official table ---------------------------------------------------------


def render_official_markdown(board: Leaderboard) -> str:
    """Columns, order and cells as the official table; what is not ranked in a table of its own."""
    lines = [f"## {markdown_text(board.title)}", ""]
    lines += _official_rows(board, range(board.ranked))
    if board.ranked < len(board.entries):
        lines += ["", "### Not ranked", ""]
        lines += _official_rows(board, range(board.ranked, len(board.entries)))
    lines += ["", *(f"- {markdown_text(note)}" for note in leaderboard_notes(board)), ""]
    lines += [f"[{ref.number}]: {ref.url} ({ref.citation})" for ref in _references(board)]
    return "\n".join(lines).rstrip() + "\n"


def _official_rows(board: Leaderboard, rows: range) -> list[str]:
    header = ["Method", "Avg rank", *board.table.sources]
    grid = [header, ["-" * CELL_WIDTH] * len(header)]
    for h in rows:
        average, entry = board.table.average_ranks[h], board.entries[h]
        links = ",".join(f"[[{ref.number}]]" for ref in entry.references)
        bold = board.table.best_average[h]
        cells = [
            _official_cell(*values)
            for values in zip(
                board.table.cells[h], board.table.ranks[h], board.table.best[h], strict=True
            )
        ]
        name = f"{markdown_text(entry.method)} {links}".rstrip()
        grid.append([name, _bold(_general(average), "**" if bold else ""), *cells])
    return ["|".join(cell.ljust(CELL_WIDTH) for cell in row) for row in grid]


def _official_cell(cell: Cell | None, rank: float | None, best: bool) -> str:
    if cell is None:
        return MISSING
    text = _bold(f"{100 * cell.mean:5.2f}", "**" if best else "")
    if cell.ci is not None:
        text += f"±{100 * cell.ci:4.2f}"
    return text if rank is None else f"{text}&nbsp;({rank:g})"


def _general(rank: float | None) -> str:
    # Twelve digits take away what adding up ten binary fractions leaves behind.
    return MISSING if rank is None else f"{round(rank, 12):g}"


def _bold(text: str, mark: str) -> str:
    return f"{mark}{text}{mark}"


def _references(board: Leaderboard) -> list[Reference]:
    found = {ref.number: ref for entry in board.entries for ref in entry.references}
    return [found[number] for number in sorted(found)]


# ---- LaTeX -----------------------------------------------------------------------------------


def render_leaderboard_latex(board: Leaderboard) -> str:
    """For a paper, needing booktabs only; one row per method, as the official table."""
    columns = board.table.sources
    lines = [r"% \usepackage{booktabs}", r"\begin{table*}", r"\centering\scriptsize"]
    lines += [r"\setlength{\tabcolsep}{3pt}", rf"\caption{{{latex_text(board.title)}}}"]
    lines += [rf"\begin{{tabular}}{{lr{'r' * len(columns)}}}", r"\toprule"]
    lines += [" & ".join(["Method", "Rank", *map(latex_text, columns)]) + r" \\", r"\midrule"]
    for h, entry in enumerate(board.entries):
        if h == board.ranked and h:
            lines.append(r"\midrule")
        cells = [
            _latex_cell(cell, best)
            for cell, best in zip(board.table.cells[h], board.table.best[h], strict=True)
        ]
        links = ", ".join(str(ref.number) for ref in entry.references)
        name = latex_text(entry.method) + (f" [{links}]" if links else "")
        rank = latex_text(_general(board.table.average_ranks[h]))
        rank = rf"\textbf{{{rank}}}" if board.table.best_average[h] else rank
        lines.append(" & ".join([name, rank, *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip{\raggedright"]
    lines += [latex_text(note) + r"\par" for note in leaderboard_notes(board)]
    lines += [
        rf"[{ref.number}] {latex_text(ref.citation)}, \texttt{{{latex_text(ref.url)}}}\par"
        for ref in _references(board)
    ]
    return "\n".join([*lines, "}", r"\end{table*}"]) + "\n"


def _latex_cell(cell: Cell | None, best: bool) -> str:
    if cell is None:
        return "--"
    mean = f"{100 * cell.mean:.2f}"
    mean = rf"\textbf{{{mean}}}" if best else mean
    return mean if cell.ci is None else rf"{mean}\,$\pm$\,{100 * cell.ci:.2f}"


# ---- for programs ----------------------------------------------------------------------------


def as_records(board: Leaderboard) -> list[dict[str, Any]]:
    """One record per row; accuracies and intervals in percent, as the official table has them."""
    records = []
    for h, entry in enumerate(board.entries):
        columns = list(zip(board.table.sources, board.table.cells[h], strict=True))
        ranks = zip(board.table.sources, board.table.ranks[h], strict=True)
        average = board.table.average_ranks[h]
        records.append(
            {
                "method": entry.method,
                "training": entry.training,
                "average_rank": None if average is None else round(average, 12),
                "ranks": {column: rank for column, rank in ranks if rank is not None},
                "accuracies": {c: _percent(cell.mean) for c, cell in columns if cell},
                "intervals": {
                    c: _percent(cell.ci) for c, cell in columns if cell and cell.ci is not None
                },
                "episodes": {c: cell.episodes for c, cell in columns if cell and cell.episodes},
                "best": [
                    c for c, b in zip(board.table.sources, board.table.best[h], strict=True) if b
                ],
                "best_average_rank": board.table.best_average[h],
                "table": board.title,
                "pretraining": entry.pretraining,
                "backbone": entry.backbone,
                "transductive": entry.transductive,
                "published": bool(entry.references),
                "not_ranked_because": list(entry.why_unranked),
                "references": [
                    {"citation": ref.citation, "url": ref.url} for ref in entry.references
                ],
            }
        )
    return records


def _percent(fraction: float) -> float:
    # Twelve digits: what was published as 41.03 is 41.03 again.
    return round(100 * fraction, 12)


def render_json(boards: Sequence[Leaderboard]) -> str:
    """All rows of all tables, as one list."""
    records = [record for board in boards for record in as_records(board)]
    return json.dumps(records, indent=1, ensure_ascii=False) + "\n"


def render_leaderboard_csv(boards: Sequence[Leaderboard]) -> str:
    """One line per row and column, accuracies and intervals in percent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ["method", "training", "column", "accuracy", "interval", "rank", "average_rank"]
    writer.writerow([*names, "best", "table", "not_ranked_because", "references"])
    for record in (record for board in boards for record in as_records(board)):
        links = " ".join(ref["url"] for ref in record["references"])
        why = "; ".join(record["not_ranked_because"])
        for column, accuracy in record["accuracies"].items():
            values = [record["intervals"].get(column), record["ranks"].get(column)]
            line = [record["method"], record["training"], column, accuracy, *values]
            best = "yes" if column in record["best"] else "no"
            writer.writerow([*line, record["average_rank"], best, record["table"], why, links])
    return text.getvalue()


# ---- HTML ------------------------------------------------------------------------------------


def render_html(boards: Sequence[Leaderboard], title: str) -> str:
    """One page that works from disk, with tables that sort; nothing is loaded from elsewhere."""
    return render_template("leaderboard.html", title=title, tables=html_tables(boards))


def html_tables(boards: Sequence[Leaderboard]) -> list[dict[str, Any]]:
    """What the template of tables needs."""
    return [
        {
            "title": board.title,
            "columns": board.table.sources,
            "rows": [
                {**record, "cells": [_html_cell(record, column) for column in board.table.sources]}
                for record in as_records(board)
            ],
            "ranked": board.ranked,
            "notes": leaderboard_notes(board),
            "references": _references(board),
            "numbers": [[ref.number for ref in entry.references] for entry in board.entries],
        }
        for board in boards
    ]


def _html_cell(record: dict[str, Any], column: str) -> dict[str, Any]:
    accuracy = record["accuracies"].get(column)
    return {
        "mean": accuracy,
        "ci": record["intervals"].get(column),
        "rank": record["ranks"].get(column),
        "best": column in record["best"],
        "episodes": record["episodes"].get(column),
    }
