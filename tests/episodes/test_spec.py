"""Specifications: every kind, what their fields mean, and the message of every fault."""

import copy
import errno
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes import InputError, Split, load_spec
from episodes.spec import BiLevelSpec, DagSpec, SourceSpec, holds_spec

FLAT = {
    "__class__": "DatasetSpecification",
    "name": "birds",
    "classes_per_split": {"TRAIN": 2, "VALID": 1, "TEST": 1},
    "images_per_class": {"0": 5, "1": 6, "2": 7, "3": 8},
    "class_names": {"0": "wren", "1": "owl", "2": "kite", "3": "jay"},
    "path": "elsewhere",
    "file_pattern": "{}.tfrecords",
}
BILEVEL = {
    "__class__": "BiLevelDatasetSpecification",
    "name": "scripts",
    "superclasses_per_split": {"TRAIN": 1, "VALID": 0, "TEST": 2},
    "classes_per_superclass": {"0": 2, "1": 1, "2": 3},
    "images_per_class": {str(i): 20 for i in range(6)},
    "superclass_names": {"0": "x", "1": "y", "2": "z"},
    "class_names": {str(i): f"c{i}" for i in range(6)},
}


def node(wn_id, *children):
    return {"wn_id": wn_id, "words": wn_id.upper(), "children_ids": [*children], "parents_ids": []}


DAG = {
    "__class__": "HierarchicalDatasetSpecification",
    "name": "things",
    "split_subgraphs": {
        "TRAIN": [node("n1", "n4", "n3"), node("n3"), node("n4")],
        "VALID": [],
        "TEST": [node("n0", "n2"), node("n2")],
    },
    "images_per_class": {
        "TRAIN": {"n1": 30, "n3": 10, "n4": 20},
        "VALID": {},
        "TEST": {"n0": 7, "n2": 7},
    },
    "class_names": {"0": "n3", "1": "n4", "2": "n2"},
}


def load(folder, raw):
    text = raw if isinstance(raw, str) else json.dumps(raw)
    (folder / "dataset_spec.json").write_text(text)
    return load_spec(folder)


def changed(raw, path, value):
    """A copy with one entry set, or removed where the value is None."""
    copied = copy.deepcopy(raw)
    *above, last = path.split("/")
    inner = copied
    for key in above:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return copied


# ---- the three kinds -------------------------------------------------------------------------


def test_flat(tmp_path):
    spec = load(tmp_path, FLAT)
    assert type(spec) is SourceSpec and spec.name == "birds" and spec.folder == tmp_path
    assert spec.class_names == ("wren", "owl", "kite", "jay")
    assert spec.split_classes == {
        Split.TRAIN: range(2),
        Split.VALID: range(2, 3),
        Split.TEST: range(3, 4),
    }
    assert spec.images_in_split(Split.TRAIN) == (5, 6)
    assert spec.images_in_split(Split.TEST) == (8,)
    assert spec.class_file(3) == tmp_path / "3.tfrecords"


