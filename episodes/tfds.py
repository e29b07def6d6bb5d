"""The records of a source as TensorFlow Datasets builds them, read without TensorFlow.

All classes of a source follow each other in one list of examples, cut into shards; `metadata.json`
says where each class starts and holds the official specification. A shard is a TFRecord file like
a class file, and is read as one. Source: facts of the official format, section 7.
"""

import hashlib
import json
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from episodes.faults import InputError
from episodes.plan import Integers
from episodes.protocol import Split
from episodes.records import Records
from episodes.spec import SourceSpec, parse_spec

BUILDER = "meta_dataset"
VERSION = "1.0.0"
TFDS_SPLIT = "all_classes"
INFO_FILE, METADATA_FILE = "dataset_info.json", "metadata.json"
REMEDY = "Build or copy this source again."

V2_OF = {"ilsvrc_2012_v2": "ilsvrc_2012"}
"""Sources that are the second version of a configuration and share its examples."""


@dataclass(frozen=True)
class TfdsLayout:
    """How the examples of a source lie in its shards.

    Attributes:
        folder: of the shards.
        spec: of the source.
        shard_starts: number of the first example of each shard, then of all examples.
        stored_labels: by class id, the label that its examples carry.
        class_starts: by stored label, the number of the class's first example, then of all.
    """

    folder: Path
    spec: SourceSpec
    shard_starts: tuple[int, ...]
    stored_labels: tuple[int, ...]
    class_starts: tuple[int, ...]

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.shard_starts) - 1

    def shard_file(self, shard: int) -> Path:
        """The TFRecord file of a shard."""
        number = f"{shard:05d}-of-{self.shards:05d}"
        return self.folder / f"{BUILDER}-{TFDS_SPLIT}.tfrecord-{number}"

    def shards_of(self, split: Split) -> range:
        """The shards that hold the examples of a split."""
        labels = [self.stored_labels[class_id] for class_id in self.spec.split_classes[split]]
        if not labels:
            return range(0)
        first, last = self.class_starts[min(labels)], self.class_starts[max(labels) + 1] - 1
        start, stop = np.searchsorted(self.shard_starts, [first, max(first, last)], side="right")
        return range(int(start) - 1, int(stop))

    def class_bytes(self, class_id: int) -> float:
        """Bytes of the examples of a class, each counted as the mean example of its shard."""
        label, total = self.stored_labels[class_id], 0.0
        first, last = self.class_starts[label], self.class_starts[label + 1]
        for shard, (start, stop) in enumerate(pairwise(self.shard_starts)):
            if (shared := min(stop, last) - max(start, first)) > 0:
                size = self.shard_file(shard).stat().st_size
                total += size * shared / (stop - start)
        return total


def find_tfds(records: Path, source: str) -> Path | None:
    """The folder of a source's shards below a data folder or its `meta_dataset`, if it is one.

    A build that was interrupted counts too, so that its absence can be told from no build.
    """
    for base in (records / BUILDER, records):
        folder = base / V2_OF.get(source, source)
        if any(folder.glob(f"{VERSION}*")):
            return folder / VERSION
    return None


def load_tfds(folder: Path, source: str) -> TfdsLayout:
    """Read the specification and the places of the examples of one source.

    Args:
        folder: of the shards, `…/meta_dataset/<configuration>/1.0.0`.
        source: `ilsvrc_2012_v2` asks for the second version of `ilsvrc_2012`: the same examples
            with the class ids of the converted v2 records, where all names are sorted.

    Raises:
        InputError: a file is missing or broken, or they contradict each other.
    """
    if not folder.is_dir():
        raise InputError("the build is not complete.", folder.parent, REMEDY)
    info, metadata = _read_json(folder / INFO_FILE), _read_json(folder / METADATA_FILE)
    try:
        splits = {one["name"]: one for one in info["splits"]}
        lengths = [int(length) for length in splits[TFDS_SPLIT]["shardLengths"]]
    except (KeyError, TypeError, ValueError) as error:
        what = f"does not give the lengths of the shards ({error!r})."
        raise InputError(what, folder / INFO_FILE, REMEDY) from error
    path = folder / METADATA_FILE
    try:
        spec, stored_labels = _specification(metadata, source, path)
        slices = {int(label): span for label, span in metadata["class_slices"].items()}
        spans = [(int(slices[k][0]), int(slices[k][1])) for k in range(len(spec.class_names))]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"has a missing or wrong entry ({error!r}).", path, REMEDY) from error
    if spec.name != source:
        raise InputError(f"describes the source '{spec.name}', not '{source}'.", path, REMEDY)
    layout = TfdsLayout(
        folder=folder,
        spec=spec,
        shard_starts=(0, *accumulate(lengths)),
        stored_labels=stored_labels,
        class_starts=(0, *(stop for _, stop in spans)),
    )
    _check_agreement(layout, spans, path)
    return layout


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"is not readable as JSON ({error}).", path, REMEDY) from error


