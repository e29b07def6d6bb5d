"""Audit records: every fault of every source, found in one pass.

What is checked: names; the specification in itself, against its files and against what is known
of the benchmark; missing and surplus files; of every file the framing, the checksums, the number
of records and their labels; with `deep`, that every image decodes; and whether traffic signs lie
in the order in which they were filmed. A fault is an `InputError` that was not raised.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from episodes.audit import AuditedFile, FileAudit, ranges
from episodes.benchmark import BENCHMARK, compare
from episodes.faults import InputError
from episodes.folder import parse_own_source
from episodes.inventory import Inventory, take_inventory
from episodes.parallel import spread
from episodes.protocol import Split
from episodes.spec import holds_spec
from episodes.tfds import BUILDER, VERSION
from episodes.tracks import Order, combine


@dataclass(frozen=True)
class SourceAudit:
    """What is known of one source after its audit.

    Attributes:
        source: as it was asked for.
        layout: "records", "tfds" or "folder".
        classes: of train, valid and test; None without a specification.
        files: files (or folders of images) that were read.
        images: images that were found in them.
        faults: everything that is wrong.
        notes: what should be known, and is not wrong.
    """

    source: str
    layout: str
    classes: tuple[int, int, int] | None
    files: int
    images: int
    faults: tuple[InputError, ...]
    notes: tuple[str, ...]


def check(
    records: str | Path,
    sources: Sequence[str] = (),
    deep: bool = False,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[SourceAudit]:
    """Audit sources; nothing that is found in one keeps the others from being read.

    Args:
        records: the folder that holds a folder per source, in either layout.
        sources: names, or `name=folder` for own images; none means all that are there.
        deep: decode every image.
        jobs: processes that read. Each holds one record at a time (and 64 bytes per image of a
            class of traffic signs).
        progress: called with the work done and in all, in bytes of records and in own images.

    Returns:
        An audit per source.

    Raises:
        InputError: the folder is missing or holds no source, or a source is unknown.
    """
    records = Path(records)
    if not records.is_dir() and not all(map(parse_own_source, sources or [""])):
        raise InputError("there is no such folder.", records, "Check the path of the records.")
    names = list(dict.fromkeys(sources)) or find_sources(records)
    inventories = [take_inventory(records, source, deep) for source in names]
    owners = [(place, file) for place, one in enumerate(inventories) for file in one.files]
    owners.sort(key=lambda pair: -pair[1].size)  # the largest first, so that none is left alone
    total, done = sum(file.size for _, file in owners), 0
    audits: list[list[FileAudit]] = [[] for _ in inventories]
    if progress:
        progress(done, total)
    for place, audit in spread(_audit_file, [file for _, file in owners], jobs):
        owner, file = owners[place]
        audits[owner].append(audit)
        done += file.size
        if progress:
            progress(done, total)
    return [_conclude(*pair) for pair in zip(inventories, audits, strict=True)]


def _audit_file(file: AuditedFile) -> FileAudit:
    return file.audit()


def find_sources(records: Path) -> list[str]:
    """The sources in a folder: the benchmark's in their order, then others by name.

    Raises:
        InputError: there is no source in the folder.
    """
    if holds_spec(records):
        remedy = f"Give the folder above it: {records.resolve().parent}."
        raise InputError("is the folder of one source.", records, remedy)
    built = records / BUILDER if (records / BUILDER).is_dir() else records
    found = {path.parent.name for path in built.glob(f"*/{VERSION}*")}
    for path in filter(Path.is_dir, records.glob("[!.]*")):
        if path.name in BENCHMARK or holds_spec(path) or any(path.glob("*.tfrecords")):
            found.add(path.name)
    if not found:
        remedy = "Check the path of the records, or convert a source."
        raise InputError("there is no source in this folder.", records, remedy)
    return [*(name for name in BENCHMARK if name in found), *sorted(found - set(BENCHMARK))]


# ---- after the files are read ----------------------------------------------------------------


def _conclude(found: Inventory, audits: Sequence[FileAudit]) -> SourceAudit:
    faults, notes, spec = list(found.faults), list(found.notes), found.spec
    if spec is not None:
        small = [k for k, images in enumerate(spec.images_per_class) if images < 2]
        if small:
            what = f"classes of fewer than 2 images cannot be in an episode: {ranges(small)}."
            remedy = "Add images, or leave them out with min_examples_in_class in a protocol."
            faults.append(InputError(what, found.spec_file, remedy))
        fault, note = compare(spec, found.spec_file)
        faults += [fault] if fault else []
        notes += [note] if note else []
    faults += _check_order(found, [order for audit in audits for order in audit.orders])
    by_file = [fault for audit in audits for fault in audit.faults]
    faults += sorted(by_file, key=lambda fault: _natural(str(fault.where)))
    sizes = [len(spec.split_classes[split]) for split in Split] if spec else None
    return SourceAudit(
        source=found.source,
        layout=found.layout,
        classes=(sizes[0], sizes[1], sizes[2]) if sizes else None,
        files=len(audits),
        images=sum(audit.images for audit in audits),
        faults=tuple(faults),
        notes=tuple(notes),
    )


def _check_order(found: Inventory, orders: Sequence[tuple[int, Order]]) -> list[InputError]:
    """The fault of records in tracks: seen in all classes together, or in single ones."""
    whole = combine([order for _, order in orders])
    filmed = {label for label, order in orders if order.is_filmed}
    if whole is None or not (filmed or whole.is_filmed):
        return []
    return [
        InputError(
            f"the images lie in the order in which they were filmed: neighbours are "
            f"{whole.ratio:.0%} as far apart as in random order (classes that show it alone: "
            f"{ranges(filmed) or 'none'}). A reader that does not draw from whole files gives "
            f"results that are too good.",
            found.folder,
            "Convert the source again with a converter of November 2020 or later. Episodes drawn "
            "here are not affected: they draw from whole files.",
        )
    ]


def _natural(text: str) -> list[tuple[int, str]]:
    """Sort key by which file 10 follows file 9."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", text)]