def test_ids_are_numbers_and_the_order_of_the_file_means_nothing(tmp_path):
    names = {str(i): f"c{i}" for i in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
    raw = FLAT | {
        "classes_per_split": {"TEST": 1, "TRAIN": 8, "VALID": 2},
        "class_names": names,
        "images_per_class": {key: int(key) + 5 for key in names},
    }
    spec = load(tmp_path, raw)
    assert spec.class_names == tuple(f"c{i}" for i in range(11))
    assert spec.images_in_split(Split.TEST) == (15,)


def test_bilevel(tmp_path):
    spec = load(tmp_path, BILEVEL)
    assert isinstance(spec, BiLevelSpec)
    assert spec.superclass_sizes == {Split.TRAIN: (2,), Split.VALID: (), Split.TEST: (1, 3)}
    assert spec.split_classes[Split.TEST] == range(2, 6)
    assert spec.images_in_split(Split.VALID) == ()


def test_dag(tmp_path):
    spec = load(tmp_path, DAG)
    assert isinstance(spec, DagSpec)
    assert spec.class_names == ("n3", "n4", "n2")
    assert spec.images_per_class == (10, 20, 7)
    assert spec.split_classes[Split.TEST] == range(2, 3)
    assert spec.ontology[Split.TRAIN].spanned_leaves == {"n1": ("n3", "n4")}
    assert spec.ontology[Split.TRAIN].words["n1"] == "N1"


@pytest.mark.parametrize(
    ("source", "classes", "images"),
    [
        ("ilsvrc_2012", (712, 158, 130), 1280764),
        ("ilsvrc_2012_v2", (1000, 0, 0), 1280764),
        ("omniglot", (883, 81, 659), 32460),
        ("aircraft", (70, 15, 15), 10000),
        ("cu_birds", (140, 30, 30), 11788),
        ("dtd", (33, 7, 7), 5640),
        ("quickdraw", (241, 52, 52), 50426266),
        ("fungi", (994, 200, 200), 89760),
        ("vgg_flower", (71, 15, 16), 8189),
        ("traffic_sign", (0, 0, 43), 39209),
        ("mscoco", (0, 40, 40), 860001),
    ],
)
def test_official_sizes(official_spec, source, classes, images):
    """The table of facts, section 2.2."""
    spec = official_spec(source)
    assert tuple(len(ids) for ids in spec.split_classes.values()) == classes
    assert sum(spec.images_per_class) == images and spec.name == source


# ---- fingerprints ----------------------------------------------------------------------------


def test_the_fingerprint_ignores_the_folder_and_the_layout_of_the_file(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    shuffled = dict(reversed(FLAT.items())) | {"path": "/somewhere/else"}
    here, there = load(tmp_path / "here", FLAT), load(tmp_path / "there", shuffled)
    assert here.fingerprint == there.fingerprint and len(here.fingerprint) == 16


@pytest.mark.parametrize(
    ("raw", "path", "value"),
    [
        (FLAT, "name", "owls"),
        (FLAT, "images_per_class/3", 9),
        (FLAT, "class_names/0", "rook"),
        (FLAT, "classes_per_split", {"TRAIN": 1, "VALID": 2, "TEST": 1}),
        (BILEVEL, "classes_per_superclass", {"0": 2, "1": 2, "2": 2}),
        (DAG, "split_subgraphs/TEST", [node("n0", "n2"), node("n2"), node("n9", "n2")]),
    ],
)
def test_the_fingerprint_changes_with_the_content(tmp_path, raw, path, value):
    before = load(tmp_path, raw).fingerprint
    assert load(tmp_path, changed(raw, path, value)).fingerprint != before


# ---- faults ----------------------------------------------------------------------------------

FAULTS = [
    ("{", "is not readable as JSON"),
    ("[" * 100_000, "is not readable as JSON"),
    ("[]", "is of kind None, not one of DatasetSpecification, BiLevel"),
    (FLAT | {"__class__": "Benchmark"}, "is of kind 'Benchmark'"),
    (FLAT | {"__class__": ["x"]}, r"is of kind \['x'\]"),
    (FLAT | {"file_pattern": "{}_{}.tfrecords"}, r"file_pattern is '\{\}_\{\}\.tfrecords'"),
    (changed(FLAT, "name", None), "has no entry 'name'"),
    (FLAT | {"name": ""}, "names the source ''"),
    (FLAT | {"name": 7}, "names the source 7"),
    (changed(FLAT, "classes_per_split", None), "has no entry 'classes_per_split'"),
    (changed(FLAT, "classes_per_split/VALID", None), "has no entry 'VALID'"),
    (changed(FLAT, "classes_per_split/TEST", 2), "class_names has 4 entries.* 0 to 4"),
    (changed(FLAT, "classes_per_split/TEST", -1), "wrong type .*-1 is not a count"),
    (changed(FLAT, "classes_per_split/TEST", 1.0), "1.0 is not a count"),
    (changed(FLAT, "classes_per_split", [2, 1, 1]), "has an entry of the wrong type"),
    (changed(FLAT, "class_names/3", None), "class_names has 3 entries"),
    (changed(FLAT, "class_names/x", "y"), "class_names has 5 entries"),
    (changed(FLAT, "class_names/3", 3), "is not a list of names"),
    (changed(FLAT, "class_names", ["a", "b", "c", "d"]), "has an entry of the wrong type"),
    (changed(FLAT, "images_per_class/3", None), "images_per_class has 3 entries"),
    (changed(FLAT, "images_per_class/3", "8"), "'8' is not a count"),
    (changed(FLAT, "images_per_class/3", True), "True is not a count"),
    (changed(FLAT, "images_per_class/3", -8), "-8 is not a count"),
    (changed(FLAT, "images_per_class/3", 10**30), "is not a count"),
    (changed(FLAT, "classes_per_split/TEST", 10**12), "class_names has 4 entries"),
    (changed(BILEVEL, "superclasses_per_split/TEST", 10**12), "classes_per_superclass has 3"),
    (changed(FLAT, "images_per_class/3", {"train": 5, "test": 3}), "is not a count"),
    (
        FLAT
        | {
            "classes_per_split": {"TRAIN": 0, "VALID": 0, "TEST": 0},
            "class_names": {},
            "images_per_class": {},
        },
        "has no classes",
    ),
    (changed(BILEVEL, "superclasses_per_split", None), "has no entry 'superclasses_per_split'"),
    (changed(BILEVEL, "superclasses_per_split/TEST", 1), "classes_per_superclass has 3 entries"),
    (changed(BILEVEL, "classes_per_superclass/2", 2), "class_names has 6 entries.* 0 to 4"),
    (changed(BILEVEL, "classes_per_superclass/2", "3"), "'3' is not a count"),
    (changed(DAG, "split_subgraphs", None), "has no entry 'split_subgraphs'"),
    (changed(DAG, "split_subgraphs/VALID", None), "has no entry 'VALID'"),
    (changed(DAG, "split_subgraphs/TRAIN", {}), "class_names has 3 entries"),
    (changed(DAG, "split_subgraphs/TRAIN", ["n1"]), "has an entry of the wrong type"),
    (changed(DAG, "split_subgraphs/TRAIN/0/wn_id", None), "has no entry 'wn_id'"),
    (changed(DAG, "split_subgraphs/TRAIN/0/wn_id", ["n"]), "has an entry of the wrong type"),
    (changed(DAG, "split_subgraphs/TRAIN/0/children_ids", "n4"), "is not a list of names"),
    (
        changed(DAG, "split_subgraphs/TEST", [node("n2"), node("n2")]),
        "split_subgraphs lists a node twice",
    ),
    (
        changed(DAG, "split_subgraphs/TEST", [node("n1", "n2"), node("n2")]),
        "node n1 is in the graphs of train and test",
    ),
    (
        changed(DAG, "split_subgraphs/TEST", [node("n0", "n0", "n2"), node("n2")]),
        "node n0 of the class hierarchy is in a cycle",
    ),
    (changed(DAG, "split_subgraphs/TEST", [node("n0", "n2")]), "node n2 .* is not in the graph"),
    (changed(DAG, "class_names/0", "n9"), "class_names 0 to 1 are not the leaves of the train"),
    (changed(DAG, "class_names/0", "n2"), "are not the leaves of the train graph"),
    (changed(DAG, "images_per_class/TRAIN/n3", None), "has no entry 'n3'"),
    (changed(DAG, "images_per_class/TRAIN/n3", 2.5), "2.5 is not a count"),
]


@pytest.mark.parametrize(("raw", "message"), FAULTS)
def test_a_fault_is_said(tmp_path, raw, message):
    with pytest.raises(InputError, match=rf"dataset_spec\.json: .*{message}"):
        load(tmp_path, raw)


def test_missing_folder_file_and_text(tmp_path):
    with pytest.raises(InputError, match="there is no such folder"):
        load_spec(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no dataset_spec\.json"):
        load_spec(tmp_path)
    (tmp_path / "dataset_spec.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match="is not readable as JSON"):
        load_spec(tmp_path)


def test_a_specification_that_may_not_be_read(tmp_path, monkeypatch):
    load(tmp_path, FLAT)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr(Path, "stat", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "is_dir", lambda _: True)
    assert holds_spec(tmp_path)
    with pytest.raises(InputError, match=r"json: cannot be read: Permission denied\. Check"):
        load_spec(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([FLAT, BILEVEL, DAG]), st.data())
def test_any_damage_is_an_input_error_or_harmless(tmp_path_factory, raw, data):
    damaged = raw | {data.draw(st.sampled_from(list(raw))): data.draw(json_values)}
    try:
        spec = load(tmp_path_factory.mktemp("damaged"), damaged)
    except InputError:
        return
    assert sum(map(len, spec.split_classes.values())) == len(spec.class_names)
    assert spec.fingerprint
