"""The table as people read it; the only place where accuracies become percentages."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from episodes.faults import writing
from episodes.tfrecord import replacing
from fewshot.results.aggregate import Cell, Table

MISSING = "–"
MARKDOWN_BOLD = "**{}**"
LATEX_BOLD = r"\textbf{{{}}}"
SHORT_NAMES = {
    "ilsvrc_2012": "ILSVRC",
    "omniglot": "Omniglot",
    "aircraft": "Aircraft",
    "cu_birds": "Birds",
    "dtd": "Textures",
    "quickdraw": "QuickDraw",
    "fungi": "Fungi",
    "vgg_flower": "VGG Flower",
    "traffic_sign": "Traffic signs",
    "mscoco": "MSCOCO",
}
"""The leaderboard's column names; a source that is not among them goes by its own name."""

WIDE_FORMS = ((2, " ± ", 2), (1, " ± ", 2), (1, "±", 2), (1, "±", 1))
"""Decimals, sign and gap between columns of the form with one row per head, roomiest first."""


def render_console(
    table: Table, console: Console, title: str = "", notes: Sequence[str] = ()
) -> Group:
    """The table for a terminal, in the roomiest form that fits its width.

    Wide enough, it has one row per head, as the leaderboard; else one row per source, and as many
    heads side by side as fit. Nothing is cut off. The best are bold in a terminal; elsewhere,
    where bold is lost, they carry a star.

    Args:
        table: what to show.
        console: where it will be printed; its width decides.
        title: printed above.
        notes: printed below, before the table's own (`table_notes`).
    """
    star = "" if console.is_terminal else "*"
    wide = (_by_head(table, *form, star) for form in WIDE_FORMS)
    fitting = next((grid for grid in wide if _width(grid, console) <= console.width), None)
    grids = [fitting] if fitting else _by_source_blocks(table, console, star)
    mark = "Bold" if console.is_terminal else "*"
    lines = [Text(note, style="dim") for note in (*notes, *table_notes(table, mark))]
    return Group(*([Text(title, style="bold")] if title else []), *grids, *lines)


def render_markdown(table: Table, title: str = "", notes: Sequence[str] = ()) -> str:
    """The table in Markdown, one row per head; the best means are bold."""
    header = ["Head", *map(_short, table.sources), "Mean", "Avg rank"]
    lines = [f"### {markdown_text(title)}", ""] if title else []
    lines += [_markdown_row([markdown_text(name) for name in header])]
    lines += [_markdown_row([":---"] + ["---:"] * (len(header) - 1))]
    for h, head in enumerate(table.heads):
        cells = [
            _marked(_text(cell), best, MARKDOWN_BOLD)
            for cell, best in zip(table.cells[h], table.best[h], strict=True)
        ]
        rank = _marked(_rank(table.average_ranks[h]), table.best_average[h], MARKDOWN_BOLD)
        lines += [_markdown_row([markdown_text(head), *cells, _text(table.means[h]), rank])]
    lines += [""]
    lines += [f"- {markdown_text(note)}" for note in (*notes, *table_notes(table))]
    return "\n".join(lines) + "\n"


