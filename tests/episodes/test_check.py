"""Every kind of damage is found, with its file and remedy, and nothing else is."""

import json
import multiprocessing
import re
import shutil
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from episodes import InputError, Split, load_spec
from episodes.audit import ranges
from episodes.check import check
from episodes.source import open_source
from episodes.tfrecord import encode_example, read_examples, scan_offsets, write_records
from tests.episodes.test_folder import make_folder
from tests.episodes.test_tfds import class_images, v2_specification
from tests.episodes.test_tracks import made_tracks
from tests.episodes.tfds_layout import write_tfds


@pytest.fixture
def records(miniature, tmp_path):
    """Copies of three sources of the miniature."""
    for source in ("ilsvrc_2012", "omniglot", "dtd"):
        shutil.copytree(miniature / source, tmp_path / source)
    return tmp_path


def faults_of(records, sources=("dtd",), deep=False):
    """Each fault as the text that a user reads, with the path below the records."""
    faults = [fault for audit in check(records, sources, deep) for fault in audit.faults]
    assert all(fault.remedy for fault in faults)
    return [str(fault).replace(f"{records}/", "") for fault in faults]


def read_file(path):
    spans = list(pairwise(scan_offsets(path)))
    return [image for image, _ in read_examples(path, spans, range(len(spans)))]


def edit(path, change):
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def edit_json(path, change):
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


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


def cut_inside(folder):
    edit(folder / "3.tfrecords", lambda content: content.__delitem__(slice(-9, None)))


def cut_between(folder):
    images = read_file(folder / "3.tfrecords")
    write_records(folder / "3.tfrecords", [encode_example(image, 3) for image in images[:-2]])


def repeat(folder):
    path = folder / "3.tfrecords"
    path.write_bytes(path.read_bytes() * 2)


def empty(folder):
    (folder / "3.tfrecords").write_bytes(b"")


def flip_contents(folder):
    offsets = scan_offsets(folder / "3.tfrecords")

    def flip(content):
        for record in (2, 3, 7):
            content[offsets[record] + 60] ^= 4

    edit(folder / "3.tfrecords", flip)


def flip_length(folder):
    offsets = scan_offsets(folder / "3.tfrecords")
    edit(folder / "3.tfrecords", lambda c: c.__setitem__(offsets[5] + 1, c[offsets[5] + 1] ^ 1))


def zero_tail(folder):
    path = folder / "3.tfrecords"
    half = scan_offsets(path)[10]
    edit(path, lambda c: c.__setitem__(slice(half, None), bytes(len(c) - half)))


def relabel(folder):
    images = read_file(folder / "3.tfrecords")
    labels = [4 if k in (0, 1, 9) else 3 for k in range(len(images))]
    write_records(folder / "3.tfrecords", map(encode_example, images, labels))


def foreign_payload(folder):
    images = read_file(folder / "3.tfrecords")
    payloads = [encode_example(image, 3) for image in images]
    write_records(folder / "3.tfrecords", [b"something else", *payloads[1:]])


def no_label(folder):
    images = read_file(folder / "3.tfrecords")
    payloads = [encode_example(image, 3) for image in images]
    payloads[4] = payloads[4].replace(b"\x0a\x05label", b"\x0a\x05libel")
    write_records(folder / "3.tfrecords", payloads)


def undecodable(folder):
    images = read_file(folder / "3.tfrecords")
    images[6], images[8] = images[6][:200], b"text"
    write_records(folder / "3.tfrecords", [encode_example(image, 3) for image in images])


def remove(*class_ids):
    return lambda folder: [(folder / f"{k}.tfrecords").unlink() for k in class_ids]


def surplus(folder):
    for name in (".writing-x1", "007.tfrecords", "26.tfrecords", "3.tfrecords.tmp"):
        shutil.copy(folder / "0.tfrecords", folder / name)


def a_folder_for_a_file(folder):
    (folder / "3.tfrecords").unlink()
    (folder / "3.tfrecords").mkdir()


def a_dead_link(folder):
    (folder / "3.tfrecords").unlink()
    (folder / "3.tfrecords").symlink_to(folder / "gone")


def change_spec(**entries):
    return lambda folder: edit_json(folder / "dataset_spec.json", lambda raw: raw.update(entries))


def count_of(class_id, images):
    def change(raw):
        raw["images_per_class"][str(class_id)] = images

    return lambda folder: edit_json(folder / "dataset_spec.json", change)


