"""`sweep`: a grid of backbones, heads, settings and seeds, worked through cell by cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from commands import evaluate
from commands.evaluate import show_progress
from fewshot.shard import Shard
from fewshot.study import count_cells, read_study

if TYPE_CHECKING:
    from fewshot.sweep import Outcome


@dataclass(frozen=True)
class Command:
    """Evaluate a grid of backbones, heads, settings and seeds, told in a YAML file.

    Every choice of settings has a run folder, where what is stored is not computed again: the
    same command goes on where it was stopped. A cell that fails stops no other; those that failed
    are listed at the end, and tried again by the same command. The exit status is then 1.
    """

    study: tyro.conf.Positional[Path]
    """The YAML file: base, variants and grid; docs/scaling.md says how."""
    output: Path | None = None
    """Folder for the run folders; by default runs/ and the file's name."""
    shard: str | None = None
    """i/n takes only the i-th of n parts of the run folders, for arrays of jobs."""
    list: bool = False
    """Only list the cells, and which of them are stored."""


def run(command: Command, console: Console) -> int:
    """Work through the study; what became of it goes to `console`, progress to the error stream."""
    output = command.output or Path("runs") / command.study.stem
    works = read_study(command.study, output, partial(evaluate.parse, prog=str(command.study)))
    shard = Shard.parse(command.shard)
    works = [works[place] for place in shard.of(len(works))]
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    part = "" if shard.is_whole else f" (shard {command.shard})"
    say(f"{count_cells(works)} cells in {len(works)} run folders of {output}{part}")
    from baselines.table import build_head  # after the first line: PyTorch takes seconds
    from fewshot.sweep import is_stored, sweep

    if command.list:
        for work in works:
            for cell in work.cells:
                there = "stored" if is_stored(cell.experiment, build_head) else "to do"
                say(f"{there:6}  {cell.head}  {cell.name}")
        return 0
    with show_progress(Console(stderr=True)) as listener:
        outcomes = list(sweep(works, build_head, listener))
    return print_outcomes(outcomes, output, console)


def print_outcomes(outcomes: "Sequence[Outcome]", output: Path, console: Console) -> int:
    """What became of the cells; the exit status."""
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    faults = [outcome for outcome in outcomes if outcome.fault]
    there = sum(outcome.was_there for outcome in outcomes)
    done = len(outcomes) - there - len(faults)
    say(f"{done} cells evaluated, {there} were stored, {len(faults)} failed.")
    for outcome in outcomes:
        if outcome.failed:
            what = f"failed on {outcome.failed} episodes, which are in no mean"
            say(f"  {outcome.cell.head} on {outcome.cell.name}: {what}")
    reasons: dict[str, list[str]] = {}
    for outcome in faults:
        cell = f"{outcome.cell.head} on {outcome.cell.name}"
        reasons.setdefault(outcome.fault, []).append(cell)
    for fault, cells in reasons.items():
        say(f"failed: {'; '.join(cells)}: {fault}")
    say(f"All in one table: run_meta_dataset.py table {output}")
    return 1 if faults else 0