def render_csv(table: Table, title: str = "") -> str:
    """The table for programs: one line per head and source, fractions at full precision.

    Empty fields are missing values; a head without average rank is incomplete. Every line ends
    with the title, so that lines of several tables can be put together and told apart.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["head", "source", "mean", "ci95", "episodes", "rank", "average_rank", "table"])
    for h, head in enumerate(table.heads):
        for s, source in enumerate(table.sources):
            cell = table.cells[h][s]
            values = [cell.mean, cell.ci, cell.episodes] if cell else [None, None, 0]
            ranks = [table.ranks[h][s], table.average_ranks[h]]
            writer.writerow([head, source, *values, *ranks, title])
    return text.getvalue()


def render_latex(table: Table, title: str = "", notes: Sequence[str] = ()) -> str:
    """The table for a paper, needing the package booktabs only; the best means are bold.

    Sources are rows and heads are columns, as in most papers: ten columns fit no page.
    """
    columns = range(len(table.heads))
    lines = [r"% \usepackage{booktabs}", r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{latex_text(title)}}}"] if title else []
    lines += [rf"\begin{{tabular}}{{l{'r' * len(table.heads)}}}", r"\toprule"]
    lines += [_latex_row(["Source", *map(latex_text, table.heads)]), r"\midrule"]
    for s, source in enumerate(table.sources):
        cells = [_latex_cell(table.cells[h][s], table.best[h][s]) for h in columns]
        lines += [_latex_row([latex_text(_short(source)), *cells])]
    lines += [r"\midrule", _latex_row(["Mean", *(_latex_cell(mean) for mean in table.means)])]
    ranks = [
        _marked(latex_text(_rank(rank)), best, LATEX_BOLD)
        for rank, best in zip(table.average_ranks, table.best_average, strict=True)
    ]
    lines += [_latex_row(["Average rank", *ranks]), r"\bottomrule", r"\end{tabular}"]
    lines += [r"\par\smallskip", r"{\footnotesize\raggedright"]
    lines += [latex_text(note) + r"\par" for note in (*notes, *table_notes(table))]
    return "\n".join([*lines, "}", r"\end{table}"]) + "\n"


def write_tables(
    folder: Path, table: Table, title: str = "", notes: Sequence[str] = ()
) -> tuple[Path, ...]:
    """Write `table.md`, `table.csv` and `table.tex`, each whole or not at all.

    Returns:
        The files written.

    Raises:
        InputError: a file cannot be written.
    """
    texts = {
        "table.md": render_markdown(table, title, notes),
        "table.csv": render_csv(table, title),
        "table.tex": render_latex(table, title, notes),
    }
    return tuple(write_text(folder / name, text) for name, text in texts.items())


def write_text(path: Path, text: str) -> Path:
    """Write a text file, whole or not at all.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    with writing(path, "choose another place"), replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def table_notes(table: Table, mark: str = "Bold") -> list[str]:
    """What a reader must know about the table: unit, episodes, marks, what is missing.

    Args:
        table: the table.
        mark: what the best are marked with.
    """
    present = [cell for row in table.cells for cell in row if cell is not None]
    if not present:
        return ["No results yet."]
    counts = [cell.episodes for cell in present if cell.episodes] or [0]  # some papers tell none
    fewest, most = min(counts), max(counts)
    count = str(most) if fewest == most else f"{fewest} to {most} (the counts differ)"
    notes = [f"Accuracy in %, mean ± 95 % interval over episodes; episodes per source: {count}."]
    if any(True in row for row in table.best):
        notes.append(f"{mark}: the best of a source and all that tie with it.")
    empty = [s for s in range(len(table.sources)) if all(row[s] is None for row in table.cells)]
    if empty:
        names = ", ".join(_short(table.sources[s]) for s in empty)
        notes.append(f"{MISSING} No head has results on {names}; means and ranks leave it out.")
    for head, row in zip(table.heads, table.cells, strict=True):
        missing = [s for s, cell in enumerate(row) if cell is None and s not in empty]
        if missing:
            names = ", ".join(_short(table.sources[s]) for s in missing)
            notes.append(f"{MISSING} {head} has no results on {names}: no mean, not ranked.")
        failed = [
            f"{cell.failed} on {_short(source)}"
            for source, cell in zip(table.sources, row, strict=True)
            if cell is not None and cell.failed
        ]
        if failed:
            notes.append(f"{head} failed in episodes: {', '.join(failed)}; no mean, not ranked.")
    notes += [f"Incomplete, no mean, not ranked: {text}." for text in unfinished(table)]
    if any(cell.ci is None for cell in present):
        notes.append("A single episode has no interval; a head that has one is not ranked.")
    return notes


def unfinished(table: Table) -> list[str]:
    """Which heads have only some of the episodes that were asked for, and where."""
    heads: dict[str, list[str]] = {}
    for head, row in zip(table.heads, table.cells, strict=True):
        places: dict[str, list[str]] = {}
        for source, cell in zip(table.sources, row, strict=True):
            if cell is not None and cell.missing:
                there = cell.episodes + cell.failed
                count = f"{there} of {there + cell.missing} episodes"
                places.setdefault(count, []).append(_short(source))
        if places:
            text = "; ".join(f"{count} of {', '.join(names)}" for count, names in places.items())
            heads.setdefault(text, []).append(head)
    return [f"{', '.join(names)} ({text})" for text, names in heads.items()]


