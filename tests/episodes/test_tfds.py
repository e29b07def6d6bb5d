"""The TFDS layout gives the episodes of converted records, image for image."""

import json
import os
import shutil
from itertools import pairwise

import numpy as np
import pytest

from episodes import EpisodeReader, ImageReader, InputError, Split
from episodes.source import find_spec, open_source, survey_source
from episodes.spec import load_spec
from episodes.tfrecord import encode_example, read_examples, scan_offsets, write_records
from tests.episodes.tfds_layout import write_tfds

SOURCES = ("omniglot", "dtd", "traffic_sign", "ilsvrc_2012")


def class_images(folder):
    """By class id, the encoded images of a source, without leaving an index there."""
    found = []
    for class_id in range(len(load_spec(folder).class_names)):
        spans = list(pairwise(scan_offsets(path := folder / f"{class_id}.tfrecords")))
        found.append([image for image, _ in read_examples(path, spans, range(len(spans)))])
    return found


def v2_specification(raw):
    """All classes of a v1 specification in the TRAIN split, numbered by the rank of their name."""
    nodes = [node for split in ("TRAIN", "VALID", "TEST") for node in raw["split_subgraphs"][split]]
    counts = {k: n for of_split in raw["images_per_class"].values() for k, n in of_split.items()}
    names = sorted(raw["class_names"].values())
    return raw | {
        "name": "ilsvrc_2012_v2",
        "split_subgraphs": {"TRAIN": nodes, "VALID": [], "TEST": []},
        "images_per_class": {"TRAIN": counts, "VALID": {}, "TEST": {}},
        "class_names": {str(rank): name for rank, name in enumerate(names)},
    }


@pytest.fixture(scope="module")
def converted(miniature, tmp_path_factory):
    """Converted records of four sources, where the reader may leave its index."""
    folder = tmp_path_factory.mktemp("converted")
    for source in SOURCES:
        shutil.copytree(miniature / source, folder / source)
    return folder


@pytest.fixture(scope="module")
def data_dir(miniature, tmp_path_factory):
    """Four sources of the miniature in the TFDS layout, in 1, 3, 7 and 5 shards."""
    folder = tmp_path_factory.mktemp("tfds")
    for source, shards in zip(SOURCES, (1, 3, 7, 5), strict=True):
        raw = json.loads((miniature / source / "dataset_spec.json").read_text())
        specs = {"v1": raw}
        if source == "ilsvrc_2012":
            specs["v2"] = v2_specification(raw)
        write_tfds(folder, source, specs, class_images(miniature / source), shards)
    return folder


@pytest.fixture(scope="module")
def converted_v2(miniature, tmp_path_factory):
    """The same images as records of `ilsvrc_2012_v2`, with its class ids."""
    folder = tmp_path_factory.mktemp("records") / "ilsvrc_2012_v2"
    v1 = json.loads((miniature / "ilsvrc_2012" / "dataset_spec.json").read_text())
    raw, images = v2_specification(v1), class_images(miniature / "ilsvrc_2012")
    by_name = {name: images[int(k)] for k, name in v1["class_names"].items()}
    for k, name in raw["class_names"].items():
        payloads = (encode_example(image, int(k)) for image in by_name[name])
        write_records(folder / f"{k}.tfrecords", payloads)
    (folder / "dataset_spec.json").write_text(json.dumps(raw))
    return folder.parent


@pytest.mark.parametrize("below", ["", "meta_dataset"])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("split", list(Split))
def test_the_episodes_of_converted_records(data_dir, converted, source, split, below):
    if not load_spec(converted / source).split_classes[split]:
        pytest.skip("the source has no classes in this split")
    here = EpisodeReader(data_dir / below, source, split, seed=3, size=16)
    there = EpisodeReader(converted, source, split, seed=3, size=16)
    for index in range(2):
        mine, expected = here[index], there[index]
        assert mine.plan.hash == expected.plan.hash
        assert np.array_equal(mine.support_images, expected.support_images)
        assert np.array_equal(mine.query_images, expected.query_images)


@pytest.mark.parametrize("source", SOURCES)
def test_every_image_and_label(data_dir, converted, source):
    spec = find_spec(data_dir, source)
    for split, class_ids in spec.split_classes.items():
        here = open_source(data_dir, source, split)
        there = open_source(converted, source, split)
        for class_id in class_ids:
            backwards = np.arange(spec.images_per_class[class_id])[::-1]
            assert here.read(class_id, backwards) == there.read(class_id, backwards)


def test_version_two_has_the_ids_of_its_records(data_dir, converted_v2):
    here = open_source(data_dir, "ilsvrc_2012_v2", Split.TRAIN)
    there = open_source(converted_v2, "ilsvrc_2012_v2", Split.TRAIN)
    assert here.spec.class_names == there.spec.class_names
    assert here.spec.images_per_class == there.spec.images_per_class
    v1 = find_spec(data_dir, "ilsvrc_2012")
    assert here.spec.class_names != v1.class_names  # the ids do differ
    for class_id, count in enumerate(here.spec.images_per_class):
        found = here.read(class_id, np.arange(count))
        assert found == there.read(class_id, np.arange(count))
        assert {label for _, label in found} == {class_id}
    plans = [
        EpisodeReader(where, "ilsvrc_2012_v2", "train", size=8)
        for where in (data_dir, converted_v2)
    ]
    assert plans[0].plan(5).hash == plans[1].plan(5).hash


