"""Plans in a file: the exact episodes of an evaluation, to publish, to check and to use again.

A file holds episodes 0, 1, … of one split of one source, one row each, as Parquet. Every source
has a file of its own: it can then be made, checked, sent and replaced alone, and what it was
drawn from (protocol, seed, specification) is one record and not one per row. Nothing in it is
executed or unpickled; every row carries its plan's hash, and the file the hash of all.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from episodes.faults import InputError, writing
from episodes.plan import EpisodePlan, Integers, hash_plans
from episodes.protocol import EpisodeProtocol, Split, find_protocol, parse_protocol
from episodes.sampling import EpisodeSampler
from episodes.spec import SourceSpec
from episodes.tfrecord import replacing

FORMAT = 1
HEADER = b"run_meta_dataset.plans"
"""Key of the header, a JSON object, among the file's metadata."""
PARTS = ("class_ids", "support_labels", "support_images", "query_labels", "query_images")
"""The arrays of a plan, each a column of lists."""
REMEDY = "Copy the file again from where it was published, or write it again."

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class PlanFile:
    """The content of a plan file.

    Attributes:
        source, split, protocol, seed: what the episodes were drawn from.
        spec_fingerprint: of the source's specification (`SourceSpec.fingerprint`).
        plans: episodes 0, 1, … in order.
        path: the file, for error messages.
    """

    source: str
    split: Split
    protocol: EpisodeProtocol
    seed: int
    spec_fingerprint: str
    plans: tuple[EpisodePlan, ...]
    path: Path | None = None

    @cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits: equal for two people with the same records."""
        return hash_plans(self.plans)

    def __len__(self) -> int:
        return len(self.plans)

    def plan(self, index: int) -> EpisodePlan:
        """The stored episode of this number.

        Raises:
            InputError: the file holds fewer episodes.
        """
        if not 0 <= index < len(self.plans):
            raise InputError(
                f"holds {len(self.plans)} episodes; number {index} is not among them.",
                self.path,
                "Ask for fewer episodes, or use a longer plan file.",
            )
        return self.plans[index]

    def expect(
        self,
        source: str | None = None,
        split: Split | str | None = None,
        protocol: EpisodeProtocol | str | None = None,
    ) -> "PlanFile":
        """This file, if it holds what is expected of it; None expects nothing.

        Raises:
            InputError: it holds episodes of another source, split or protocol.
        """
        remedy = "Give the plan file of what is to be evaluated."
        if source is not None and source != self.source:
            what = f"holds episodes of {self.source}, not of {source}."
            raise InputError(what, self.path, remedy)
        if split is not None and Split.parse(split) is not self.split:
            what = f"holds episodes of the {self.split} split, not of {Split.parse(split)}."
            raise InputError(what, self.path, remedy)
        if protocol is not None and find_protocol(protocol).hash != self.protocol.hash:
            wanted = find_protocol(protocol)
            raise InputError(
                f"was drawn by protocol {self.protocol.name} ({self.protocol.hash}), "
                f"not by {wanted.name} ({wanted.hash}).",
                self.path,
                remedy,
            )
        return self

    def check(self, spec: SourceSpec) -> None:
        """Whether these are episodes of this source, whose every image exists.

        Raises:
            InputError: the file was made from another specification, or a plan names a class or
                an image that is not there, or is not an episode at all.
        """
        self.expect(source=spec.name)
        if self.spec_fingerprint != spec.fingerprint:
            raise InputError(
                f"was made from a dataset_spec.json of {spec.name} with fingerprint "
                f"{self.spec_fingerprint}; that in {spec.folder} has {spec.fingerprint}.",
                self.path,
                "Use the records the plans were made from, or write plans for these.",
            )
        for plan in self.plans:
            fault = find_fault(plan, spec)
            if fault:
                raise InputError(f"episode {plan.index} {fault}.", self.path, REMEDY)


def find_fault(plan: EpisodePlan, spec: SourceSpec) -> str | None:
    """What keeps a plan from being an episode of this source, or None."""
    if plan.way == 0:
        return "has no classes"
    ids = spec.split_classes[plan.split]
    stray = [int(c) for c in plan.class_ids if c not in ids]
    if stray:
        return f"names class {stray[0]}, which is not in the {plan.split} split of {spec.name}"
    if len(set(plan.class_ids.tolist())) < plan.way:
        return "names a class twice"
    sizes = np.asarray(spec.images_per_class, dtype=np.int64)[plan.class_ids]
    labels = np.concatenate([plan.support_labels, plan.query_labels])
    images = np.concatenate([plan.support_images, plan.query_images])
    for part in (plan.support_labels, plan.query_labels):
        if not np.array_equal(np.unique(part), np.arange(plan.way)) or np.any(np.diff(part) < 0):
            return f"does not label its {plan.way} classes in order, support and query alike"
    if len(plan.support_labels) != len(plan.support_images) or len(labels) != len(images):
        return "has another number of labels than of images"
    wrong = np.flatnonzero((images < 0) | (images >= sizes[labels]))
    if len(wrong):
        label, image = int(labels[wrong[0]]), int(images[wrong[0]])
        return f"names image {image} of class {plan.class_ids[label]}, which has {sizes[label]}"
    if len(np.unique(labels * sizes.max() + images)) < len(images):
        return "uses an image twice"
    return None


def _nothing(done: int, total: int) -> None:
    """Progress that nobody watches."""


def draw_plans(
    sampler: EpisodeSampler, seed: int, episodes: int, progress: Progress = _nothing
) -> PlanFile:
    """Episodes 0 to `episodes` − 1 of a sampler, as the content of a plan file.

    Raises:
        InputError: as for `EpisodeSampler.describe`, or no episode is asked for.
    """
    if episodes < 1:
        raise InputError(f"{episodes} episodes are no list of plans.", remedy="Ask for 1 or more.")
    plans = []
    for index in range(episodes):
        plans.append(sampler.plan(seed, index))
        progress(index + 1, episodes)
    return PlanFile(
        source=sampler.spec.name,
        split=sampler.split,
        protocol=sampler.protocol,
        seed=seed,
        spec_fingerprint=sampler.spec.fingerprint,
        plans=tuple(plans),
    )


def write_plans(content: PlanFile, path: Path) -> None:
    """Write a plan file, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    header = {
        "format": FORMAT,
        "source": content.source,
        "split": content.split.value,
        "seed": content.seed,
        "protocol": asdict(content.protocol),
        "protocol_hash": content.protocol.hash,
        "spec_fingerprint": content.spec_fingerprint,
        "hash": content.hash,
    }
    columns = {"index": pa.array([plan.index for plan in content.plans], pa.int64())}
    for part in PARTS:
        arrays = [getattr(plan, part) for plan in content.plans]
        stops = np.cumsum([0, *map(len, arrays)])
        columns[part] = pa.ListArray.from_arrays(
            pa.array(stops, pa.int32()), pa.array(np.concatenate(arrays), pa.int64())
        )
    columns["hash"] = pa.array([plan.hash for plan in content.plans], pa.string())
    table = pa.table(columns).replace_schema_metadata({HEADER: json.dumps(header)})
    with writing(path, "choose another place"), replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_plans(path: Path) -> PlanFile:
    """Read a plan file; every hash in it is computed again.

    Raises:
        InputError: the file is missing, damaged, not a plan file, or changed after it was
            written.
    """
    table, header = _read_table(path)
    try:
        if header["format"] != FORMAT:
            what = f"is a plan file of format {header['format']}, not {FORMAT}."
            raise InputError(what, path, "Read it with the version that wrote it.")
        protocol = parse_protocol(header["protocol"], path)
        source, split, seed = str(header["source"]), Split(header["split"]), int(header["seed"])
        fingerprint, whole_hash = str(header["spec_fingerprint"]), header["hash"]
        protocol_hash = header["protocol_hash"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"has a damaged header ({error!r}).", path, REMEDY) from error
    if protocol.hash != protocol_hash:
        raise _changed(path, "the protocol", protocol.hash, protocol_hash)
    columns = {part: _lists(table.column(part)) for part in PARTS}
    plans = []
    for row, (index, row_hash) in enumerate(
        zip(table.column("index").to_pylist(), table.column("hash").to_pylist(), strict=True)
    ):
        parts = {part: columns[part][row] for part in PARTS}
        plan = EpisodePlan(protocol.hash, source, split, seed, row, **parts)
        if index != row or plan.hash != row_hash:
            raise _changed(path, f"episode {row}", plan.hash, row_hash)
        plans.append(plan)
    content = PlanFile(source, split, protocol, seed, fingerprint, tuple(plans), path)
    if content.hash != whole_hash:
        raise _changed(path, "the list of episodes", content.hash, whole_hash)
    return content


