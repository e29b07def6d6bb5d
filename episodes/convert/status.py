"""What there is of every source: raw data, records, their audit, packs. Nothing is downloaded."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from episodes.benchmark import BENCHMARK, compare
from episodes.convert import CONVERTERS, open_raw
from episodes.convert.journal import JOURNAL, VERIFIED, write_json
from episodes.convert.origin import Download, Origin
from episodes.convert.source import Options, has_content
from episodes.convert.tree import RawData
from episodes.faults import InputError
from episodes.packs import Pack, pack_folder, plan_pack
from episodes.protocol import Split
from episodes.records import Records
from episodes.spec import SPEC_FILE, SourceSpec, load_spec


@dataclass(frozen=True)
class SourceStatus:
    """What there is of one source.

    Attributes:
        source: its name.
        origin: where its raw data officially come from.
        found: for every download, the folder or archive that has it; None where there is none.
        records: in words: "none", "unfinished", "complete", "partial", "converted" (where nothing
            is known to compare with), or what is wrong.
        images: in the records.
        verified: whether the records, as they are now, were audited without a fault.
        packs: names of the packs beside the records; "(stale)" where they are of other records.
    """

    source: str
    origin: Origin
    found: tuple[tuple[Download, Path | None], ...]
    records: str
    images: int
    verified: bool
    packs: tuple[str, ...]


def take_status(
    raw: Path | None, records: Path | None, sources: Sequence[str] = ()
) -> list[SourceStatus]:
    """What there is of sources.

    Args:
        raw: where raw data are looked for; archives are told by their names, and not opened.
        records: folder of all records.
        sources: names; none means all that can be converted.

    Raises:
        InputError: a folder is missing, or a source is unknown.
    """
    data = RawData(raw) if raw is not None else None
    if records is not None and not records.is_dir():
        raise InputError("there is no such folder.", records, "Check the path of the records.")
    return [_status(name, data, records) for name in sources or CONVERTERS]


def _status(source: str, raw: RawData | None, records: Path | None) -> SourceStatus:
    origin = open_raw(source, Path(), Path(), Options()).origin
    found = tuple((one, _place(one, raw) if raw else None) for one in origin.downloads)
    folder = records / source if records else None
    if folder is None or not folder.is_dir():
        return SourceStatus(source, origin, found, "none", 0, False, ())
    if not (folder / SPEC_FILE).exists():
        state = "unfinished" if (folder / JOURNAL).exists() else "none"
        return SourceStatus(source, origin, found, state, 0, False, ())
    try:
        spec = load_spec(folder)
    except InputError as error:
        return SourceStatus(source, origin, found, error.what, 0, False, ())
    images = sum(spec.images_per_class)
    verified, packs = is_verified(spec), tuple(_packs(spec))
    return SourceStatus(source, origin, found, _compare(spec), images, verified, packs)


def _place(download: Download, raw: RawData) -> Path | None:
    """The folder on disk that has the content of a download, or an archive named like it."""
    for folder in raw.folders:
        if has_content(download, folder):
            return Path(folder.where)
    return next(iter(raw.archives(download.archives)), None)


def _packs(spec: SourceSpec) -> Iterator[str]:
    """The packs beside the records, by their names; those of other records are stale."""
    for path in sorted(pack_folder(spec, None).glob("*.pack")):
        split, _, rest = path.stem.partition("-")
        rule, _, size = rest.rpartition("-")
        try:
            encoded = Records(spec, Split(split))
            Pack(path, plan_pack(encoded, Split(split), rule, int(size)))
            yield path.stem
        except (InputError, ValueError, KeyError):
            yield f"{path.stem} (stale)"


def _compare(spec: SourceSpec) -> str:
    present = {path.name for path in spec.folder.glob("*.tfrecords")}
    missing = sum(
        spec.class_file(class_id).name not in present for class_id in range(len(spec.class_names))
    )
    if missing:
        return f"{missing} class files are missing"
    fault, note = compare(spec, spec.folder / SPEC_FILE)
    if fault:
        return "not the benchmark's (check tells more)"
    if spec.name not in BENCHMARK:
        return "converted"
    return "partial" if note else "complete"


# ---- verified --------------------------------------------------------------------------------


def _fingerprint(spec: SourceSpec) -> str:
    """Changes with the specification, and with the size or time of any class file."""
    digest = hashlib.sha256((spec.folder / SPEC_FILE).read_bytes())
    for class_id in range(len(spec.class_names)):
        stamp = spec.class_file(class_id).stat()
        digest.update(f"{stamp.st_size} {stamp.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def note_verified(folder: Path) -> None:
    """Say in the folder of a source that its records, as they are, have no fault."""
    write_json(folder / VERIFIED, {"fingerprint": _fingerprint(load_spec(folder))})


def is_verified(spec: SourceSpec) -> bool:
    """Whether the records are still those that were audited without a fault."""
    try:
        said = json.loads((spec.folder / VERIFIED).read_text(encoding="utf-8"))
        return bool(said["fingerprint"] == _fingerprint(spec))
    except (OSError, ValueError, KeyError, TypeError):
        return False
