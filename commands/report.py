"""`report`: stored results as one page that works offline, and its figures for papers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console


@dataclass(frozen=True)
class Command:
    """Write a report on runs: one page with tables, figures and provenance; nothing is loaded.

    Runs that differ in their seed only are one method; benchmarks, protocols and splits get
    chapters of their own. Needs matplotlib.
    """

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Ids, run folders or results folders; all of --results when none is given."""
    out: Path = Path("report.html")
    """The page."""
    figures: Path | None = None
    """Folder for the figures as PDF and SVG, for papers."""
    examples: int = 1
    """Episodes of each source to show in pictures, of the first run; needs its records."""
    title: str = "Few-shot classification on Meta-Dataset"
    """Heading of the page."""
    results: Path = Path("runs")
    """Folder that holds run folders."""


def run(command: Command, console: Console) -> int:
    """Write the page and the figures, and name them."""
    from fewshot.results.collection import find_runs
    from fewshot.results.report import write_report
    from fewshot.results.tables import write_text

    collection = find_runs(command.runs, command.results)
    shown: list[Any] = []
    notes: list[str] = []
    if command.examples > 0 and collection.runs:
        from fewshot.gallery import show_examples

        shown, notes = show_examples(collection.runs[0], command.examples)
    page, figures = write_report(collection.runs, command.title, collection.faults, shown, notes)
    write_text(command.out, page)
    if command.figures is not None:
        from fewshot.results.figures import draw_example

        for figure in [*figures, *map(draw_example, shown)]:
            figure.save(command.figures)
    where = "" if command.figures is None else f", figures in {command.figures}"
    console.print(f"{command.out}{where}", markup=False, highlight=False, soft_wrap=True)
    return 0
