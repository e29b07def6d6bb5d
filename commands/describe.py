"""`describe`: what an evaluation will cost, before it runs."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from episodes.faults import InputError, check_above_zero, check_not_negative
from episodes.protocol import EpisodeProtocol, Split, find_protocol
from episodes.remote import local_folder
from episodes.sampling import EpisodeSampler
from episodes.source import find_layout, survey_source
from episodes.spec import holds_spec
from episodes.workload import Spread, Workload, measure_workload


@dataclass(frozen=True)
class Command:
    """Say what an evaluation will cost before it runs: episodes, images and bytes per source.

    An image that many episodes use is read and embedded once: "reuse" says how often it serves.
    """

    records: Path
    """Folder with a folder of records per source."""
    sources: tuple[str, ...] = ("all",)
    """Sources to describe; all takes those of the protocol that are there. name=folder is a
    folder of class folders of images."""
    split: str = "test"
    """Classes to draw from: train, valid or test."""
    protocol: str = "md-v1"
    """Rules of the episodes: a preset, or the path of a .yaml file."""
    episodes: int = 600
    """Episodes per source; published results use 600."""
    seed: int = 0
    """Another seed draws other episodes."""

    def __post_init__(self) -> None:
        """Raises InputError for numbers that no evaluation could have."""
        check_above_zero(self, "episodes")
        check_not_negative(self, "seed")


def run(command: Command, console: Console) -> int:
    """Draw the plans and print one row per source."""
    protocol, split = find_protocol(command.protocol), Split.parse(command.split)
    sources, absent = choose_sources(command, protocol, split)
    workloads = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for source in sources:
            task = bar.add_task(source, total=command.episodes)
            spec, class_bytes = survey_source(command.records, source)
            sampler = EpisodeSampler(spec, split, protocol)
            workloads.append(
                measure_workload(
                    sampler,
                    command.seed,
                    command.episodes,
                    class_bytes,
                    lambda done, _, task=task: bar.update(task, completed=done),  # type: ignore[misc]
                )
            )
    console.print(
        f"{command.episodes} episodes per source, {split} classes, "
        f"protocol {protocol.name} ({protocol.hash}), seed {command.seed}",
        highlight=False,
        markup=False,
    )
    console.print(draw_table(workloads))
    console.print(
        "Mean (least–greatest) of classes per episode, and of support images per class. "
        "Bytes are estimated: each unique image counts as the mean image of its class.",
        style="dim",
    )
    missing = [f"{work.source} {work.missing_files}" for work in workloads if work.missing_files]
    if missing:
        what = "Used classes whose files are missing, so that bytes are unknown"
        console.print(escape(f"{what}: {', '.join(missing)}."))
    if absent:
        console.print(escape(f"Not in {command.records}: {', '.join(absent)}."))
    return 0


def choose_sources(
    command: Command, protocol: EpisodeProtocol, split: Split
) -> tuple[list[str], list[str]]:
    """The sources to describe, and those of the protocol that are not there.

    Raises:
        InputError: none of the protocol's sources is there.
    """
    if command.sources != ("all",):
        return list(dict.fromkeys(command.sources)), []
    known, records = protocol.sources(split), local_folder(command.records)
    there = [name for name in known if holds_spec(records / name) or find_layout(records, name)]
    if not there:
        raise InputError(
            f"holds none of the {split} sources of {protocol.name} ({', '.join(known)}).",
            command.records,
            "Check the path, or name other sources with --sources.",
        )
    return there, [name for name in known if name not in there]


def draw_table(workloads: list[Workload]) -> Table:
    """One row per source, and their sum where there are several."""
    table = Table(box=None, pad_edge=False)
    table.add_column("source", no_wrap=True)
    for heading in ("ways", "shots", "images", "unique", "reuse", "bytes", "largest"):
        table.add_column(heading, justify="right", no_wrap=True)
    for work in workloads:
        table.add_row(
            escape(work.source),
            said(work.ways),
            said(work.shots),
            f"{work.images:,}",
            f"{work.unique_images:,}",
            f"{work.reuse:.1f}×",
            "unknown" if work.unique_bytes is None else decimal(work.unique_bytes),
            f"{work.largest:,}",
        )
    if len(workloads) > 1:
        images = sum(work.images for work in workloads)
        unique = sum(work.unique_images for work in workloads)
        known = [work.unique_bytes for work in workloads if work.unique_bytes is not None]
        table.add_section()
        table.add_row(
            "all",
            "",
            "",
            f"{images:,}",
            f"{unique:,}",
            f"{images / unique:.1f}×",
            decimal(sum(known)) if len(known) == len(workloads) else "unknown",
            f"{max(work.largest for work in workloads):,}",
        )
    return table


def said(spread: Spread) -> str:
    return f"{spread.mean:.1f} ({spread.least}–{spread.greatest})"