def test_converted_records_win_over_tfds(data_dir, miniature, tmp_path):
    shutil.copytree(miniature / "dtd", tmp_path / "dtd")
    (tmp_path / "meta_dataset").symlink_to(data_dir / "meta_dataset")
    assert find_spec(tmp_path, "dtd").folder == tmp_path / "dtd"
    assert find_spec(tmp_path, "omniglot").folder != tmp_path / "omniglot"


def test_a_fingerprint_follows_the_shards_of_its_split(copied):
    records, folder = copied

    def fingerprints():
        return [open_source(records, "dtd", split).fingerprint() for split in Split]

    before = fingerprints()
    assert fingerprints() == before
    opened = open_source(records, "dtd", Split.TEST)
    assert opened.fingerprint() == before[2]
    for shard in folder.glob("*-of-00003"):
        os.utime(shard, ns=(1, 1))
    assert fingerprints()[2] != before[2]
    with pytest.raises(InputError, match="has changed since this command began"):
        opened.read(opened.spec.split_classes[Split.TEST].start, np.arange(2))


# ---- faults ----------------------------------------------------------------------------------


@pytest.fixture
def copied(data_dir, tmp_path):
    shutil.copytree(data_dir / "meta_dataset" / "dtd", tmp_path / "meta_dataset" / "dtd")
    return tmp_path, tmp_path / "meta_dataset" / "dtd" / "1.0.0"


@pytest.mark.parametrize("source", SOURCES)
def test_classes_weigh_what_their_shards_hold(data_dir, converted, source):
    spec, class_bytes = survey_source(data_dir, source)
    classes = range(len(spec.class_names))
    folder = data_dir / "meta_dataset" / source / "1.0.0"
    shards = [path.stat().st_size for path in folder.glob("*.tfrecord-*")]
    assert sum(map(class_bytes, classes)) == pytest.approx(sum(shards))
    if len(shards) > 3:  # several shards: the mean example of each is near that of its classes
        _, alone = survey_source(converted, source)
        assert max(abs(class_bytes(k) / alone(k) - 1) for k in classes) < 0.5


def test_a_missing_shard_matters_only_to_its_splits(copied):
    records, folder = copied
    next(folder.glob("*-00000-of-00003")).unlink()
    with pytest.raises(InputError, match=r"missing \(.*00000-of-00003"):
        ImageReader(records, "dtd", "train")
    ImageReader(records, "dtd", "test")


def test_a_truncated_shard(copied):
    records, folder = copied
    shard = next(folder.glob("*-00002-of-00003"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"00002-of-00003: .*truncated"):
        EpisodeReader(records, "dtd", "test", size=8)[0]


def test_a_shard_of_another_length(copied):
    records, folder = copied
    info = json.loads((folder / "dataset_info.json").read_text())
    lengths = [int(n) for n in info["splits"][0]["shardLengths"]]
    info["splits"][0]["shardLengths"] = [str(lengths[0] + 1), str(lengths[1] - 1), str(lengths[2])]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    reader = ImageReader(records, "dtd", "train", size=8)
    with pytest.raises(InputError, match=f"holds {lengths[0]} records, but .* {lengths[0] + 1}"):
        reader.read(np.asarray([0]), np.asarray([0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("class_slices"), r"metadata\.json: has a missing or wrong entry"),
        (lambda m: m["class_slices"].update({"3": [0, 1]}), "do not follow each other"),
        (lambda m: m["dataset_specs"].pop("v1"), r"metadata\.json: has a missing or wrong entry"),
        (lambda m: m["dataset_specs"]["v1"].update(name="fungi"), "describes the source 'fungi'"),
        (
            lambda m: m["dataset_specs"]["v1"]["images_per_class"].update({"2": 1}),
            r"gives class 2 .* but its specification says 1",
        ),
    ],
)
def test_broken_metadata(copied, change, message):
    records, folder = copied
    metadata = json.loads((folder / "metadata.json").read_text())
    change(metadata)
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match=message):
        ImageReader(records, "dtd", "test")


def test_metadata_without_end(copied):
    records, folder = copied
    (folder / "metadata.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"metadata\.json: is not readable as JSON"):
        ImageReader(records, "dtd", "test")


def test_an_interrupted_build(copied):
    records, folder = copied
    folder.rename(folder.with_name("1.0.0.incompleteX7"))
    with pytest.raises(InputError, match=r"dtd: the build is not complete"):
        ImageReader(records, "dtd", "test")


def test_lengths_are_needed(copied):
    records, folder = copied
    (folder / "dataset_info.json").write_text('{"splits": []}')
    with pytest.raises(InputError, match=r"dataset_info\.json: does not give the lengths"):
        ImageReader(records, "dtd", "test")


def test_a_broken_image_is_named_with_its_shard(copied):
    records, folder = copied
    layout = json.loads((folder / "metadata.json").read_text())
    first = layout["meta_split_slices"]["v1"]["test"][0]
    raw = layout["dataset_specs"]["v1"]
    images = [[b"not an image"] * n for n in raw["images_per_class"].values()]
    shutil.rmtree(folder)
    write_tfds(records, "dtd", {"v1": raw}, images, 1)
    reader = ImageReader(records, "dtd", "test", size=8)
    with pytest.raises(InputError, match=rf"00000-of-00001, record {first}: .* not decode"):
        reader.read(np.asarray([reader.spec.split_classes[Split.TEST][0]]), np.asarray([0]))
