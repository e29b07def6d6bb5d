"""Every kind of damage is found, with its file and remedy, and nothing else is."""

import json
import multiprocessing
import re
import shutil
import tracemalloc

import numpy as np
import pytest

from episodes import InputError, Split, load_spec
from episodes.audit import ranges
from episodes.check import check
from episodes.source import open_source
from episodes.tfrecord import encode_example, write_records
from tests.episodes.damage import (
    DAMAGE,
    count_of,
    edit,
    edit_json,
    faults_of,
    flip_contents,
    read_file,
    relabel,
    remove,
    surplus,
    undecodable,
)
from tests.episodes.test_tfds import v2_specification


@pytest.fixture
def records(miniature, tmp_path):
    """Copies of three sources of the miniature."""
    for source in ("ilsvrc_2012", "omniglot", "dtd"):
        shutil.copytree(miniature / source, tmp_path / source)
    return tmp_path


# ---- clean -----------------------------------------------------------------------------------


def test_the_miniature_is_clean(miniature):
    audits = check(miniature, deep=True, jobs=2)
    assert [audit.source for audit in audits][:3] == ["ilsvrc_2012", "omniglot", "aircraft"]
    assert len(audits) == 10
    for audit in audits:
        spec = load_spec(miniature / audit.source)
        assert audit.faults == () and audit.layout == "records"
        assert audit.images == sum(spec.images_per_class)
        assert audit.classes == tuple(len(spec.split_classes[split]) for split in Split)
        assert audit.files == len(spec.class_names)
        assert len(audit.notes) == 1 and "not the full benchmark" in audit.notes[0]


def test_records_of_version_two(miniature, tmp_path):
    shutil.copytree(miniature / "ilsvrc_2012", tmp_path / "ilsvrc_2012_v2")
    folder = tmp_path / "ilsvrc_2012_v2"
    v1 = json.loads((folder / "dataset_spec.json").read_text())
    raw = v2_specification(v1)
    by_name = {name: read_file(folder / f"{k}.tfrecords") for k, name in v1["class_names"].items()}
    for k, name in raw["class_names"].items():
        payloads = [encode_example(image, int(k)) for image in by_name[name]]
        write_records(folder / f"{k}.tfrecords", payloads)
    (folder / "dataset_spec.json").write_text(json.dumps(raw))
    (audit,) = check(tmp_path)
    assert (audit.source, audit.faults) == ("ilsvrc_2012_v2", ())
    assert audit.classes == (len(raw["class_names"]), 0, 0)


def test_files_that_belong_there(records):
    """An index, a cache of counts that agrees, a pickled specification and a read-me."""
    open_source(records, "ilsvrc_2012", Split.TEST).read(80, np.arange(2))
    assert (records / "ilsvrc_2012" / ".index").is_dir()
    spec = load_spec(records / "ilsvrc_2012")
    counts = dict(zip(spec.class_names, spec.images_per_class, strict=True))
    (records / "ilsvrc_2012" / "num_leaf_images.json").write_text(json.dumps(counts))
    (records / "ilsvrc_2012" / "dataset_spec.pkl").write_bytes(b"never opened")
    (records / "ilsvrc_2012" / "README").write_text("hello")
    assert faults_of(records, ["ilsvrc_2012"]) == []


# ---- one fault at a time ---------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_one_damage_is_one_fault(records, damage):
    damage(records / "dtd")
    (fault,) = faults_of(records, deep=True)
    assert re.search(DAMAGE[damage], fault), fault


def test_images_are_decoded_only_when_asked(records):
    undecodable(records / "dtd")
    assert faults_of(records) == []


def test_classes_too_small_for_an_episode(records):
    count_of(3, 1)(records / "dtd")
    write_records(
        records / "dtd" / "3.tfrecords",
        [encode_example(read_file(records / "dtd" / "4.tfrecords")[0], 3)],
    )
    (fault,) = faults_of(records)
    assert (
        fault.startswith("dtd/dataset_spec.json: classes of fewer than 2 images") and "3." in fault
    )


def test_an_interrupted_conversion(records):
    """The specification is written last: without it, what there is is still read."""
    folder = records / "dtd"
    (folder / "dataset_spec.json").unlink()
    remove(*range(9, 26))(folder)
    edit(folder / "8.tfrecords", lambda content: content.__delitem__(slice(-9, None)))
    relabel(folder)
    no_spec, label, cut = faults_of(records)
    assert "dtd: holds no dataset_spec.json, which is written last" in no_spec
    assert "dtd/3.tfrecords: the label is 4, not 3" in label
    assert "dtd/8.tfrecords: the file ends inside record 29" in cut
    (audit,) = check(records, ["dtd"])
    assert audit.notes == ("of the benchmark's 47 class files, these are missing: 9–46.",)
    assert (audit.classes, audit.files, audit.images) == (None, 9, 9 * 30 - 1)


