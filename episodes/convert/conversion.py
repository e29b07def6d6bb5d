"""Convert one source: raw data in, records and specification out.

The folder of a source is finished when it holds `dataset_spec.json`, which is written last. Class
files appear under their names when they are whole. The bytes of all depend on the raw data and on
Pillow's version alone, not on the number of processes nor on interruptions.
"""

import hashlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from episodes.benchmark import compare
from episodes.convert.class_images import ClassImages
from episodes.convert.encoding import pillow_version
from episodes.convert.journal import Journal, opening_journal, sweep, write_json
from episodes.convert.part import Part, Written
from episodes.convert.source import RawSource
from episodes.convert.splits import (
    ClassNames,
    as_json,
    in_order,
    read_splits,
    splits_file,
    write_splits,
)
from episodes.faults import InputError, writing
from episodes.parallel import spread
from episodes.spec import FILE_PATTERN, SPEC_FILE, load_spec
from episodes.tfrecord import encode_example, write_records

CONVERTER_VERSION = "1"
"""Rises with any change that moves a byte of the records."""
GO_ON = "name another --records; the same command goes on with what is finished"
SPLITS_FOLDER = "splits"
Progress = Callable[[int, int, int], None]
"""Takes images done, images in all (both as far as is known beforehand) and images written now."""


@dataclass(frozen=True)
class Conversion:
    """What converting a source came to.

    Attributes:
        source: its name.
        folder: of its records.
        classes, images, bytes: in them.
        written: images that were written now; the others were there.
        skipped: images that were left out because they cannot be read, and why.
        notes: what the user should know.
        fault: where the result claims to be the benchmark's and is not.
    """

    source: str
    folder: Path
    classes: int
    images: int
    bytes: int
    written: int
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    fault: InputError | None


@dataclass(frozen=True)
class ClassFile:
    """A class file to be written."""

    class_id: int
    images: ClassImages

    @property
    def file(self) -> str:
        """Its name in the folder of the source."""
        return FILE_PATTERN.format(self.class_id)

    def __len__(self) -> int:
        return len(self.images)

    def write(self, folder: Path) -> Written:
        """Write it, atomically, into the folder of the source."""
        skipped: list[str] = []
        encoded = self.images.encoded(skipped.append)
        examples = (encode_example(image, self.class_id) for image in encoded)
        count = write_records(folder / self.file, examples)
        return Written(self.file, count, (folder / self.file).stat().st_size, tuple(skipped))


def choose_splits(source: RawSource, own: Path | None) -> tuple[ClassNames, list[str]]:
    """The split of a source, and what the user should know of it.

    The user's file counts first, then one that lies beside the records, as for the official
    converters. Where the split follows from the hierarchy, there is only the official one.

    Args:
        source: the raw data.
        own: a file of splits, or a folder of them.

    Raises:
        InputError: the raw data or the file are broken, or not to be had together.
    """
    chosen, notes = own, []
    if own is not None and own.is_dir():
        named = splits_file(own, source.name)
        chosen = named if named.exists() else None
        if chosen is None and not source.splits_are_fixed:
            notes = [f"{own} has no {named.name}."]
    beside = splits_file(source.output.parent / SPLITS_FOLDER, source.name)
    may_be_beside = any(source.sizes) and not source.splits_are_fixed
    if chosen is None and may_be_beside and beside.exists():
        chosen = beside
    if chosen is None:
        return source.splits(), notes
    names = source.class_names()
    splits = read_splits(chosen, names)
    is_whole = source.splits_are_fixed or len(names) == sum(source.sizes)
    if is_whole and splits == source.splits():
        return splits, notes
    if source.splits_are_fixed:
        what = f"the split of {source.name} follows from its hierarchy, and this is another."
        raise InputError(what, chosen, "Leave --splits away for this source.")
    left = len(names) - len(in_order(splits))
    text = f"the splits are those of {chosen}"
    return splits, [*notes, f"{text}, which leaves {left} classes out." if left else f"{text}."]


