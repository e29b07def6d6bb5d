"""`table`: stored results as tables, alone or among the published ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console

from episodes.faults import InputError

if TYPE_CHECKING:
    from fewshot.results.leaderboard import Leaderboard


@dataclass(frozen=True)
class Command:
    """Print stored results as tables, alone or among the published ones.

    Own rows are ranked with published ones only where that is fair: the benchmark's own protocol,
    all ten sources, 600 episodes or more, the same training sources, inductive. Others are shown
    with the reason. Alone, a table holds what shares benchmark, protocol and pre-training.
    """

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Ids, run folders or results folders; without --published, all of --results by default."""
    published: Literal["imagenet", "all"] | None = None
    """Among the published results trained on ImageNet only, or on all training sources."""
    format: Literal["terminal", "markdown", "latex", "csv", "html", "json"] = "terminal"
    """How to print: json is a list of rows for scripts, accuracies in percent."""
    out: Path | None = None
    """File to write instead of printing (not for terminal)."""
    results: Path = Path("runs")
    """Folder that holds run folders."""

    def __post_init__(self) -> None:
        """Raises InputError for a table that cannot be written to a file."""
        if self.out is not None and self.format == "terminal":
            raise InputError("--out needs a --format.", remedy="Add --format markdown, for one.")


def run(command: Command, console: Console) -> int:
    """Print the tables or write the file."""
    from fewshot.results.leaderboard_tables import render_terminal

    boards = make_boards(command)
    if command.format == "terminal":
        for board in boards:
            console.print(render_terminal(board, console))
            console.print()
        return 0
    text = render(boards, command.format)
    if command.out is None:
        console.file.write(text)
        return 0
    from fewshot.results.tables import write_text

    write_text(command.out, text)
    console.print(str(command.out), markup=False, highlight=False, soft_wrap=True)
    return 0


def make_boards(command: Command) -> "list[Leaderboard]":
    """The tables that the command asks for."""
    from commands.statistics import say_faults
    from fewshot.results.collection import find_runs
    from fewshot.results.frames import load_runs
    from fewshot.results.leaderboard import own_boards
    from fewshot.results.methods import find_methods

    if command.runs or command.published is None:
        collection = find_runs(command.runs, command.results)
        frames = load_runs(collection.runs, collection.faults)
        say_faults(frames.faults)
        methods = find_methods(frames)
    else:
        methods = []
    if command.published is None:
        return own_boards(methods)
    from baselines.published import place_among

    return [place_among(methods, command.published)]


def render(boards: "Sequence[Leaderboard]", form: str) -> str:
    """The tables as text in one of the formats."""
    from fewshot.results import leaderboard_tables as tables

    match form:
        case "markdown":
            return "\n".join(map(tables.render_official_markdown, boards))
        case "latex":
            return "\n".join(map(tables.render_leaderboard_latex, boards))
        case "csv":
            return tables.render_leaderboard_csv(boards)
        case "html":
            return tables.render_html(boards, "Few-shot classification on Meta-Dataset")
    return tables.render_json(boards)
