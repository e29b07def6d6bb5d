"""The `dataset_spec.json` of converted records, as the official converters write it.

Source: facts of the official format, sections 1.3 to 1.6. The entry `path` is replaced by
everyone who reads a specification; it holds the source's name, so that the same records have the
same specification wherever they lie.
"""

from collections.abc import Mapping
from typing import Any

from episodes.convert.splits import ClassNames, in_order
from episodes.convert.wordnet import Graph
from episodes.protocol import Split
from episodes.spec import FILE_PATTERN

Counts = Mapping[int, int]
"""Images per class id, in the order in which the specification lists them."""


def _numbered(values: list[str]) -> dict[str, str]:
    return {str(number): value for number, value in enumerate(values)}


def _keyed(counts: Counts) -> dict[str, int]:
    return {str(class_id): images for class_id, images in counts.items()}


def _closed(entries: dict[str, Any], source: str, kind: str) -> dict[str, Any]:
    return entries | {"path": source, "file_pattern": FILE_PATTERN, "__class__": kind}


def flat_spec(source: str, splits: ClassNames, counts: Counts) -> dict[str, Any]:
    """The specification of a source without hierarchy."""
    entries = {
        "name": source,
        "classes_per_split": {split.name: len(splits[split]) for split in Split},
        "images_per_class": _keyed(counts),
        "class_names": _numbered(in_order(splits)),
    }
    return _closed(entries, source, "DatasetSpecification")


def bilevel_spec(
    source: str, splits: ClassNames, counts: Counts, superclasses: Mapping[Split, Mapping[str, int]]
) -> dict[str, Any]:
    """The specification of a source of superclasses.

    Args:
        source, splits, counts: as everywhere.
        superclasses: name → number of classes, in the order of ids, for each split.
    """
    named = [pair for split in Split for pair in superclasses[split].items()]
    entries = {
        "name": source,
        "superclasses_per_split": {split.name: len(superclasses[split]) for split in Split},
        "classes_per_superclass": {str(k): size for k, (_, size) in enumerate(named)},
        "images_per_class": _keyed(counts),
        "superclass_names": _numbered([name for name, _ in named]),
        "class_names": _numbered(in_order(splits)),
    }
    return _closed(entries, source, "BiLevelDatasetSpecification")


def dag_spec(
    source: str, splits: ClassNames, counts: Counts, graphs: Mapping[Split, Graph]
) -> dict[str, Any]:
    """The specification of a source whose classes are the leaves of a graph per split."""
    images = {name: counts[class_id] for class_id, name in enumerate(in_order(splits))}
    entries = {
        "name": source,
        "split_subgraphs": {split.name: graphs[split].export() for split in Split},
        "images_per_class": {split.name: graphs[split].sum_leaves(images) for split in Split},
        "class_names": _numbered(in_order(splits)),
    }
    return _closed(entries, source, "HierarchicalDatasetSpecification")
