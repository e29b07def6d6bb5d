"""Damage to a TFDS build and to a folder of images is found as in class files."""

import json
import shutil

import pytest

from episodes import load_spec
from episodes.check import check
from episodes.tfrecord import encode_example, scan_offsets, write_records
from tests.episodes.damage import edit, faults_of, read_file
from tests.episodes.test_folder import make_folder
from tests.episodes.test_tfds import class_images, v2_specification
from tests.episodes.tfds_layout import write_tfds


@pytest.fixture(scope="module")
def built(miniature, tmp_path_factory):
    """ImageNet in both versions in four shards, and textures in three."""
    folder = tmp_path_factory.mktemp("tfds")
    for source, shards in (("ilsvrc_2012", 4), ("dtd", 3)):
        raw = json.loads((miniature / source / "dataset_spec.json").read_text())
        specs = {"v1": raw}
        if source == "ilsvrc_2012":
            specs["v2"] = v2_specification(raw)
        write_tfds(folder, source, specs, class_images(miniature / source), shards)
    return folder


def test_a_tfds_build_is_clean(built, miniature):
    for records in (built, built / "meta_dataset"):
        audits = check(records, deep=True)
        assert [(a.source, a.layout, a.faults) for a in audits] == [
            ("ilsvrc_2012", "tfds", ()), ("dtd", "tfds", ()),
        ]  # fmt: skip
        assert audits[1].images == sum(load_spec(miniature / "dtd").images_per_class)
    (v2,) = check(built, ["ilsvrc_2012_v2"])
    assert v2.faults == () and v2.classes[1:] == (0, 0)


@pytest.fixture
def shards(built, tmp_path):
    """A copy that may be damaged, and its folder of shards."""
    shutil.copytree(built / "meta_dataset" / "dtd", tmp_path / "meta_dataset" / "dtd")
    return tmp_path, tmp_path / "meta_dataset" / "dtd" / "1.0.0"


NAME = "meta_dataset-all_classes.tfrecord-0000{}-of-00003"


def test_damaged_shards(shards):
    records, folder = shards
    (folder / NAME.format(0)).unlink()
    first = len(scan_offsets(folder / NAME.format(1))) - 1
    edit(folder / NAME.format(1), lambda content: content.__delitem__(slice(-1, None)))
    shutil.copy(
        folder / NAME.format(2), folder / "meta_dataset-all_classes.tfrecord-00000-of-00001"
    )
    (folder.parent / "1.0.0.incompleteA1").mkdir()
    missing, surplus, left, cut = faults_of(records)
    assert f"1.0.0: shards are missing, 1 of 3: {NAME.format(0)}." in missing
    assert "no class: meta_dataset-all_classes.tfrecord-00000-of-00001." in surplus
    assert "1.0.0.incompleteA1: is left from an interrupted build" in left
    assert f"{NAME.format(1)}: the file ends inside record {first - 1}" in cut


def test_examples_in_the_place_of_another_class(shards):
    """Classes 24 and 25, both of 30 images, change places in the last shard."""
    records, folder = shards
    path = folder / NAME.format(2)
    offsets, content = scan_offsets(path), path.read_bytes()
    start, middle, end = (offsets[-1 - back] for back in (60, 30, 0))
    path.write_bytes(content[: offsets[-61]] + content[middle:end] + content[start:middle])
    faults = faults_of(records)
    count = len(offsets) - 1
    assert [fault.split("-of-00003: ")[1].split(": ")[0] for fault in faults] == [
        f"the label is 25, not 24, in 30 of {count} images",
        f"the label is 24, not 25, in 30 of {count} images",
    ]


def test_a_wrong_label_in_a_shard(shards):
    records, folder = shards
    path = folder / NAME.format(2)
    examples = read_file(path)
    labels = [26 - 1 - k // 30 for k in range(len(examples))][::-1]
    labels[-1] = 7
    write_records(path, map(encode_example, examples, labels))
    (fault,) = faults_of(records)
    assert f"the label is 7, not 25, in 1 of {len(labels)} images: {len(labels) - 1}." in fault


def test_shards_are_read_without_metadata(shards):
    records, folder = shards
    (folder / "metadata.json").write_text("{}")
    edit(folder / NAME.format(1), lambda content: content.__delitem__(slice(-1, None)))
    broken, cut = faults_of(records)
    assert "metadata.json: has a missing or wrong entry" in broken
    assert "truncated" in cut


def test_a_folder_of_images(tmp_path):
    folder = make_folder(tmp_path / "own", classes=20)
    sources = [f"my={folder}"]
    (audit,) = check("", sources, deep=True)
    assert (audit.layout, audit.faults, audit.images) == ("folder", (), 120)
    assert audit.classes == (14, 3, 3)
    (folder / "class 04" / "b.png").write_text("text")
    content = (folder / "class 04" / "a.jpg").read_bytes()
    (folder / "class 04" / "a.jpg").write_bytes(content[: len(content) // 2])
    (folder / "class 05" / "notes.txt").write_text("text")
    (folder / "class 06" / "c.gif").unlink()
    quick, deep = (faults_of(tmp_path, sources, deep) for deep in (False, True))
    assert len(quick) == 2 and len(deep) == 3
    assert "class 05/notes.txt" in quick[0]
    assert "own/class 04: the content is neither JPEG" in quick[1] and "images: b.png." in quick[1]
    assert any(
        "own/class 04: the image does not decode in 1 of 6 images: a.jpg." in f for f in deep
    )
