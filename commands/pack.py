"""`pack`: decode the images of whole splits once, and read them from memory afterwards."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from episodes.check import find_sources
from episodes.faults import unknown_name
from episodes.protocol import Split
from episodes.remote import local_folder

if TYPE_CHECKING:
    from episodes.reader import ImageReader


@dataclass(frozen=True)
class Command:
    """Decode and resize the images of whole splits once, so that reading them is a copy.

    A pack holds exactly the pixels of its image rule, to the last bit, and is read instead of
    the records wherever it lies beside them and they have not changed. An image takes
    12 · size² bytes under the rule `official`, 3 · size² under the others: at 84 pixels,
    ImageNet takes 109 GB or 27 GB. An interrupted packing goes on where it was.
    """

    records: Path
    """Folder with a folder of records per source."""
    size: int = 84
    """Side of the square images, in pixels."""
    sources: tuple[str, ...] = ()
    """Sources to pack; all that are in the records when none is named."""
    splits: tuple[str, ...] = ("train", "valid", "test")
    """Classes to pack: train, valid, test."""
    rule: str = "official"
    """How bytes become pixels: official, official_rounded or antialiased."""
    out: Path | None = None
    """Folder to write to, a folder per source; beside each source's records when not named."""
    jobs: int = min(os.cpu_count() or 1, 8)
    """Threads that decode."""


def run(command: Command, console: Console) -> int:
    """Pack split by split, and say what each came to."""
    from episodes.images import IMAGE_RULES
    from episodes.packing import pack_split
    from episodes.packs import pack_folder

    if command.rule not in IMAGE_RULES:
        raise unknown_name("image rule", command.rule, IMAGE_RULES)
    readers = _open(command)
    images = sum(sum(one.spec.images_in_split(one.split)) for one in readers)
    room = images * IMAGE_RULES[command.rule].image_bytes(command.size)
    console.print(
        f"{images:,} images of {command.size} pixels, rule {command.rule}: {room / 1e9:.2f} GB",
        highlight=False,
    )
    for reader in readers:
        name = f"{reader.spec.name} {reader.split}"
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(name)
            done = pack_split(
                reader.encoded,
                reader.split,
                reader.rule,
                reader.size,
                pack_folder(reader.spec, command.out),
                command.jobs,
                lambda now, total, bar=bar, task=task: bar.update(  # type: ignore[misc]
                    task, completed=now, total=total
                ),
            )
        console.print(
            f"{name}: {done.images:,} images, {done.bytes / 1e9:.2f} GB, "
            f"{done.packed:,} decoded now: {done.path}",
            highlight=False,
            soft_wrap=True,
        )
    return 0


def _open(command: Command) -> list["ImageReader"]:
    """Everything that is to be packed; faults of any source are found before the first starts."""
    from episodes.reader import ImageReader

    sources = list(dict.fromkeys(command.sources)) or find_sources(local_folder(command.records))
    readers = []
    for source in sources:
        for split in map(Split.parse, command.splits):
            reader = ImageReader(
                command.records, source, split, command.size, command.rule, command.out
            )
            if reader.spec.split_classes[split]:
                readers.append(reader)
    return readers
