"""`results`: the stored runs: list, show, repeat, take out, bring in, put together."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from commands.statistics import EVERYWHERE, Compare, Summary, compare, say_faults, summarise
from episodes.faults import InputError


@dataclass(frozen=True)
class Ls:
    """List the runs in a results folder: what each evaluated, when, and how far it got."""

    results: Path = EVERYWHERE
    """Folder that holds run folders."""


@dataclass(frozen=True)
class Show:
    """Tell how a run was made, as a paragraph for a paper's experiments section."""

    run: tyro.conf.Positional[str]
    """Id of the run or its beginning; or its folder; or FOLDER@ID."""
    results: Path = EVERYWHERE
    """Folder that holds run folders."""


@dataclass(frozen=True)
class Rerun:
    """Compute a run once more from its stored row, and compare episode by episode.

    The exit status is 0 when every row came out the same, else 1.
    """

    run: tyro.conf.Positional[str]
    """Id of the run or its beginning; or its folder; or FOLDER@ID."""
    out: Path
    """Run folder of the repetition."""
    retrain: bool = False
    """Train backbones again, even where the run folder has their weights."""
    results: Path = EVERYWHERE
    """Folder that holds run folders."""


@dataclass(frozen=True)
class Export:
    """Write runs to one file per format; parquet and json can be imported again."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Ids or folders; all of --results when none is given."""
    format: str = "parquet"
    """parquet, csv, json, or several, separated by commas."""
    out: Path = Path("results")
    """The files' name; the ending may be left out."""
    results: Path = EVERYWHERE
    """Folder that holds run folders."""


@dataclass(frozen=True)
class Import:
    """Bring the runs of an exported file into a folder."""

    file: tyro.conf.Positional[Path]
    """A .parquet or .json file that `results export` wrote."""
    into: Path
    """Run folder; made when absent."""


@dataclass(frozen=True)
class Merge:
    """Put the runs of several folders into one; two parts of one experiment become one run."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders with runs."""
    into: Path
    """Run folder; made when absent."""


@dataclass(frozen=True)
class Submit:
    """Write runs as a submission to a leaderboard: a folder of rows, card and settings."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Ids or folders; one run per seed of a method."""
    out: Path
    """The folder."""
    name: str = ""
    """What to call it; the folder's name by default."""
    results: Path = EVERYWHERE
    """Folder that holds run folders."""


