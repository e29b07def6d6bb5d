"""`convert`: raw downloads into records."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from episodes.faults import InputError
from episodes.remote import refuse_url

if TYPE_CHECKING:
    from episodes.convert.conversion import Conversion
    from episodes.convert.source import RawSource

LISTED_AT_MOST = 20
"""Images left out that are printed one by one; all are in the report."""


@dataclass(frozen=True)
class Command:
    """Convert raw downloads into records: extracted folders, or the archives as they are.

    Splits, order of images, crops and encoding are the official converter's. An interrupted
    conversion goes on where it was. Exits with 1 where a result is not the benchmark's.
    """

    sources: tyro.conf.Positional[tuple[str, ...]]
    """Sources to convert (ilsvrc_2012, omniglot, …), name=folder for a folder of class folders of
    images, or all: every source that is found (of ImageNet, the first version)."""

    records: Path | None = None
    """Folder to write to; every source gets a folder of its own in it."""

    raw: Path | None = None
    """Folder of the downloads: of one source, or the folder above those of many."""

    splits: Path | None = None
    """A split of your own: a file {"train": [class names], "valid": […], "test": […]}, or a folder
    of <source>_splits.json; class ids follow its order. Without: the official split."""

    splits_only: bool = False
    """Print the split as JSON, its class names in the order of their ids, and convert nothing."""

    duplicates: tuple[Path, ...] = ()
    """The official lists of ImageNet images that are in other sources too, or their folder: these
    images are left out, as in the benchmark."""

    jobs: int = min(os.cpu_count() or 1, 16)
    """Processes that convert."""

    force: bool = False
    """Remove another conversion of a source from its folder first."""

    verify: bool = False
    """Read all records again afterwards: checksums, counts, labels, order."""


def run(command: Command, console: Console) -> int:
    """Convert source by source, and say what each came to."""
    refuse_url(command.records, "records are written")
    with console.status("looking for raw data, and into archives"):
        sources = choose_sources(command)
    if command.splits_only:
        return print_splits(sources, command)
    if command.records is None:
        raise InputError("where to write is not said.", remedy="Name a folder with --records.")
    if len(sources) == 1:
        return convert_one(sources[0], command, console)
    status = 0
    for source in sources:
        try:
            status = max(status, convert_one(source, command, console))
        except InputError as error:  # the other sources need not wait for this one
            console.print(f"[red]error[/red] {escape(str(error))}", soft_wrap=True)
            status = 2
    return status


def convert_one(source: "RawSource", command: Command, console: Console) -> int:
    """Convert a source under a bar of progress; 1 where the result is not the benchmark's."""
    from episodes.convert.conversion import convert

    started = time.perf_counter()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[said]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(source.name, total=None, said="")

        def show(done: int, total: int, written: int) -> None:
            rate = written / max(time.perf_counter() - started, 1e-9)
            said = f"{written:,} images, {rate:,.0f}/s"
            bar.update(task, completed=done, total=total, said=said)

        done = convert(source, command.splits, command.jobs, command.force, show)
    print_conversion(done, time.perf_counter() - started, console)
    failed = command.verify and verify(done, command.jobs, console)
    return int(failed or done.fault is not None)


def choose_sources(command: Command) -> list["RawSource"]:
    """The sources that the arguments name, or those that are there.

    Raises:
        InputError: one is unknown, or none is there.
    """
    from episodes.convert import CONVERTERS, open_raw
    from episodes.convert.source import Options

    if not command.sources:
        what = "no source is named."
        raise InputError(what, remedy=f"Name some of {', '.join(CONVERTERS)}, or all.")
    if command.splits is not None and not command.splits.exists():
        raise InputError("there is no such file or folder.", command.splits, "Check --splits.")
    if command.splits is not None and command.splits.is_file() and len(command.sources) > 1:
        what = "is the split of one source, and several are named."
        raise InputError(what, command.splits, "Name one source, or a folder of splits.")
    records = command.records or Path()
    options = Options(command.duplicates)
    if command.sources != ("all",):
        return [open_raw(name, command.raw, records, options) for name in command.sources]
    names = [name for name in CONVERTERS if name != "ilsvrc_2012_v2"]  # another 140 GB
    opened = [open_raw(name, command.raw, records, options) for name in names]
    found = [source for source in opened if is_there(source)]
    if not found:
        what = "holds the raw data of no source."
        raise InputError(what, command.raw, "`data status` tells what each source needs.")
    return found


def is_there(source: "RawSource") -> bool:
    """Whether the raw data are there, in whatever state; converting them tells what is wrong."""
    try:
        return source.is_there()
    except InputError:
        return True


def print_splits(sources: list["RawSource"], command: Command) -> int:
    """The split of one source as JSON, or of several by their names; nothing else."""
    import json

    from episodes.convert.conversion import choose_splits
    from episodes.convert.splits import as_json

    chosen = {one.name: as_json(choose_splits(one, command.splits)[0]) for one in sources}
    if len(chosen) == 1:
        print(*chosen.values(), end="")  # noqa: T201
    else:
        print(json.dumps({k: json.loads(v) for k, v in chosen.items()}, indent=2))  # noqa: T201
    return 0


def print_conversion(done: "Conversion", seconds: float, console: Console) -> None:
    """A line of numbers, then whatever the user should know."""
    from episodes.convert.journal import REPORT_FILE

    speed = f", {done.written / seconds:,.0f} images/s" if done.written else ""
    now = f"{done.written:,} written now{speed}" if done.written else "all there already"
    console.print(
        f"{escape(done.source)}: {done.classes:,} classes, {done.images:,} images, "
        f"{done.bytes / 1e9:.2f} GB, {now}: {escape(str(done.folder))}",
        highlight=False,
        soft_wrap=True,
    )
    for note in done.notes:
        console.print(f"[yellow]note[/yellow]  {escape(note)}", highlight=False, soft_wrap=True)
    if done.skipped:
        said = f"{len(done.skipped):,} images are left out, as in the benchmark"
        more = (
            f" (the first {LISTED_AT_MOST} are listed)"
            if len(done.skipped) > LISTED_AT_MOST
            else ""
        )
        where = escape(str(done.folder / REPORT_FILE))
        console.print(f"[yellow]note[/yellow]  {said}{more}: {where}", soft_wrap=True)
    for text in done.skipped[:LISTED_AT_MOST]:
        console.print(f"      {escape(text)}", highlight=False, soft_wrap=True)
    if done.fault:
        console.print(f"[red]fault[/red] {escape(str(done.fault))}", soft_wrap=True)


def verify(done: "Conversion", jobs: int, console: Console) -> bool:
    """Audit the records; whether there is a fault."""
    from commands.check import print_details
    from episodes.check import check
    from episodes.convert.status import note_verified

    (audit,) = check(done.folder.parent, [done.source], jobs=jobs)
    print_details(replace(audit, notes=()), console)  # the notes were said already
    if not audit.faults:
        note_verified(done.folder)
    count = len(audit.faults)
    verdict = f"{count} faults" if count else "no faults"
    console.print(f"{escape(done.source)}: verified, {verdict}.", highlight=False)
    return bool(audit.faults)
