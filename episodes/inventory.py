"""What there is of a source before its files are read, and which files shall be read."""

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from episodes.audit import AuditedFile, ImageFolder, RecordFile, ranges
from episodes.benchmark import BENCHMARK
from episodes.faults import InputError, unknown_name
from episodes.folder import SPLITS_FILE, arrange, list_folder, parse_own_source
from episodes.protocol import SOURCES
from episodes.source import find_layout
from episodes.spec import LEAF_COUNTS, REMEDY, SPEC_FILE, DagSpec, SourceSpec, holds_spec, load_spec
from episodes.tfds import INFO_FILE, METADATA_FILE, VERSION, TfdsLayout, load_tfds

CLASS_FILE = re.compile(r"(0|[1-9][0-9]*)\.tfrecords")
FILMED = "traffic_sign"
"""The source whose images come as tracks of one physical object."""
COPY = "Finish the conversion or the copy of this source."


@dataclass
class Inventory:
    """A source before its files are read.

    Attributes:
        source: as it was asked for.
        layout: "records", "tfds" or "folder".
        folder: where it lies.
        spec: None where it is missing or broken.
        files: what shall be read.
        faults, notes: found so far.
    """

    source: str
    layout: str
    folder: Path
    spec: SourceSpec | None = None
    files: list[AuditedFile] = field(default_factory=list)
    faults: list[InputError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def spec_file(self) -> Path:
        """The file that holds the specification."""
        names = {"records": SPEC_FILE, "tfds": METADATA_FILE, "folder": SPLITS_FILE}
        return self.folder / names[self.layout]

    def attempt(self, step: Callable[[], None]) -> None:
        """Keep the fault of a step, and go on."""
        try:
            step()
        except InputError as error:
            self.faults.append(error)


def take_inventory(records: Path, source: str, deep: bool) -> Inventory:
    """List the files of a source, read its specification and hold the two against each other.

    Args:
        records: the folder that holds a folder per source, in either layout.
        source: a name, or `name=folder` for own images.
        deep: whether every image shall be decoded.

    Raises:
        InputError: nothing of this name is known.
    """
    own = parse_own_source(source)
    if own is not None:
        return _inventory_of_images(source, *own, deep)
    layout = find_layout(records, source)
    if layout is not None:
        return _inventory_of_tfds(source, layout, deep)
    if not (records / source).is_dir() and source not in BENCHMARK:
        raise unknown_name("source", source, [*SOURCES, "ilsvrc_2012_v2"])
    return _inventory_of_records(source, records / source, deep)


def _inventory_of_records(source: str, folder: Path, deep: bool) -> Inventory:
    found = Inventory(source, "records", folder)

    def read_specification() -> None:
        if folder.is_dir() and not holds_spec(folder):
            what = f"holds no {SPEC_FILE}, which is written last: the conversion was interrupted."
            raise InputError(what, folder, COPY)
        spec = found.spec = load_spec(folder)
        if spec.name != folder.name:
            what = f"holds the source '{spec.name}', not '{folder.name}'."
            found.faults.append(InputError(what, folder, f"Name the folder '{spec.name}'."))
        if isinstance(spec, DagSpec):
            found.faults += _check_graphs(spec)

    found.attempt(read_specification)
    entries = _entries(found)
    present = {int(m[1]): e for name, e in entries.items() if (m := CLASS_FILE.fullmatch(name))}
    known, spec = BENCHMARK.get(source), found.spec
    classes = len(spec.class_names) if spec else None
    if classes is not None and set(range(classes)) - set(present):
        missing = set(range(classes)) - set(present)
        what = f"class files are missing, {len(missing)} of {classes}: {ranges(missing)}."
        found.faults.append(InputError(what, folder, COPY))
    if spec is None and known is not None:
        missing = set(range(known.classes)) - set(present)
        text = f"of the benchmark's {known.classes} class files, these are missing: "
        found.notes.append(text + (ranges(missing) or "none") + ".")
    _report_surplus(found, [name for name in entries if _belongs_to_no_class(name, classes)])
    found.files = [
        RecordFile(
            path=Path(entry.path),
            size=_size(entry),
            says=SPEC_FILE,
            records=spec.images_per_class[class_id] if spec else None,
            labels=(class_id,),
            starts=(0,),
            decodes=deep,
            measures_order=source == FILMED,
        )
        for class_id, entry in sorted(present.items())
        if classes is None or class_id < classes
    ]
    return found


def _inventory_of_tfds(source: str, folder: Path, deep: bool) -> Inventory:
    found = Inventory(source, "tfds", folder)
    layouts: list[TfdsLayout] = []
    found.attempt(lambda: layouts.append(load_tfds(folder, source)))
    entries = {name: e for name, e in _entries(found).items() if "tfrecord" in name}
    expected: dict[str, RecordFile] = {}
    for layout in layouts:
        found.spec = layout.spec
        expected = {file.path.name: file for file in _shards(layout, source, deep)}
        missing = sorted(set(expected) - set(entries))
        if missing:
            what = f"shards are missing, {len(missing)} of {len(expected)}: {', '.join(missing)}."
            found.faults.append(InputError(what, folder, COPY))
        _report_surplus(found, sorted(set(entries) - set(expected)))
    found.files = [
        expected.get(name, RecordFile(Path(e.path), _size(e), INFO_FILE, None, (), (), deep))
        for name, e in sorted(entries.items())
    ]
    for left in sorted(folder.parent.glob(f"{VERSION}.incomplete*")):
        remedy = "Remove it, after finishing the build."
        found.faults.append(InputError("is left from an interrupted build.", left, remedy))
    return found


def _shards(layout: TfdsLayout, source: str, deep: bool) -> Iterable[RecordFile]:
    classes = list(enumerate(pairwise(layout.class_starts)))
    for shard, (first, last) in enumerate(pairwise(layout.shard_starts)):
        inside = [
            (label, start) for label, (start, stop) in classes if start < last and stop > first
        ]
        path = layout.shard_file(shard)
        yield RecordFile(
            path=path,
            size=path.stat().st_size if path.exists() else 0,
            says=INFO_FILE,
            records=last - first,
            labels=tuple(label for label, _ in inside),
            starts=tuple(max(start - first, 0) for _, start in inside),
            decodes=deep,
            measures_order=source == FILMED,
        )


def _inventory_of_images(source: str, name: str, folder: Path, deep: bool) -> Inventory:
    found = Inventory(source, "folder", folder)

    def list_images() -> None:
        listed, faults = list_folder(folder)
        found.faults += faults
        found.files = [ImageFolder(one, deep) for one in listed]
        if not faults:
            found.spec, _ = arrange(name, folder, listed)

    found.attempt(list_images)
    return found


def _entries(found: Inventory) -> dict[str, os.DirEntry[str]]:
    try:
        with os.scandir(found.folder) as entries:
            return {entry.name: entry for entry in entries}
    except OSError as error:
        if found.folder.exists():
            what = f"the folder cannot be listed: {error.strerror}."
            found.faults.append(InputError(what, found.folder, "Correct its permissions."))
        return {}


def _belongs_to_no_class(name: str, classes: int | None) -> bool:
    match = CLASS_FILE.fullmatch(name)
    if match:
        return classes is not None and int(match[1]) >= classes
    return name.startswith(".writing-") or "tfrecord" in name


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0  # reading it gives the fault


def _report_surplus(found: Inventory, names: Sequence[str]) -> None:
    if names:
        what = f"these files belong to no class: {', '.join(sorted(names))}."
        remedy = "Remove them: an interrupted or another conversion left them."
        found.faults.append(InputError(what, found.folder, remedy))


def _check_graphs(spec: DagSpec) -> list[InputError]:
    """The redundant entries of a hierarchy: counts of inner nodes, parents, cached counts."""
    path = spec.folder / SPEC_FILE
    raw = json.loads(path.read_text(encoding="utf-8"))
    images = dict(zip(spec.class_names, spec.images_per_class, strict=True))
    wrong = []
    for split, graph in spec.ontology.items():
        counts = raw["images_per_class"][split.name]
        spans = graph.spanned_leaves
        wrong += [n for n in spans if counts.get(n) != sum(images[leaf] for leaf in spans[n])]
        pairs = {(node, child) for node, below in graph.children.items() for child in below}
        nodes = raw["split_subgraphs"][split.name]
        above = {(up, node["wn_id"]) for node in nodes for up in node["parents_ids"]}
        wrong += [f"{up}–{down}" for up, down in sorted(pairs ^ above)]
    faults = []
    if wrong:
        what = f"the images or parents of these nodes are wrong: {', '.join(wrong)}."
        faults.append(InputError(what, path, REMEDY))
    cache = spec.folder / LEAF_COUNTS
    if cache.exists() and _read_counts(cache) != images:
        remedy = "Remove it: a conversion would trust it."
        faults.append(InputError(f"does not agree with {SPEC_FILE}.", cache, remedy))
    return faults


def _read_counts(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