Command = (
    Annotated[Ls, tyro.conf.subcommand("ls")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Rerun, tyro.conf.subcommand("rerun")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Merge, tyro.conf.subcommand("merge")]
    | Annotated[Submit, tyro.conf.subcommand("submit")]
    | Annotated[Summary, tyro.conf.subcommand("summary")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
)


def run(
    command: Ls | Show | Rerun | Export | Import | Merge | Submit | Summary | Compare,
    console: Console,
) -> int:
    """Do what the sub-command says; the exit status."""
    match command:
        case Submit():
            return submit(command, console)
        case Summary():
            return summarise(command, console)
        case Compare():
            return compare(command, console)
        case Ls():
            return list_runs(command, console)
        case Show():
            return show_run(command, console)
        case Rerun():
            return rerun(command, console)
        case Export():
            return export(command, console)
        case Import():
            return import_runs(command, console)
        case Merge():
            return merge(command, console)


def list_runs(command: Ls, console: Console) -> int:
    """Print one line per run, with every folder that holds part of it."""
    from fewshot.results.collection import collect_runs
    from fewshot.results.frames import load_runs
    from fewshot.results.rows import head_alone

    collection = collect_runs(command.results)
    frames = load_runs(collection.runs, collection.faults)
    folders: dict[str, list[str]] = {}
    for stored in collection.runs:
        folders.setdefault(stored.run.id, []).append(str(stored.path.parent))
    grid = Table(box=None, pad_edge=False)
    for name in ("run", "time (UTC)"):
        grid.add_column(name, no_wrap=True)
    for name in ("folder", "benchmark", "backbones"):
        grid.add_column(name, overflow="fold")
    for name in ("seed", "rows", "failed"):
        grid.add_column(name, justify="right")
    for name in ("heads", "sources"):
        grid.add_column(name, overflow="fold")
    for run in map(str, frames.runs.index):
        facts = frames.runs.loc[run]
        rows = frames.rows[frames.rows["run"] == run]
        time = None if facts["time"] is None else facts["time"][:16].replace("T", " ")
        heads = dict.fromkeys(head_alone(label) for label in rows["head"].unique())
        cells = [run, time, "\n".join(folders[run]), facts["benchmark"], facts["backbones"]]
        cells += [facts["seed"], len(rows), int((rows["status"] != "ok").sum())]
        cells += [", ".join(heads), " ".join(rows["source"].unique())]
        grid.add_row(*("–" if cell is None else str(cell) for cell in cells))
    console.print(grid if len(frames.runs) else f"no runs in {command.results}", markup=False)
    for fault in frames.faults:
        console.print(f"not read: {fault}", markup=False, highlight=False, soft_wrap=True)
    return 0


def show_run(command: Show, console: Console) -> int:
    """Print the paragraph."""
    from fewshot.results.collection import find_run
    from fewshot.results.frames import load_runs
    from fewshot.results.paragraph import write_paragraph

    stored = find_run(command.run, command.results)
    text = write_paragraph(stored.run, load_runs([stored]).episodes)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 0


def rerun(command: Rerun, console: Console) -> int:
    """Repeat the run and print how the rows compare."""
    from fewshot.results.collection import find_run

    stored = find_run(command.run, command.results)
    if command.out.resolve() == stored.path.parent.resolve():
        raise InputError("is the folder of the run itself.", command.out, "Choose another --out.")
    from baselines.table import build_head
    from commands.evaluate import print_lines
    from fewshot.listener import Listener
    from fewshot.repeat import repeat

    errors = Console(stderr=True)
    say = partial(errors.print, markup=False, soft_wrap=True)
    listener = Listener(say, print_lines(errors))
    found = repeat(stored, command.out, command.retrain, listener, build_head)
    lines = [f"{found.equal} rows are equal to the last digit."]
    differing = (
        (found.other_accuracy, "have another accuracy"),
        (found.other_plan, "saw other images"),
        (found.missing, "are missing"),
    )
    lines += [
        f"{len(names)} rows {what}: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
        for names, what in differing
        if names
    ]
    if found.largest:
        lines.append(f"The largest difference is {100 * found.largest:.2f} points.")
    if found.retrained:
        lines.append("Backbones were trained again.")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return 0 if found.reproduced else 1


def export(command: Export, console: Console) -> int:
    """Write the files and name them."""
    from fewshot.results.collection import find_runs
    from fewshot.results.exchange import export_runs

    collection = find_runs(command.runs, command.results)
    say_faults(collection.faults)
    stored = collection.runs
    kinds = [kind.strip() for kind in command.format.split(",")]
    name = command.out.stem if command.out.suffix[1:] in kinds else command.out.name
    for kind in kinds:
        path = command.out.with_name(f"{name}.{kind}")
        count = export_runs(stored, path)
        text = f"{path}: {count} rows of {len(stored)} runs"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 0


def import_runs(command: Import, console: Console) -> int:
    """Bring the file in and say what became of its rows."""
    from fewshot.results import RowStore
    from fewshot.results.exchange import merge_run, read_export
    from fewshot.results.file import ROWS_FILE

    runs = read_export(command.file)
    with RowStore(command.into / ROWS_FILE) as store:
        for run, rows in runs:
            merged = merge_run(store, run, rows)
            say_merged(merged.run, merged.added, merged.known, merged.differing, console)
    return 0


def merge(command: Merge, console: Console) -> int:
    """Put the runs together and say what became of their rows."""
    from fewshot.results import RowStore
    from fewshot.results.collection import find_runs
    from fewshot.results.exchange import merge_run
    from fewshot.results.file import ROWS_FILE

    target = command.into / ROWS_FILE
    collection = find_runs([*map(str, command.folders)], command.into)
    say_faults(collection.faults)
    for stored in collection.runs:
        if stored.path.resolve() == target.resolve():
            continue
        with RowStore(stored.path, read_only=True) as store:
            rows = store.rows(stored.run.id)
        with RowStore(target) as store:
            merged = merge_run(store, stored.run, rows)
        say_merged(merged.run, merged.added, merged.known, merged.differing, console)
    return 0


def say_merged(run: str, added: int, known: int, differing: int, console: Console) -> None:
    """One line on the rows of a run that were put into a store."""
    text = f"run {run}: {added} rows added, {known} known already"
    if differing:
        text += f", {differing} of them with another accuracy (the first is kept)"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def submit(command: Submit, console: Console) -> int:
    """Write the folder and say what a leaderboard would have against it."""
    from baselines.published import read_known_plans
    from fewshot.results.collection import find_runs
    from fewshot.results.submission import write_submission

    collection = find_runs(command.runs, command.results)
    say_faults(collection.faults)
    stored, name = collection.runs, command.name or command.out.resolve().name
    faults = write_submission(stored, command.out, name, read_known_plans())
    lines = [f"{command.out}: {len(stored)} runs"]
    lines += [f"A leaderboard would refuse it: {fault}." for fault in faults]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return 1 if faults else 0
