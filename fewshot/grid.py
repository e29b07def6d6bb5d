"""A table of texts with a title and notes, as a terminal, Markdown, LaTeX and programs want it."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fewshot.results.tables import latex_text, markdown_text, write_text

MISSING = "–"


def percent(fraction: float | None, decimals: int = 1) -> str:
    """A fraction in percent; what is missing is a dash."""
    return MISSING if fraction is None else f"{100 * fraction:.{decimals}f}"


@dataclass(frozen=True)
class Grid:
    """A table as people read it.

    Attributes:
        title: above it.
        header: [columns] the first is of the row names.
        sections: groups of rows, each row [columns]; a rule is drawn between groups.
        notes: what a reader must know, below it.
        values: header and lines of the same table for programs, at full precision; None is
            missing. Each line of the file also ends with the title.
        texts: how many of the first columns hold words, not numbers.
    """

    title: str
    header: tuple[str, ...]
    sections: tuple[tuple[tuple[str, ...], ...], ...]
    notes: tuple[str, ...]
    values: tuple[tuple[str | float | int | None, ...], ...]
    texts: int = 1

    def console(self) -> Group:
        """For a terminal."""
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for place, name in enumerate(self.header):
            justify = "left" if place < self.texts else "right"
            table.add_column(Text(name), justify=justify, overflow="fold")  # type: ignore[arg-type]
        for section in self.sections:
            for row in section:
                table.add_row(*map(Text, row), end_section=row is section[-1])
        notes = [Text(note, style="dim") for note in self.notes]
        return Group(Text(self.title, style="bold"), table, *notes)

    def markdown(self) -> str:
        """In Markdown."""
        rows = [row for section in self.sections for row in section]
        lines = [f"### {markdown_text(self.title)}", ""]
        lines += [markdown_row([markdown_text(name) for name in self.header])]
        lines += [markdown_row([":---"] * self.texts + ["---:"] * (len(self.header) - self.texts))]
        lines += [markdown_row([markdown_text(cell) for cell in row]) for row in rows]
        lines += ["", *(f"- {markdown_text(note)}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """For a paper, needing the package booktabs only."""
        columns = "l" * self.texts + "r" * (len(self.header) - self.texts)
        lines = [r"% \usepackage{booktabs}", r"\begin{table}", r"\centering"]
        lines += [rf"\caption{{{latex_text(self.title)}}}"]
        lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        lines += [latex_row([latex_text(name) for name in self.header])]
        for section in self.sections:
            lines += [r"\midrule"]
            lines += [latex_row([latex_text(cell) for cell in row]) for row in section]
        lines += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip"]
        lines += [r"{\footnotesize\raggedright"]
        lines += [latex_text(note) + r"\par" for note in self.notes]
        return "\n".join([*lines, "}", r"\end{table}"]) + "\n"

    def csv(self) -> str:
        """For programs."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        header, *lines = self.values
        writer.writerow([*header, "table"])
        writer.writerows([*line, self.title] for line in lines)
        return text.getvalue()

    def write(self, folder: Path, stem: str = "table") -> tuple[Path, ...]:
        """Write it as Markdown, CSV and LaTeX, each file whole or not at all.

        Raises:
            InputError: a file cannot be written.
        """
        texts = {".md": self.markdown(), ".csv": self.csv(), ".tex": self.latex()}
        return tuple(write_text(folder / (stem + end), text) for end, text in texts.items())


def markdown_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def latex_row(cells: Sequence[str]) -> str:
    """A row of a LaTeX table."""
    return rf"{' & '.join(cells)} \\"