def _changed(path: Path, what: str, found: str, stored: object) -> InputError:
    return InputError(
        f"{what} was changed after the file was written: its hash is {found}, not {stored}.",
        path,
        REMEDY,
    )


def _read_table(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """The rows and the header of a plan file, both of the right shape."""
    if not path.is_file():
        raise InputError("there is no such file.", path, "Check the path of the plan file.")
    try:
        # Not `read_table`, which takes folders named like `seed=0` for columns.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        header = json.loads((table.schema.metadata or {}).get(HEADER, b"null"))
    except PermissionError as error:
        what = f"cannot be read: {error.strerror}."
        raise InputError(what, path, "Check its permissions.") from error
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"is not a whole Parquet file ({reason}).", path, REMEDY) from error
    if not isinstance(header, dict):
        remedy = "Plan files are written by `run_meta_dataset.py plan`."
        raise InputError("is a Parquet file, but not one of plans.", path, remedy)
    kinds = {field.name: field.type for field in table.schema}
    lists = all(
        part in kinds and pa.types.is_list(kinds[part]) and kinds[part].value_type == pa.int64()
        for part in PARTS
    )
    if sorted(table.column_names) != sorted(["index", *PARTS, "hash"]) or not lists:
        raise InputError("does not have the columns of a plan file.", path, REMEDY)
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        nulls = column.null_count + (column.flatten().null_count if name in PARTS else 0)
        if nulls:
            raise InputError(f"has {nulls} empty values in column '{name}'.", path, REMEDY)
    return table, header


def _lists(column: pa.ChunkedArray) -> list[Integers]:
    """One array per row, writable (torch asks for it)."""
    whole = column.combine_chunks()
    values = whole.flatten().to_numpy().astype(np.int64, copy=True)
    stops = np.cumsum(whole.value_lengths().to_numpy())
    return np.split(values, stops[:-1]) if len(stops) else []
