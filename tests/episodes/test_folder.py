"""A folder of images as a source: the same sampler, plans and pixels; nothing is skipped."""

import errno
import io
import json
import os
import shutil
import sys
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from episodes import EpisodeReader, EpisodeSampler, ImageReader, InputError, Split
from episodes.folder import (
    default_sizes,
    list_folder,
    parse_own_source,
    sort_key,
    split_classes,
)
from episodes.loader import LabelledImages
from episodes.source import find_spec, open_source
from episodes.tfrecord import encode_example, write_records

FORMATS = {
    "a.jpg": "JPEG",
    "b.png": "PNG",
    "c.gif": "GIF",
    "d.bmp": "BMP",
    "E": "PNG",
    "f.JPG": "PNG",
}


def picture(seed, kind="PNG"):
    pixels = np.random.RandomState(seed).randint(0, 256, (9, 7, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def make_folder(path, classes=40, images=6):
    """Class folders with images in all four formats; two names do not tell the format."""
    for number in range(classes):
        folder = path / f"class {number:02d}"
        folder.mkdir(parents=True)
        for place, (name, kind) in enumerate(list(FORMATS.items())[:images]):
            (folder / name).write_bytes(picture(100 * number + place, kind))
    return path


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("own") / "flowers")


def source_of(folder):
    return f"my={folder}"


# ---- names -----------------------------------------------------------------------------------


def test_what_is_a_source_of_ones_own():
    assert parse_own_source("omniglot") is None
    name, folder = parse_own_source("my=/data/a=b")
    assert (name, str(folder)) == ("my", "/data/a=b")
    assert str(parse_own_source("my=~/x")[1]) == os.path.expanduser("~/x")  # noqa: PTH111


@pytest.mark.parametrize("source", ["=folder", "my=", "../x=folder", "a b=folder", ".my=folder"])
def test_a_name_that_is_none(source):
    with pytest.raises(InputError, match="is not a name and a folder"):
        parse_own_source(source)


@pytest.mark.parametrize("name", ["fungi", "ilsvrc_2012_v2"])
def test_names_of_the_benchmark_are_taken(name):
    with pytest.raises(InputError, match=f"'{name}' is a source of the benchmark"):
        parse_own_source(f"{name}=folder")


# ---- episodes --------------------------------------------------------------------------------


def test_the_same_episodes_as_converted_records(flowers, tmp_path):
    """The images written as official records under the same name give the same tensors."""
    own = open_source("", source_of(flowers), Split.TEST)
    spec = own.spec
    for class_id, count in enumerate(spec.images_per_class):
        images = own.read(class_id, np.arange(count))
        assert {label for _, label in images} == {None}
        write_records(
            tmp_path / "my" / f"{class_id}.tfrecords",
            (encode_example(image, class_id) for image, _ in images),
        )
    raw = {
        "__class__": "DatasetSpecification",
        "name": "my",
        "classes_per_split": {s.name: len(spec.split_classes[s]) for s in Split},
        "class_names": dict(enumerate(spec.class_names)),
        "images_per_class": dict(enumerate(spec.images_per_class)),
    }
    (tmp_path / "my" / "dataset_spec.json").write_text(json.dumps(raw))
    for split in Split:
        here = EpisodeReader("", source_of(flowers), split, seed=1, size=12)
        there = EpisodeReader(tmp_path, "my", split, seed=1, size=12)
        for index in range(3):
            assert here.plan(index).hash == there.plan(index).hash
            assert np.array_equal(here[index].support_images, there[index].support_images)
            assert np.array_equal(here[index].query_images, there[index].query_images)


def test_images_are_read_from_their_own_files(flowers):
    own = open_source("", source_of(flowers), Split.TRAIN)
    for class_id, name in enumerate(own.spec.class_names):
        for image, file in enumerate(sorted(FORMATS)):
            assert own.locate(class_id, image) == str(flowers / name / file)
            content = own.read(class_id, np.asarray([image]))[0][0]
            assert content == (flowers / name / file).read_bytes()


def test_plans_are_the_same_wherever_and_however_the_folder_lies(flowers, tmp_path):
    """Files made in another order, in another place, reached through a link."""
    copy = tmp_path / "elsewhere"
    for folder in sorted(flowers.iterdir(), reverse=True):
        (copy / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir(), reverse=True):
            shutil.copy(file, copy / folder.name / file.name)
    (tmp_path / "link").symlink_to(copy)
    readers = [
        EpisodeReader("", source_of(f), "test", size=8) for f in (flowers, copy, tmp_path / "link")
    ]
    for index in range(3):
        assert len({reader.plan(index).hash for reader in readers}) == 1
        first, *others = [reader[index].query_images for reader in readers]
        assert all(np.array_equal(first, other) for other in others)


def test_composed_and_decomposed_names_sort_alike():
    names = ["zebra", "éclair", "eclipse", "Ångström", "apple", "o\u0308l", "óle"]
    orders = [
        sorted((unicodedata.normalize(form, n) for n in names), key=sort_key)
        for form in ("NFC", "NFD")
    ]
    assert orders[0] == [unicodedata.normalize("NFC", name) for name in orders[1]]


def test_training_batches(flowers):
    images = LabelledImages("", source_of(flowers), "train", size=8)
    assert len(images.class_names) == 28 and len(images) == 28 * 6
    last = np.asarray([len(images) - 1])
    class_ids, numbers = images.locate(last)
    assert (images.labels(last)[0], class_ids[0], numbers[0]) == (27, 27, 5)
    assert images.reader.read(class_ids, numbers).shape == (1, 3, 8, 8)


# ---- splits ----------------------------------------------------------------------------------


def test_sizes_of_the_default_split():
    assert [default_sizes(n) for n in (345, 40, 20, 3, 1)] == [
        (241, 52), (28, 6), (14, 3), (2, 0), (0, 0),
    ]  # fmt: skip


@given(st.integers(1, 300), st.data())
def test_every_class_is_in_one_split(classes, data):
    train = data.draw(st.integers(0, classes))
    valid = data.draw(st.integers(0, classes - train))
    splits = split_classes(classes, train, valid)
    assert sorted(k for split in splits for k in split) == list(range(classes))
    assert [len(s) for s in splits[:2]] == [train, valid]
    assert splits[1] == sorted(splits[1]) and splits[2] == sorted(splits[2])


def test_the_rule_by_hand():
    # choice without replacement is the head of a permutation; the second call goes on in the
    # generator's stream.
    rng = np.random.RandomState(22)
    both = rng.choice(10, 8, replace=False)
    train = rng.choice(both, 7, replace=False)
    splits = split_classes(10, 7, 1)
    assert splits[0] == list(train)
    assert splits[1] == sorted(set(both) - set(train))
    assert splits[2] == sorted(set(range(10)) - set(both))


@pytest.mark.parametrize("source", ["aircraft", "dtd", "quickdraw"])
def test_the_rule_is_that_of_the_published_splits(official_spec, source):
    spec = official_spec(source)
    names = sorted(spec.class_names)
    train, valid, _ = (len(spec.split_classes[split]) for split in Split)
    drawn = [names[i] for part in split_classes(len(names), train, valid) for i in part]
    assert drawn == list(spec.class_names)


def test_a_splits_file_is_used_as_it_is(tmp_path):
    folder = make_folder(tmp_path / "own", classes=12)
    names = [f"class {i:02d}" for i in range(12)]
    splits = {"train": [], "valid": names[1::-1], "test": names[2:]}
    (folder / "splits.json").write_text(json.dumps(splits))
    spec = find_spec("", source_of(folder))
    assert spec.class_names == (names[1], names[0], *names[2:])
    assert spec.split_classes == {
        Split.TRAIN: range(0), Split.VALID: range(2), Split.TEST: range(2, 12),
    }  # fmt: skip
    assert EpisodeSampler(spec, "test").plan(0, 0).way >= 5


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ("{", r"splits\.json: does not list the classes"),
        ("[" * 100_000, r"splits\.json: does not list the classes"),
        ('{"train": []}', r"splits\.json: does not list the classes"),
        ('{"train": ["x"], "valid": ["class 00"], "test": []}',
         r"x \(without a class folder\); class 01, class 02 \(in no split\)"),
        ('{"train": ["class 00", "class 01"], "valid": ["class 00"], "test": ["class 02"]}',
         r"class 00 \(in more than one place\)"),
    ],
)  # fmt: skip
def test_broken_splits(tmp_path, splits, message):
    folder = make_folder(tmp_path / "own", classes=3)
    (folder / "splits.json").write_text(splits)
    with pytest.raises(InputError, match=message):
        find_spec("", source_of(folder))