def convert(
    source: RawSource,
    own_splits: Path | None = None,
    jobs: int = 1,
    force: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a source, or what an earlier, interrupted conversion left of it.

    Args:
        source: the raw data, and the folder that the records go to.
        own_splits: a file of splits, or a folder of them.
        jobs: processes that convert. Each holds one image at a time.
        force: remove the records of another conversion.
        progress: see `Progress`.

    Raises:
        InputError: raw data are missing or broken, there is no room, or the folder holds another
            conversion. What is finished is kept.
    """
    splits, notes = choose_splits(source, own_splits)
    images = source.images(splits)
    names = in_order(splits)
    empty = [name for name, some in zip(names, images, strict=True) if not len(some)]
    if empty:
        what = f"{len(empty)} classes of {source.name} have no images: {', '.join(empty[:5])}."
        raise InputError(what, source.raw.path, "Download or extract them again.")
    folder = source.output
    identity = {
        "source": source.name,
        "converter": CONVERTER_VERSION,
        "splits": _digest([as_json(splits)]),
        "images": _digest(some.describe() for some in images),
        "encoder": pillow_version(),
    }
    files: list[Part] = [ClassFile(k, some) for k, some in enumerate(images)]
    with writing(folder, GO_ON, "the records"), opening_journal(folder, identity, force) as journal:
        pending = [k for k, one in enumerate(files) if one.file not in journal.done]
        written = 0
        if pending or not (folder / SPEC_FILE).exists():
            _check_room(source, splits, [images[k] for k in pending])
            journal.begin()
            written = _write_all(source, splits, journal, files, jobs, progress)
            _finish(source, splits, journal, files, notes + source.notes())
        report = journal.read_report()
    fault, note = compare(load_spec(folder), folder / SPEC_FILE)
    return Conversion(
        source=source.name,
        folder=folder,
        classes=len(names),
        images=sum(one["records"] for one in report["files"]),
        bytes=sum(one["bytes"] for one in report["files"]),
        written=written,
        skipped=tuple(report["skipped"]),
        notes=(*report["notes"], *([note] if note else [])),
        fault=fault,
    )


def _digest(texts: Iterator[str] | Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]


def _check_room(source: RawSource, splits: ClassNames, images: Sequence[ClassImages]) -> None:
    folder = source.output
    needed, free = source.expected_bytes(images, splits), shutil.disk_usage(folder).free
    if needed > free:
        what = f"{source.name} needs about {_size(needed)}, and {_size(free)} are free."
        raise InputError(what, folder, "Free some space, or name another --records folder.")


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _write_all(
    source: RawSource,
    splits: ClassNames,
    journal: Journal,
    files: Sequence[Part],
    jobs: int,
    progress: Progress | None,
) -> int:
    """Write what is not finished; returns the number of images written in class files."""
    missing = [one for one in files if one.file not in journal.done]
    parts = source.parts(splits) if missing else ()
    total = sum(map(len, files)) + sum(map(len, parts))
    done = written = 0
    for stage in (parts, files):
        done += sum(len(one) for one in stage if one.file in journal.done)
        pending = [one for one in stage if one.file not in journal.done]
        pending.sort(key=lambda one: -len(one))  # the largest first, so that none is left alone
        if progress:
            progress(done, total, written)
        for place, finished in spread(_write, [(one, journal.folder) for one in pending], jobs):
            journal.add(finished)
            done += len(pending[place])
            written += finished.records
            if progress:
                progress(done, total, written)
    return written


def _write(task: tuple[Part, Path]) -> Written:
    part, folder = task
    with writing(folder, GO_ON, "the records"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow's, about odd files that it can read
        return part.write(folder)


def _finish(
    source: RawSource,
    splits: ClassNames,
    journal: Journal,
    files: Sequence[Part],
    notes: Sequence[str],
) -> None:
    """Write what lies beside the class files, the specification last."""
    done = [journal.done[one.file] for one in files]
    counts = {class_id: written.records for class_id, written in enumerate(done)}
    lost = [in_order(splits)[class_id] for class_id, records in counts.items() if not records]
    if lost:
        what = f"no image could be read of these classes: {', '.join(lost[:5])}."
        raise InputError(what, source.raw.path, "Download them again.")
    sweep(journal.folder)
    write_splits(journal.folder.parent / SPLITS_FOLDER, source.name, splits)
    for name, content in source.companions(splits, counts).items():
        write_json(journal.folder / name, content)
    skipped = [text for one in journal.done.values() for text in one.skipped]
    journal.report(done, sorted(skipped), notes)
    journal.finish(source.specification(splits, counts))