def test_an_empty_folder_and_an_absent_one(records):
    (records / "fungi").mkdir()
    assert faults_of(records, ["fungi"]) == [
        "fungi: holds no dataset_spec.json, which is written last: the conversion was "
        "interrupted. Finish the conversion or the copy of this source."
    ]
    (fault,) = faults_of(records, ["aircraft"])
    assert fault.startswith("aircraft: there is no such folder")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw, root: raw["images_per_class"]["TRAIN"].update({root: 1}), "{root}"),
        (
            lambda raw, root: raw["split_subgraphs"]["TRAIN"][-1]["parents_ids"].append("n1"),
            "n1–",
        ),
    ],
)
def test_hierarchies_that_contradict_themselves(records, change, message):
    path = records / "ilsvrc_2012" / "dataset_spec.json"
    root = next(iter(load_spec(path.parent).ontology[Split.TRAIN].spanned_leaves))
    edit_json(path, lambda raw: change(raw, root))
    (fault,) = faults_of(records, ["ilsvrc_2012"])
    assert "dataset_spec.json: the images or parents of these nodes" in fault
    assert message.format(root=root) in fault


def test_cached_counts_that_disagree(records):
    (records / "ilsvrc_2012" / "num_leaf_images.json").write_text('{"n00000001": 3}')
    (fault,) = faults_of(records, ["ilsvrc_2012"])
    assert fault.startswith("ilsvrc_2012/num_leaf_images.json: does not agree")


# ---- all at once -----------------------------------------------------------------------------


def test_everything_is_found_in_one_pass(records):
    """Damage to several files of two sources, and a third that is well."""
    for damage in (flip_contents, surplus, remove(0)):
        damage(records / "dtd")
    for class_id in (10, 9):
        edit(records / "dtd" / f"{class_id}.tfrecords", lambda c: c.__delitem__(slice(-1, None)))
    (records / "omniglot" / "dataset_spec.json").write_text("{")
    (records / "omniglot" / "5.tfrecords").write_bytes(b"x")
    serial, parallel = (check(records, jobs=jobs) for jobs in (1, 2))
    assert [[str(f) for f in a.faults] for a in serial] == [
        [str(f) for f in a.faults] for a in parallel
    ]
    by_source = {audit.source: [str(fault.where) for fault in audit.faults] for audit in serial}
    assert by_source == {
        "ilsvrc_2012": [],
        "omniglot": [
            f"{records}/omniglot/dataset_spec.json",
            f"{records}/omniglot/5.tfrecords",
        ],
        "dtd": [
            f"{records}/dtd",
            f"{records}/dtd",
            f"{records}/dtd/3.tfrecords",
            f"{records}/dtd/9.tfrecords",
            f"{records}/dtd/10.tfrecords",
        ],
    }


def test_progress_ends_at_the_total(records):
    seen = []
    check(records, progress=lambda done, total: seen.append((done, total)))
    assert seen[0][0] == 0 and seen == sorted(seen) and seen[-1][0] == seen[-1][1]
    assert seen[-1][1] == sum(path.stat().st_size for path in records.glob("*/*.tfrecords"))


def test_an_interruption_leaves_no_process(records):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(records, jobs=2, progress=interrupt)
    assert multiprocessing.active_children() == []


def test_memory_does_not_grow_with_the_file(tmp_path):
    (tmp_path / "dtd").mkdir()
    path = tmp_path / "dtd" / "0.tfrecords"
    write_records(path, (encode_example(bytes(2**20), 0) for _ in range(60)))
    tracemalloc.start()
    try:
        check(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("sources", "message"),
    [(["omniglott"], "Did you mean 'omniglot'"), (["fungi=x"], "is a source of the benchmark")],
)
def test_unknown_sources(records, sources, message):
    with pytest.raises(InputError, match=message):
        check(records, sources)


def test_unusable_folders(records, tmp_path):
    with pytest.raises(InputError, match="there is no such folder"):
        check(tmp_path / "nowhere", ["dtd"])
    with pytest.raises(InputError, match=r"is the folder of one source\. Give the folder above"):
        check(records / "dtd")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no source in this folder"):
        check(tmp_path / "empty")


def test_ranges():
    assert ranges([5, 0, 1, 2, 9, 8]) == "0–2, 5, 8–9"
    assert ranges(range(0, 50, 2), at_most=3) == "0, 2, 4, …"
    assert ranges([]) == ""
