"""`data`: what there is of every source."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from episodes.faults import unknown_name
from episodes.remote import refuse_url

if TYPE_CHECKING:
    from episodes.convert.status import SourceStatus


@dataclass(frozen=True)
class Command:
    """Say of every source what is needed, where it officially comes from, and what is there:
    raw data, records, their audit, packs. Nothing is downloaded or changed."""

    action: tyro.conf.Positional[Literal["status"]] = "status"
    """The only one: status."""

    raw: Path | None = None
    """Folder of the downloads."""

    records: Path | None = None
    """Folder of all records."""

    sources: tuple[str, ...] = ()
    """Sources to tell of; all that can be converted when none is named."""


def run(command: Command, console: Console) -> int:
    """Print a table of what is there, then what is missing and where it comes from."""
    from episodes.convert import CONVERTERS
    from episodes.convert.status import take_status

    refuse_url(command.records, "what there is is looked for")
    for source in command.sources:
        if source not in CONVERTERS:
            raise unknown_name("source", source, CONVERTERS)
    found = take_status(command.raw, command.records, command.sources)
    console.print(draw_table(found))
    for status in found:
        print_needs(status, console)
    return 0


def draw_table(found: list["SourceStatus"]) -> Table:
    """One row per source."""
    table = Table(box=None, pad_edge=False)
    table.add_column("source", no_wrap=True)
    table.add_column("raw data")
    table.add_column("records")
    table.add_column("images", justify="right")
    table.add_column("verified")
    table.add_column("packs")
    for one in found:
        there = sum(place is not None for _, place in one.found)
        table.add_row(
            one.source,
            "found" if there == len(one.found) else f"{there} of {len(one.found)} downloads",
            escape(one.records),
            f"{one.images:,}" if one.images else "",
            "yes" if one.verified else "no" if one.images else "",
            escape(", ".join(one.packs)),
        )
    return table


def print_needs(status: "SourceStatus", console: Console) -> None:
    """What a source needs: where each download was found, or where it comes from."""
    origin = status.origin
    title = f"{status.source}: {origin.title}. Licence: {origin.licence}. {origin.page}"
    console.print(f"\n{escape(title)}", highlight=False, soft_wrap=True)
    for download, place in status.found:
        where = f"found: {place}{size_of(place)}" if place else f"not found: {download.link}"
        state = f" ({download.state})" if download.state and not place else ""
        text = f"  {download.name}, {download.size}, {where}{state}"
        console.print(escape(text), highlight=False, soft_wrap=True)


def size_of(place: Path) -> str:
    """What an archive takes on disk: beside its official size that tells whether it is whole."""
    return f" ({decimal(place.stat().st_size)} on disk, not opened)" if place.is_file() else ""