def _by_head(table: Table, decimals: int, between: str, gap: int, star: str) -> RichTable:
    """One row per head, one column per source; names of two words take two lines."""
    names = [_short(source).replace(" ", "\n") for source in table.sources]
    grid = _grid("Head", [*names, "Mean", "Avg\nrank"], gap)
    for h, head in enumerate(table.heads):
        cells = [
            _styled(_text(cell, decimals, between), best, star)
            for cell, best in zip(table.cells[h], table.best[h], strict=True)
        ]
        mean = _styled(_text(table.means[h], decimals, between), False, star)
        rank = _styled(_rank(table.average_ranks[h]), table.best_average[h], star)
        grid.add_row(Text(head), *cells, mean, rank)
    return grid


def _by_source_blocks(table: Table, console: Console, star: str) -> list[RichTable]:
    """One row per source, in blocks of as many heads as the console has room for."""
    heads = list(range(len(table.heads)))
    blocks = []
    while heads:
        size = len(heads)
        while size > 1 and _width(_by_source(table, heads[:size], star), console) > console.width:
            size -= 1
        blocks.append(_by_source(table, heads[:size], star))
        heads = heads[size:]
    return blocks


def _by_source(table: Table, heads: Sequence[int], star: str) -> RichTable:
    """One row per source, one column per head of `heads`."""
    grid = _grid("Source", [table.heads[h] for h in heads])
    for s, source in enumerate(table.sources):
        cells = [_styled(_text(table.cells[h][s]), table.best[h][s], star) for h in heads]
        grid.add_row(Text(_short(source)), *cells, end_section=s == len(table.sources) - 1)
    grid.add_row("Mean", *(_styled(_text(table.means[h]), False, star) for h in heads))
    ranks = [_styled(_rank(table.average_ranks[h]), table.best_average[h], star) for h in heads]
    grid.add_row("Avg rank", *ranks)
    return grid


def _grid(corner: str, names: Sequence[str], gap: int = 3) -> RichTable:
    padding = (0, gap - 1, 0, 0)  # the box adds one
    grid = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
    grid.add_column(corner, no_wrap=True, overflow="fold")
    for name in names:
        grid.add_column(Text(name), justify="right", no_wrap=True, overflow="fold")
    return grid


def _width(grid: RichTable, console: Console) -> int:
    unbounded = console.options.update(width=10_000)
    return Measurement.get(console, unbounded, grid).maximum


def _short(source: str) -> str:
    return SHORT_NAMES.get(source, source)


def _rank(rank: float | None) -> str:
    return MISSING if rank is None else f"{round(rank, 2):g}"


def _text(cell: Cell | None, decimals: int = 2, between: str = " ± ") -> str:
    """A cell in percent."""
    if cell is None:
        return MISSING
    mean = f"{100 * cell.mean:.{decimals}f}"
    return mean if cell.ci is None else f"{mean}{between}{100 * cell.ci:.{decimals}f}"


def _marked(text: str, best: bool, mark: str) -> str:
    """The text, with its first word (the mean) in bold when it is the best."""
    mean, space, interval = text.partition(" ")
    return mark.format(mean) + space + interval if best else text


def _styled(text: str, best: bool, star: str) -> Text:
    # The blank keeps the digits of marked and unmarked cells in line.
    return Text(text + (star if best else " " * len(star)), style="bold" if best else "")


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is, also inside a table cell."""
    flat = " ".join(text.split())
    return re.sub(r"[\\|*`<\[]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\\\g<0>", flat)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\u200b": "{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "→": r"$\to$",
} | {special: f"\\{special}" for special in "&%$#_{}"}


def latex_text(text: str) -> str:
    """Text that LaTeX shows as it is."""
    # Apart, two hyphens (as in --output) do not join into a dash.
    flat = " ".join(text.split()).replace("--", "-\u200b-")
    return "".join(LATEX.get(character, character) for character in flat)


def _latex_cell(cell: Cell | None, best: bool = False) -> str:
    return _marked(latex_text(_text(cell)), best, LATEX_BOLD)


def _latex_row(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"