DAMAGE = {
    cut_inside: r"^dtd/3\.tfrecords: the file ends inside record 29: it is truncated\.",
    cut_between: r"^dtd/3\.tfrecords: holds 28 records, but dataset_spec\.json says 30\.",
    repeat: r"^dtd/3\.tfrecords: holds 60 records, but dataset_spec\.json says 30\.",
    empty: r"^dtd/3\.tfrecords: holds 0 records, but dataset_spec\.json says 30\.",
    flip_contents: r"^dtd/3\.tfrecords: .* checksum in 3 of 30 images: 2–3, 7\.",
    flip_length: r"^dtd/3\.tfrecords: the length of record 5 fails its checksum",
    zero_tail: r"^dtd/3\.tfrecords: the length of record 10 fails its checksum",
    relabel: r"^dtd/3\.tfrecords: the label is 4, not 3, in 3 of 30 images: 0–1, 9\.",
    foreign_payload: r"^dtd/3\.tfrecords: there is no Example .* in 1 of 30 images: 0\.",
    no_label: r"^dtd/3\.tfrecords: there is no label in 1 of 30 images: 4\.",
    undecodable: r"^dtd/3\.tfrecords: the image does not decode in 2 of 30 images: 6, 8\.",
    remove(3): r"^dtd: class files are missing, 1 of 26: 3\.",
    remove(*range(5, 26), 1): r"^dtd: class files are missing, 22 of 26: 1, 5–25\.",
    surplus: r"^dtd: .* no class: \.writing-x1, 007\.\w+, 26\.tfrecords, 3\.tfrecords\.tmp\.",
    a_folder_for_a_file: r"^dtd/3\.tfrecords: cannot be read: Is a directory",
    a_dead_link: r"^dtd/3\.tfrecords: cannot be read: No such file",
    change_spec(name="fungi"): r"^dtd: holds the source 'fungi', not 'dtd'",
    change_spec(class_names={}): r"^dtd/dataset_spec\.json: ",
    count_of(3, 31): r"^dtd/3\.tfrecords: holds 30 records, but dataset_spec\.json says 31\.",
}


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


# ---- traffic signs ---------------------------------------------------------------------------


def write_signs(records, shuffled):
    """Three classes of four tracks each, as an old or a new converter writes them."""
    from io import BytesIO

    from PIL import Image

    sizes = {}
    for class_id in range(3):
        rng = np.random.default_rng(class_id)
        encoded = []
        for image in made_tracks(rng, 4):
            buffer = BytesIO()
            Image.fromarray(image).save(buffer, "JPEG")
            encoded.append(encode_example(buffer.getvalue(), class_id))
        if shuffled:
            np.random.RandomState(23).shuffle(encoded)
        path = records / "traffic_sign" / f"{class_id}.tfrecords"
        sizes[str(class_id)] = write_records(path, encoded)
    raw = {
        "__class__": "DatasetSpecification",
        "name": "traffic_sign",
        "classes_per_split": {"TRAIN": 0, "VALID": 0, "TEST": 3},
        "class_names": {k: f"0{k}.sign" for k in sizes},
        "images_per_class": sizes,
    }
    (records / "traffic_sign" / "dataset_spec.json").write_text(json.dumps(raw))


def test_old_conversions_of_traffic_signs(tmp_path):
    write_signs(tmp_path / "new", shuffled=True)
    assert faults_of(tmp_path / "new", ["traffic_sign"]) == []
    write_signs(tmp_path / "old", shuffled=False)
    (fault,) = faults_of(tmp_path / "old", ["traffic_sign"])
    assert fault.startswith("traffic_sign: the images lie in the order in which they were filmed")
    assert "(classes that show it alone: 0–2)" in fault


def test_one_old_file_among_new_ones(tmp_path):
    write_signs(tmp_path / "old", shuffled=False)
    write_signs(tmp_path / "new", shuffled=True)
    shutil.copy(*(tmp_path / age / "traffic_sign" / "1.tfrecords" for age in ("old", "new")))
    (fault,) = faults_of(tmp_path / "new", ["traffic_sign"])
    assert "(classes that show it alone: 1)" in fault


# ---- other layouts ---------------------------------------------------------------------------


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


def test_ranges():
    assert ranges([5, 0, 1, 2, 9, 8]) == "0–2, 5, 8–9"
    assert ranges(range(0, 50, 2), at_most=3) == "0, 2, 4, …"
    assert ranges([]) == ""