def _specification(metadata: Any, source: str, path: Path) -> tuple[SourceSpec, tuple[int, ...]]:
    """The embedded specification, and by class id the label that examples carry."""
    if source not in V2_OF:
        spec = parse_spec(metadata["dataset_specs"]["v1"], path)
        return spec, tuple(range(len(spec.class_names)))
    raw = metadata["dataset_specs"]["v2"]
    # The embedded v2 specification keeps the class ids of v1; converted v2 records are
    # numbered by the rank of the class's name.
    labels = {name: int(label) for label, name in raw["class_names"].items()}
    names = sorted(labels)
    ranked = {str(rank): name for rank, name in enumerate(names)}
    spec = parse_spec(raw | {"name": source, "class_names": ranked}, path)
    return spec, tuple(labels[name] for name in names)


def _check_agreement(layout: TfdsLayout, spans: list[tuple[int, int]], path: Path) -> None:
    starts, spec = layout.class_starts, layout.spec
    if sorted(layout.stored_labels) != list(range(len(spans))) or spans != list(pairwise(starts)):
        raise InputError("has classes that do not follow each other.", path, REMEDY)
    for class_id, label in enumerate(layout.stored_labels):
        start, stop = spans[label]
        if stop - start != spec.images_per_class[class_id]:
            raise InputError(
                f"gives class {class_id} ({spec.class_names[class_id]}) {stop - start} examples, "
                f"but its specification says {spec.images_per_class[class_id]}.",
                path,
                REMEDY,
            )
    if layout.shard_starts[-1] != starts[-1]:
        raise InputError(
            f"the shards hold {layout.shard_starts[-1]} examples, but {path.name} says "
            f"{starts[-1]}.",
            layout.folder / INFO_FILE,
            REMEDY,
        )


@dataclass(frozen=True)
class _ShardSpec(SourceSpec):
    """The shards of a source in the place of class files."""

    paths: tuple[Path, ...] = ()

    def class_file(self, class_id: int) -> Path:
        return self.paths[class_id]


class TfdsRecords:
    """Random access to the encoded images of a source in the TFDS layout.

    Args:
        layout: where the examples lie.
        split: the split whose shards must all be there.

    Raises:
        InputError: shards are missing.
    """

    def __init__(self, layout: TfdsLayout, split: Split) -> None:
        self.spec, self.split, self._layout = layout.spec, split, layout
        self._class_ids = {label: k for k, label in enumerate(layout.stored_labels)}
        paths = tuple(layout.shard_file(shard) for shard in range(layout.shards))
        lengths = tuple(stop - start for start, stop in pairwise(layout.shard_starts))
        shards = _ShardSpec(
            name=self.spec.name,
            folder=layout.folder,
            class_names=tuple(path.name for path in paths),
            images_per_class=lengths,
            split_classes={split: layout.shards_of(split)},
            paths=paths,
        )
        self._shards = Records(shards, split)

    def expect(self, class_ids: Integers, images: Integers) -> None:
        """Nothing is done ahead."""

    def read(self, class_id: int, images: Integers) -> list[tuple[bytes, int | None]]:
        """Encoded image and class id of some images of one class.

        Raises:
            InputError: a shard is missing, truncated or damaged, or does not hold as many
                records as `dataset_info.json` says.
        """
        shards, places = self._places(class_id, images)
        found: list[tuple[bytes, int | None]] = [(b"", None)] * len(images)
        for shard in np.unique(shards):
            wanted = np.flatnonzero(shards == shard)
            examples = self._shards.read(int(shard), places[wanted])
            for position, (image, label) in zip(wanted, examples, strict=True):
                known = None if label is None else self._class_ids.get(label, label)
                found[position] = (image, known)
        return found

    def locate(self, class_id: int, image: int) -> str:
        """The shard and record of an image, for messages."""
        shards, places = self._places(class_id, np.asarray([image]))
        return self._shards.locate(int(shards[0]), int(places[0]))

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when the layout or a shard of the split does.

        Shards are told apart by size and time of modification.

        Raises:
            InputError: a file is missing.
        """
        digest = hashlib.sha256()
        try:
            for name in (INFO_FILE, METADATA_FILE):
                digest.update((self._layout.folder / name).read_bytes())
            for shard in self._layout.shards_of(self.split):
                size, time = self._shards.stamp(shard)
                digest.update(f"{size} {time}\n".encode())
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}.", error.filename) from error
        return digest.hexdigest()[:16]

    def _places(self, class_id: int, images: Integers) -> tuple[Integers, Integers]:
        """[n] shard of each image, and [n] its number there."""
        starts = np.asarray(self._layout.shard_starts)
        examples = self._layout.class_starts[self._layout.stored_labels[class_id]] + images
        shards = np.searchsorted(starts, examples, side="right") - 1
        return shards, examples - starts[shards]
