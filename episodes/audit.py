"""One file of a source, read from its first byte to its last; every fault is collected.

A fault is an `InputError` that was not raised.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from episodes.example import decode_example
from episodes.faults import InputError
from episodes.folder import ClassFolder, is_image
from episodes.images import Pixels, decode
from episodes.tfrecord import walk_payloads
from episodes.tracks import Order, measure_order, thumbnail

RECORDS_REMEDY = "Convert or copy this file again."
IMAGES_REMEDY = "Replace or remove these images."
RANGES_AT_MOST = 20


def ranges(numbers: Iterable[int], at_most: int | None = None) -> str:
    """Sorted numbers as text, runs joined: "0–2, 5"; at most so many runs."""
    ordered = sorted(numbers)
    runs = []
    for _, run in groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        runs.append(f"{members[0]}–{members[-1]}" if len(members) > 1 else f"{members[0]}")
    shown = runs if at_most is None else runs[:at_most]
    return ", ".join(shown) + (", …" if len(shown) < len(runs) else "")


@dataclass(frozen=True)
class FileAudit:
    """What was found in one file.

    Attributes:
        images: records or image files that are there.
        faults: all of them.
        orders: of the classes whose order was asked for.
    """

    images: int
    faults: tuple[InputError, ...]
    orders: tuple[tuple[int, Order], ...] = ()


@dataclass(frozen=True)
class RecordFile:
    """A TFRecord file that shall be read: a class file, or a shard with many classes.

    Attributes:
        path, size: the file and its bytes.
        says: the file that says how many records it holds.
        records: how many, if that is known.
        labels: labels that the records carry, in order; empty if unknown.
        starts: number of the first record with each label.
        decodes: decode every image.
        measures_order: compare the order of each class's records with random ones.
    """

    path: Path
    size: int
    says: str
    records: int | None
    labels: tuple[int, ...]
    starts: tuple[int, ...]
    decodes: bool = False
    measures_order: bool = False

    def label_of(self, record: int) -> int | None:
        """The label that a record must carry, if that is known."""
        if not self.labels:
            return None
        return self.labels[int(np.searchsorted(self.starts, record, side="right")) - 1]

    def audit(self) -> FileAudit:
        """Read the file: framing, checksums, number of records, labels, and what is asked for."""
        found = _Findings(self.path)
        faults, count = [], 0
        try:
            for payload in walk_payloads(self.path):
                self._audit_record(count, payload, found)
                count += 1
        except InputError as error:
            faults.append(error)
        if not faults and self.records is not None and count != self.records:
            what = f"holds {count} records, but {self.says} says {self.records}."
            faults.append(InputError(what, self.path, RECORDS_REMEDY))
        return FileAudit(count, (*faults, *found.faults(count, RECORDS_REMEDY)), found.orders())

    def _audit_record(self, record: int, payload: bytes | None, found: "_Findings") -> None:
        if payload is None:
            found.note("the content fails its checksum", record)
            return
        try:
            image, label = decode_example(payload, self.path, record)
        except InputError:
            found.note("there is no Example with an `image`", record)
            return
        wanted = self.label_of(record)
        if label is None:
            found.note("there is no label", record)
        elif wanted is not None and label != wanted:
            found.note(f"the label is {label}, not {wanted},", record)
        if self.decodes or self.measures_order:
            pixels = found.decode("the image does not decode", record, image)
            if self.measures_order and pixels is not None:
                found.thumbnails[-1 if wanted is None else wanted].append(thumbnail(pixels))


@dataclass(frozen=True)
class ImageFolder:
    """A class folder of image files that shall be read.

    Attributes:
        folder: its images.
        decodes: decode every image; otherwise only its first bytes are looked at.
    """

    folder: ClassFolder
    decodes: bool = False

    @property
    def size(self) -> int:
        """Stands for bytes, which are not known without asking for each file."""
        return self.folder.images

    def audit(self) -> FileAudit:
        """Look at every image."""
        found = _Findings(self.folder.path)
        for image in range(self.folder.images):
            path = self.folder.image_file(image)
            try:
                with path.open("rb") as file:
                    content = file.read(-1 if self.decodes else 8)
            except OSError as error:
                found.note(f"the file cannot be read ({error.strerror})", image)
                continue
            if not is_image(content):
                found.note("the content is neither JPEG, PNG, GIF nor BMP", image)
            elif self.decodes:
                found.decode("the image does not decode", image, content)
        return FileAudit(
            self.folder.images, tuple(found.faults(self.folder.images, IMAGES_REMEDY, self._names))
        )

    def _names(self, images: list[int]) -> str:
        return ", ".join(self.folder.image_file(image).name for image in images)


AuditedFile = RecordFile | ImageFolder


@dataclass
class _Findings:
    """Faults of single images, by kind: a thousand of a kind are one fault of their file."""

    path: Path
    kinds: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    thumbnails: dict[int, list[Pixels]] = field(default_factory=lambda: defaultdict(list))

    def note(self, kind: str, number: int) -> None:
        self.kinds[kind].append(number)

    def decode(self, kind: str, number: int, image: bytes) -> Pixels | None:
        try:
            return decode(image)
        except ValueError:
            self.note(kind, number)
            return None

    def faults(
        self, of: int, remedy: str, describe: Callable[[list[int]], str] | None = None
    ) -> list[InputError]:
        describe = describe or (lambda numbers: ranges(numbers, RANGES_AT_MOST))
        return [
            InputError(
                f"{kind} in {len(numbers)} of {of} images: {describe(numbers)}.", self.path, remedy
            )
            for kind, numbers in self.kinds.items()
        ]

    def orders(self) -> tuple[tuple[int, Order], ...]:
        measured = ((k, measure_order(np.stack(v))) for k, v in self.thumbnails.items())
        return tuple((label, order) for label, order in measured if order is not None)
