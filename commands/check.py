"""`check`: audit a folder of records."""

import os
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from episodes import SOURCES
from episodes.check import SourceAudit, check
from episodes.remote import refuse_url


@dataclass(frozen=True)
class Command:
    """Audit records: every fault of every source, found in one pass.

    Checks names, specifications, missing and surplus files, every checksum, count and label,
    and the order of traffic signs. Exits with 0 when all is well and with 1 when not.
    """

    records: Path
    """The folder that holds a folder per source: converted records, or a TFDS data folder."""

    sources: tuple[str, ...] = ()
    """Sources to audit, or name=folder for a folder of own images; default: all that are there."""

    deep: bool = False
    """Also decode every image."""

    jobs: int = min(os.cpu_count() or 1, 8)
    """Processes that read."""


def run(command: Command, console: Console) -> int:
    """Audit, print a table of the sources and every fault."""
    refuse_url(command.records, "records are audited")
    bar = Progress(
        TextColumn("checking"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)
        audits = check(
            command.records,
            command.sources,
            command.deep,
            command.jobs,
            lambda done, total: bar.update(task, completed=done, total=max(total, 1)),
        )
    console.print(summary(audits))
    for audit in audits:
        print_details(audit, console)
    print_verdict(audits, command, console)
    return 1 if any(audit.faults for audit in audits) else 0


def summary(audits: list[SourceAudit]) -> Table:
    """A row per source."""
    table = Table("source", "layout")
    for column in ("train", "valid", "test", "files", "images", "faults"):
        table.add_column(column, justify="right")
    for audit in audits:
        classes = audit.classes or ("?", "?", "?")
        faults = f"[red]{len(audit.faults)}[/red]" if audit.faults else "[green]0[/green]"
        counts = [f"{audit.files:,}", f"{audit.images:,}"]
        table.add_row(escape(audit.source), audit.layout, *map(str, classes), *counts, faults)
    return table


def print_details(audit: SourceAudit, console: Console) -> None:
    """A source's faults, each with its file and remedy, and its notes."""
    name = escape(audit.source)
    for fault in audit.faults:
        place = f"{fault.where}: " if fault.where is not None else ""
        console.print(f"[red]fault[/red] {name}: {escape(place + fault.what)}", highlight=False)
        console.print(f"      {escape(fault.remedy)}", highlight=False)
    for note in audit.notes:
        console.print(f"[yellow]note[/yellow]  {name}: {escape(note)}", highlight=False)


def print_verdict(audits: list[SourceAudit], command: Command, console: Console) -> None:
    """One line that says whether the records can be used, and what was not looked at."""
    absent = [source for source in SOURCES if source not in {audit.source for audit in audits}]
    if absent and not command.sources:
        console.print(f"Not there: {', '.join(absent)}.", highlight=False)
    faults = sum(len(audit.faults) for audit in audits)
    images = sum(audit.images for audit in audits)
    depth = "decoded" if command.deep else "not decoded (--deep does)"
    verdict = f"Faults: {faults}," if faults else "No faults"
    where = ", ".join(audit.source for audit in audits)
    console.print(f"{verdict} in {escape(where)} ({images:,} images, {depth}).", highlight=False)
