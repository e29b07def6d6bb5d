"""Made specifications of the three kinds, and the official ones where they are at hand."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from episodes import load_spec
from episodes.spec import SourceSpec


def official_specs() -> Path | None:
    """The folder of the official `<source>_dataset_spec.json` files, if there is one.

    `$META_DATASET_SPECS`, or shared/data/dataset_specs beside the project or above it.
    """
    named = os.environ.get("META_DATASET_SPECS")
    above = [folder / "shared/data/dataset_specs" for folder in Path(__file__).parents]
    return next(
        (path for path in [*([Path(named)] if named else []), *above] if path.is_dir()), None
    )


@pytest.fixture
def official_spec(tmp_path: Path) -> Callable[[str], SourceSpec]:
    """The official specification of a source, by name; skips where there is none."""
    specs = official_specs()
    if specs is None:
        pytest.skip("the official specifications are not at hand")

    def load(source: str) -> SourceSpec:
        folder = tmp_path / "official" / source
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(specs / f"{source}_dataset_spec.json", folder / "dataset_spec.json")
        return load_spec(folder)

    return load


def spec_in(folder: Path, **entries: object) -> SourceSpec:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_spec.json").write_text(json.dumps(entries))
    return load_spec(folder)


def numbered(values):
    return {str(number): value for number, value in enumerate(values)}


def make_flat(folder, sizes=(20, 35, 50, 8, 120, 600, 15, 3), splits=(8, 0, 0), name="flat"):
    return spec_in(
        folder,
        __class__="DatasetSpecification",
        name=name,
        classes_per_split=dict(zip(("TRAIN", "VALID", "TEST"), splits, strict=True)),
        images_per_class=numbered(sizes),
        class_names=numbered([f"class {i}" for i in range(len(sizes))]),
        file_pattern="{}.tfrecords",
    )


def make_bilevel(folder, superclasses=(5, 7, 9), splits=(0, 0, 3), images=20):
    classes = sum(superclasses)
    return spec_in(
        folder,
        __class__="BiLevelDatasetSpecification",
        name="bilevel",
        superclasses_per_split=dict(zip(("TRAIN", "VALID", "TEST"), splits, strict=True)),
        classes_per_superclass=numbered(superclasses),
        images_per_class=numbered([images] * classes),
        superclass_names=numbered([f"s{i}" for i in range(len(superclasses))]),
        class_names=numbered([f"c{i}" for i in range(classes)]),
        file_pattern="{}.tfrecords",
    )


def make_dag(folder, spans=None, leaves=12):
    """Without `spans`: leaves 0 to 5 under n91, 5 to 11 under n92, both under n90."""
    names = [f"n{i:02d}" for i in range(leaves)]
    spans = spans or {"n90": ["n91", "n92"], "n91": names[:6], "n92": names[5:]}
    nodes = [
        {"wn_id": node, "words": "", "children_ids": spans.get(node, []), "parents_ids": []}
        for node in [*names, *spans]
    ]
    counts = {leaf: 30 + 10 * i for i, leaf in enumerate(names)}
    return spec_in(
        folder,
        __class__="HierarchicalDatasetSpecification",
        name="dag",
        split_subgraphs={"TRAIN": nodes, "VALID": [], "TEST": []},
        images_per_class={"TRAIN": counts, "VALID": {}, "TEST": {}},
        class_names=numbered(names),
        file_pattern="{}.tfrecords",
    )


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """Functions that write a specification of each kind into a folder and load it."""
    return SimpleNamespace(spec=spec_in, flat=make_flat, bilevel=make_bilevel, dag=make_dag)


@pytest.fixture
def flat(tmp_path):
    return make_flat(tmp_path / "flat")


@pytest.fixture
def bilevel(tmp_path):
    return make_bilevel(tmp_path / "bilevel")


@pytest.fixture
def dag(tmp_path):
    return make_dag(tmp_path / "dag")


@pytest.fixture(scope="session")
def each_kind(tmp_path_factory):
    """(specification, split) of each kind; property tests may share them: nothing changes them."""
    folder = tmp_path_factory.mktemp("specs")
    return [
        (make_flat(folder / "flat"), "train"),
        (make_bilevel(folder / "bilevel"), "test"),
        (make_dag(folder / "dag"), "train"),
    ]
