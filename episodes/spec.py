"""What a source contains: classes, splits, images per class, hierarchy (`dataset_spec.json`).

Source: facts of the official format, sections 1.3 to 1.6.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from episodes.faults import InputError
from episodes.ontology import Ontology
from episodes.protocol import Split

SPEC_FILE = "dataset_spec.json"
FILE_PATTERN = "{}.tfrecords"
LEAF_COUNTS = "num_leaf_images.json"
"""Beside the specification of ImageNet: images per class, which the official converter trusts."""
REMEDY = "Convert the source again, or copy its original dataset_spec.json."
NAME = r"\w[\w. -]{0,99}"
"""Of a source: what fits into the name of a file and leads to no other folder."""
LARGEST_COUNT = 1 << 40
"""More records fit on no disk; sums of so many stay exact in 64 bits."""


@dataclass(frozen=True)
class SourceSpec:
    """A source whose classes have no hierarchy; the base of the two kinds that have one.

    Attributes:
        name: of the source.
        folder: where the spec was found; its class files lie beside it.
        class_names: by class id, which is also the number of the class's file.
        images_per_class: by class id.
        split_classes: class ids of each split, contiguous: train, then valid, then test.
    """

    name: str
    folder: Path
    class_names: tuple[str, ...]
    images_per_class: tuple[int, ...]
    split_classes: Mapping[Split, range]

    def class_file(self, class_id: int) -> Path:
        """The TFRecord file of a class."""
        return self.folder / FILE_PATTERN.format(class_id)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits: equal where class ids, counts and splits mean the same.

        The folder is no part of it: two people with the same records have the same fingerprint.
        """
        splits = {split.value: [ids.start, ids.stop] for split, ids in self.split_classes.items()}
        content = [self.name, self.class_names, self.images_per_class, splits, self._hierarchy]
        canonical = json.dumps(content, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def _hierarchy(self) -> object:
        return None

    def images_in_split(self, split: Split) -> tuple[int, ...]:
        """Images per class of a split, by relative class id."""
        ids = self.split_classes[split]
        return self.images_per_class[ids.start : ids.stop]


@dataclass(frozen=True)
class BiLevelSpec(SourceSpec):
    """A source of superclasses that hold classes: Omniglot's alphabets and characters.

    Attributes:
        superclass_sizes: classes in each superclass of a split, in the order of class ids.
    """

    superclass_sizes: Mapping[Split, tuple[int, ...]] = field(default_factory=dict)

    @property
    def _hierarchy(self) -> object:
        return self.superclass_sizes


@dataclass(frozen=True)
class DagSpec(SourceSpec):
    """A source whose classes are the leaves of a DAG: ImageNet.

    Attributes:
        ontology: one closed graph per split.
    """

    ontology: Mapping[Split, Ontology] = field(default_factory=dict)

    @property
    def _hierarchy(self) -> object:
        return {split: graph.spanned_leaves for split, graph in self.ontology.items()}


def load_spec(folder: str | Path) -> SourceSpec:
    """Read the specification of the source that lies in a folder.

    Returns:
        A `SourceSpec`, `BiLevelSpec` or `DagSpec`.

    Raises:
        InputError: the folder or file is missing, is not a specification, or contradicts
            itself.
    """
    path = Path(folder) / SPEC_FILE
    if not path.parent.is_dir():
        raise InputError("there is no such folder.", path.parent, "Check the path of the records.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = "Check that this is the folder of one source, converted to records."
        raise InputError(f"the folder holds no {SPEC_FILE}.", path.parent, remedy) from None
    except OSError as error:
        what = f"cannot be read: {error.strerror}."
        raise InputError(what, path, "Check its permissions and its disk.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not readable as JSON ({error}).", path, REMEDY) from error
    return parse_spec(raw, path)


def holds_spec(folder: Path) -> bool:
    """Whether a folder holds a specification; one that may not be looked into counts.

    So reading it tells what is wrong, as one message.
    """
    try:
        return (folder / SPEC_FILE).exists()
    except PermissionError:
        return True


def parse_spec(raw: Any, path: Path) -> SourceSpec:
    """The specification in a JSON object of the official form.

    Args:
        raw: the parsed JSON.
        path: the file that holds it; its folder becomes the specification's.

    Raises:
        InputError: it is not a specification, or contradicts itself.
    """
    kind = raw.get("__class__") if isinstance(raw, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"is of kind {kind!r}, not one of {', '.join(KINDS)}.", path, REMEDY)
    if raw.get("file_pattern", FILE_PATTERN) != FILE_PATTERN:
        found = raw["file_pattern"]
        raise InputError(f"file_pattern is {found!r}, not {FILE_PATTERN!r}.", path, REMEDY)
    try:
        spec = KINDS[kind](raw, path.parent)
    except KeyError as error:
        raise InputError(f"has no entry {error}.", path, REMEDY) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"has an entry of the wrong type ({error}).", path, REMEDY) from error
    except InputError as error:
        raise InputError(error.what, path, REMEDY) from error
    _check_consistent(spec, path)
    return spec


def _by_id(raw: dict[str, Any], entry: str, count: int) -> list[Any]:
    """Values of a JSON object with ids as keys, in the order of the ids."""
    values: dict[str, Any] = raw[entry]
    # The lengths first: a forged count must not become a list.
    if len(values) != count or values.keys() != {str(number) for number in range(count)}:
        what = f"{entry} has {len(values)} entries, which are not numbered 0 to {count - 1}"
        raise InputError(f"{what}: the splits have {count} together.")
    return [values[str(number)] for number in range(count)]


def _count(value: Any) -> int:
    """A number of things; Python would also take 2.7, true or "3" for one."""
    if type(value) is not int or not 0 <= value <= LARGEST_COUNT:
        raise TypeError(f"{value!r} is not a count")
    return value


def _counts(raw: dict[str, Any], entry: str) -> dict[Split, int]:
    return {split: _count(raw[entry][split.name]) for split in Split}


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r:.60} is not a list of names")
    return tuple(values)


