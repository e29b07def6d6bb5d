"""The main job: backbones trained or loaded, heads evaluated, one table."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from fewshot.cost import announcement
from fewshot.experiment import Experiment, parse_experiment
from fewshot.listener import Listener

SECONDS_BETWEEN_LINES = 10.0

if TYPE_CHECKING:
    from fewshot.listener import Progress as Follow
    from fewshot.run import Outcome


def default_config(experiment: Experiment) -> Path | None:
    """The miniature has settings of its own; records start from the general defaults."""
    if experiment.records is not None:
        return None
    with as_file(files("configs") / "miniature.yaml") as path:
        return path


def parse(arguments: list[str], prog: str) -> Experiment:
    """The experiment that flags and configuration file describe.

    Raises:
        InputError: a setting is wrong.
    """
    return parse_experiment(arguments, default_config, prog)


def run(command: Experiment, console: Console) -> int:
    """Carry out the experiment; the table goes to `console`, progress to the error stream."""
    console.print(announcement(command), highlight=False, soft_wrap=True, markup=False)
    from baselines.table import build_head  # after the first line: PyTorch takes seconds
    from fewshot.run import carry_out

    with show_progress(Console(stderr=True)) as listener:
        outcome = carry_out(command, listener, build_head)
    print_outcome(outcome, console)
    return 0


def print_outcome(outcome: "Outcome", console: Console) -> None:
    """The table of a finished run, and where the run is."""
    from fewshot.results import render_console

    console.print(render_console(outcome.table, console, outcome.title, outcome.notes))
    last = f"\nRun folder: {outcome.folder}"
    console.print(last, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def show_progress(errors: Console) -> Iterator[Listener]:
    """A listener that draws bars on a terminal, and prints lines elsewhere."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=14),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=errors,
        refresh_per_second=4,
        disable=not errors.is_terminal,
    ) as display:
        progress = draw_bars(display) if errors.is_terminal else print_lines(errors)
        yield Listener(partial(errors.print, markup=False, soft_wrap=True), progress)


def draw_bars(display: Progress) -> "Follow":
    """Draws one bar per piece of work."""
    bars: dict[str, TaskID] = {}

    def progress(work: str, done: int, total: int, note: str) -> None:
        if work not in bars:
            bars[work] = display.add_task(work, total=total, note=note)
        display.update(bars[work], completed=done, total=total, note=note)

    return progress


def print_lines(console: Console) -> "Follow":
    """Prints a line per piece of work every ten seconds and at its end: for logs."""
    told: dict[str, float] = {}

    def progress(work: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if done == total or now - told.setdefault(work, now) > SECONDS_BETWEEN_LINES:
            told[work] = now
            line = f"{work}: {done} of {total} {note}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    return progress