# ---- what is out of place --------------------------------------------------------------------


def test_everything_out_of_place_is_named_in_one_message(tmp_path):
    folder = make_folder(tmp_path / "own", classes=3)
    one = folder / "class 00"
    (one / "notes.txt").write_text("BMW and others")
    (one / "notes.txt").write_text("not an image")
    (one / "scan.tiff").write_bytes(picture(0, "TIFF"))
    (one / "photo.webp").write_bytes(picture(0, "WEBP"))
    (one / ".hidden").write_bytes(picture(0))
    (one / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (one / "deeper").mkdir()
    (one / "gone.png").symlink_to(folder / "nowhere")
    (folder / "stray.png").write_bytes(picture(0))
    (folder / "split.json").write_text("{}")
    (folder / "LICENSE").write_text("as you like")
    (folder / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        ImageReader("", source_of(folder), "test")
    message = str(caught.value)
    for name in ("notes.txt", "scan.tiff", "photo.webp", ".hidden", "deeper", "gone.png"):
        assert f"class 00/{name}" in message
    assert "stray.png" in message and "split.json" in message
    assert "class folders with fewer than 2 images" in message and "episode: empty." in message
    assert "DS_Store" not in message and "LICENSE" not in message


def test_names_that_are_not_utf8(tmp_path):
    if sys.platform != "linux":
        pytest.skip("the file system refuses such names")
    folder = make_folder(tmp_path / "own", classes=3)
    with open(os.fsencode(folder / "class 00") + b"/\xff.png", "wb") as file:  # noqa: PTH123
        file.write(picture(0))
    with pytest.raises(InputError, match=r"not JPEG, .*udcff") as caught:
        find_spec("", source_of(folder))
    str(caught.value).encode()


def test_no_folder_and_no_classes(tmp_path):
    with pytest.raises(InputError, match="cannot be listed: No such file"):
        find_spec("", source_of(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no class folders"):
        find_spec("", source_of(tmp_path))


def test_too_few_classes_for_an_episode_is_said_by_the_sampler(tmp_path):
    folder = make_folder(tmp_path / "own", classes=6)
    with pytest.raises(InputError, match=r"my: the test split has 1 classes, but 5 .*splits\.json"):
        EpisodeReader("", source_of(folder), "test")


def test_every_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "own", classes=5)
    real = os.scandir

    def refuse(path):
        if str(path).endswith(("01", "03")):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"class 01: .*Permission denied.* class 03: ") as fault:
        find_spec("", source_of(folder))
    assert "class 02" not in str(fault.value)


@pytest.mark.parametrize("content", [b"", b"text", picture(1)[:60], picture(1, "WEBP")])
def test_a_file_that_does_not_decode_is_named(tmp_path, content):
    folder = make_folder(tmp_path / "own", classes=3)
    (folder / "class 01" / "b.png").write_bytes(content)
    reader = ImageReader("", source_of(folder), "test", size=8)
    class_id = reader.spec.class_names.index("class 01")
    place = sorted(FORMATS).index("b.png")
    with pytest.raises(InputError, match=r"class 01/b\.png: the image does not decode"):
        reader.read(np.asarray([class_id]), np.asarray([place]))


def test_a_file_that_went_away_is_named(tmp_path):
    folder = make_folder(tmp_path / "own", classes=3)
    source = open_source("", source_of(folder), Split.TEST)
    (folder / source.spec.class_names[0] / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"a\.jpg: cannot be read: No such file"):
        source.read(0, np.arange(6))


def test_a_fingerprint_follows_the_files(tmp_path):
    folder = make_folder(tmp_path / "own", classes=3)

    def fingerprint():
        return open_source("", source_of(folder), Split.TEST).fingerprint()

    seen = [fingerprint(), fingerprint()]
    assert seen[0] == seen[1]
    os.utime(folder / "class 01" / "a.jpg", ns=(1, 1))
    seen.append(fingerprint())
    (folder / "class 01" / "b.png").rename(folder / "class 01" / "c.png")
    seen.append(fingerprint())
    (folder / "splits.json").write_text(
        json.dumps({"train": [], "valid": [], "test": ["class 00", "class 01", "class 02"]})
    )
    seen.append(fingerprint())
    assert len(set(seen)) == 4
    source = open_source("", source_of(folder), Split.TEST)
    source.fingerprint()
    class_id = source.spec.class_names.index("class 01")
    source.read(class_id, np.arange(2))
    os.utime(folder / "class 01" / "a.jpg", ns=(2, 2))
    with pytest.raises(InputError, match=r"a\.jpg: has changed since this command began"):
        source.read(class_id, np.arange(2))


# ---- size ------------------------------------------------------------------------------------


def test_many_images_are_listed_quickly_and_kept_small(tmp_path):
    """10,000 hard links to one image: well under a second, some bytes per image."""
    image = tmp_path / "image.png"
    image.write_bytes(picture(0))
    for number in range(10):
        folder = tmp_path / "own" / f"{number}"
        folder.mkdir(parents=True)
        for name in range(1000):
            os.link(image, folder / f"{name:08d}.png")
    started = time.process_time()
    classes, faults = list_folder(tmp_path / "own")
    assert time.process_time() - started < 1
    assert not faults and [one.images for one in classes] == [1000] * 10
    assert all(len(one.packed) + one.starts.nbytes < 25 * 1000 for one in classes)
    assert classes[3].image_file(999).name == "00000999.png"