def _contiguous(sizes: Mapping[Split, int]) -> dict[Split, range]:
    stops = list(accumulate(sizes[split] for split in Split))
    starts = [0, *stops]
    return {
        split: range(start, stop) for split, start, stop in zip(Split, starts, stops, strict=False)
    }


def _flat(raw: dict[str, Any], folder: Path) -> SourceSpec:
    sizes = _counts(raw, "classes_per_split")
    count = sum(sizes.values())
    return SourceSpec(
        name=raw["name"],
        folder=folder,
        class_names=_texts(_by_id(raw, "class_names", count)),
        images_per_class=tuple(map(_count, _by_id(raw, "images_per_class", count))),
        split_classes=_contiguous(sizes),
    )


def _bilevel(raw: dict[str, Any], folder: Path) -> BiLevelSpec:
    superclasses = _contiguous(_counts(raw, "superclasses_per_split"))
    total = superclasses[Split.TEST].stop
    sizes = tuple(map(_count, _by_id(raw, "classes_per_superclass", total)))
    of_split = {split: sizes[ids.start : ids.stop] for split, ids in superclasses.items()}
    count = sum(sizes)
    return BiLevelSpec(
        name=raw["name"],
        folder=folder,
        class_names=_texts(_by_id(raw, "class_names", count)),
        images_per_class=tuple(map(_count, _by_id(raw, "images_per_class", count))),
        split_classes=_contiguous({split: sum(sizes) for split, sizes in of_split.items()}),
        superclass_sizes=of_split,
    )


def _graph(nodes: list[dict[str, Any]]) -> Ontology:
    children = {node["wn_id"]: _texts(node["children_ids"]) for node in nodes}
    _texts(list(children))
    if len(children) < len(nodes):
        raise InputError("a graph of split_subgraphs lists a node twice.")
    return Ontology(children, {node["wn_id"]: str(node.get("words", "")) for node in nodes})


def _dag(raw: dict[str, Any], folder: Path) -> DagSpec:
    ontology = {split: _graph(raw["split_subgraphs"][split.name]) for split in Split}
    _check_disjoint(ontology)
    sizes = {split: len(ontology[split].leaves) for split in Split}
    names = _texts(_by_id(raw, "class_names", sum(sizes.values())))
    images = []
    for split, ids in _contiguous(sizes).items():
        of_split = names[ids.start : ids.stop]
        if sorted(of_split) != list(ontology[split].leaves):
            found = f"class_names {ids.start} to {ids.stop - 1}"
            raise InputError(f"{found} are not the leaves of the {split} graph.")
        images += [_count(raw["images_per_class"][split.name][leaf]) for leaf in of_split]
    return DagSpec(
        name=raw["name"],
        folder=folder,
        class_names=names,
        images_per_class=tuple(images),
        split_classes=_contiguous(sizes),
        ontology=ontology,
    )


def _check_disjoint(ontology: Mapping[Split, Ontology]) -> None:
    seen: dict[str, Split] = {}
    for split, graph in ontology.items():
        for node in graph.children:
            if node in seen:
                raise InputError(f"node {node} is in the graphs of {seen[node]} and {split}.")
            seen[node] = split
        _ = graph.spanned_leaves  # raises where the graph is broken


def _check_consistent(spec: SourceSpec, path: Path) -> None:
    # Files of features and packs are called after the source.
    if not isinstance(spec.name, str) or not re.fullmatch(NAME, spec.name):
        raise InputError(f"names the source {spec.name!r}.", path, REMEDY)
    if not spec.class_names:
        raise InputError("has no classes.", path, REMEDY)


KINDS: dict[str, Callable[[dict[str, Any], Path], SourceSpec]] = {
    "DatasetSpecification": _flat,
    "BiLevelDatasetSpecification": _bilevel,
    "HierarchicalDatasetSpecification": _dag,
}
