"""What of a conversion is finished, so that one that was killed goes on, and none is mixed.

While a conversion lasts, a journal in its folder says what is being converted and, line by line,
which files are finished. In the end `conversion.json` says the same, for ever. A folder that holds
anything else is never touched, unless the user forces it.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from episodes.convert.part import PARTS, Written
from episodes.faults import InputError
from episodes.records import INDEX_FOLDER
from episodes.spec import LEAF_COUNTS, SPEC_FILE
from episodes.tfrecord import replacing

JOURNAL = ".converting"
REPORT_FILE = "conversion.json"
VERIFIED = "verified.json"
"""Says that these records, as they are, were audited without a fault."""

FORCE = "Name another --records folder, or let --force remove what is there."
Identity = Mapping[str, str]


@dataclass
class Journal:
    """The finished files of one conversion.

    Attributes:
        folder: of the source's records.
        identity: what makes two conversions the same.
        done: name of a finished file → what is in it.
    """

    folder: Path
    identity: Identity
    done: dict[str, Written] = field(default_factory=dict)

    def begin(self) -> None:
        """Start to write: from here on the folder is no finished conversion."""
        (self.folder / SPEC_FILE).unlink(missing_ok=True)
        lines = [json.dumps(asdict(written)) for written in self.done.values()]
        with replacing(self.folder / JOURNAL) as temporary:
            header = json.dumps({"identity": self.identity})
            temporary.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")

    def add(self, written: Written) -> None:
        """Note a finished file."""
        self.done[written.file] = written
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(written)) + "\n")

    def report(
        self, files: Sequence[Written], skipped: Sequence[str], notes: Sequence[str]
    ) -> None:
        """Say for ever what was converted, and how."""
        content = {"identity": self.identity, "notes": notes, "skipped": skipped}
        write_json(self.folder / REPORT_FILE, content | {"files": [asdict(one) for one in files]})

    def read_report(self) -> Any:
        """What `report` wrote."""
        return json.loads((self.folder / REPORT_FILE).read_text(encoding="utf-8"))

    def finish(self, specification: Mapping[str, Any]) -> None:
        """Write the specification, by which the folder becomes a finished conversion."""
        write_json(self.folder / SPEC_FILE, specification)
        _tidy(self.folder)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file as the official code does, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def opening_journal(folder: Path, identity: Identity, force: bool) -> Iterator[Journal]:
    """The journal of a conversion into a folder, which is ours alone meanwhile.

    Args:
        folder: of the source's records; is made.
        identity: of the conversion.
        force: remove what another conversion left.

    Raises:
        InputError: the folder holds another conversion, or another process is writing there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield _resume(folder, identity, force)
    except BlockingIOError:
        what = "another process is converting into this folder."
        raise InputError(what, folder, "Wait for it.") from None
    finally:
        os.close(handle)
        if (folder / JOURNAL).exists():
            sweep(folder)


def _resume(folder: Path, identity: Identity, force: bool) -> Journal:
    found, entries = _read_journal(folder)
    if force and found != identity:
        _clear(folder)
        entries = []
    elif found != identity and (found is not None or _holds_records(folder)):
        raise _foreign(folder, found, identity)
    sweep(folder)
    if (folder / SPEC_FILE).exists():
        _tidy(folder)  # it was killed when it had just become finished
    journal = Journal(folder, identity)
    for entry in entries:
        path = folder / entry.file
        if path.is_file() and path.stat().st_size == entry.bytes:
            journal.done[entry.file] = entry
    return journal


def _read_journal(folder: Path) -> tuple[Identity | None, list[Written]]:
    """What was converted here, and its finished files; a line that was cut off is no line."""
    entries: list[Any] = []
    try:
        first, *lines = (folder / JOURNAL).read_text(encoding="utf-8").splitlines()
        identity = json.loads(first)["identity"]
        entries = [json.loads(line) for line in lines if line.endswith("}")]
    except (OSError, ValueError, KeyError, TypeError):
        try:
            report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
            identity, entries = report["identity"], report["files"]
        except (OSError, ValueError, KeyError, TypeError):
            return None, []
    try:
        return dict(identity), [Written.parse(entry) for entry in entries]
    except (TypeError, ValueError, KeyError):
        return None, []


def _holds_records(folder: Path) -> bool:
    return (folder / SPEC_FILE).exists() or any(folder.glob("*.tfrecords"))


def _foreign(folder: Path, found: Identity | None, identity: Identity) -> InputError:
    if found is None:
        return InputError("holds records that were not converted here.", folder, FORCE)
    different = [key for key, value in identity.items() if found.get(key) != value]
    what = f"holds another conversion of this source: other {', '.join(different)}."
    return InputError(what, folder, FORCE)


def _tidy(folder: Path) -> None:
    """Remove what a finished conversion needs no longer."""
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    (folder / JOURNAL).unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what a killed process was writing."""
    for place in (folder, folder / PARTS):
        for path in place.glob(".writing-*"):
            path.unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    """Remove what a conversion writes, the specification first, and nothing else."""
    for name in (SPEC_FILE, REPORT_FILE, JOURNAL, LEAF_COUNTS, VERIFIED):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("*.tfrecords"):
        path.unlink()
    for name in (PARTS, INDEX_FOLDER):
        shutil.rmtree(folder / name, ignore_errors=True)
