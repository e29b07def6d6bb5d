"""What users have instead of the raw data: one message each, and nothing written."""

import gzip
import io
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import scipy.io
from PIL import Image

from episodes import InputError, load_spec
from episodes.convert import open_raw
from episodes.convert.conversion import convert
from episodes.convert.pickled import read_pickled
from episodes.convert.source import Options
from episodes.records import Records
from tests.episodes.convert.raw_data import encoded
from tests.episodes.convert.raw_lists import python2_pickle
from tests.episodes.convert.raw_trees import MAKERS


def run(source, raw, records, duplicates=()):
    return convert(open_raw(source, raw, records, Options(tuple(duplicates))))


def refusal(source, raw, records):
    """The message, after which nothing is finished."""
    with pytest.raises(InputError) as caught:
        run(source, raw, records)
    assert not list(records.rglob("dataset_spec.json"))
    assert caught.value.remedy
    return str(caught.value).replace(f"{raw}/", "")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Raw data of every source, by name."""
    folder = tmp_path_factory.mktemp("pristine")
    return {source: make().write(folder / source) for source, make in MAKERS.items()}


@pytest.fixture
def raw(pristine, tmp_path):
    """A copy that may be damaged."""

    def copy(source):
        shutil.copytree(pristine[source], tmp_path / "raw", copy_function=os.link)
        return tmp_path / "raw"

    return copy


def replace(path, content):
    assert path.exists()
    path.unlink()  # it is a link to the pristine file
    path.write_bytes(content)


@pytest.mark.parametrize("source", MAKERS)
def test_not_there(source, tmp_path):
    message = refusal(source, tmp_path, tmp_path / "records")
    assert f" of {source} is not there: " in message
    assert "Download " in message and " from http" in message


@pytest.mark.parametrize(
    ("source", "inside"),
    [
        ("dtd", "dtd/dtd/images"),
        ("cu_birds", "cu_birds/CUB_200_2011/images"),
        ("aircraft", "aircraft/fgvc-aircraft-2013b/data/images"),
        ("omniglot", "omniglot/images_background/Tagalog"),
        ("traffic_sign", "traffic_sign/GTSRB/Final_Training/Images/00001"),
        ("ilsvrc_2012", "ilsvrc_2012/train/n01440764"),
    ],
)
def test_too_deep(source, inside, pristine, tmp_path):
    with pytest.raises(InputError, match=f"is a folder inside {source}.*--raw /"):
        run(source, pristine[source] / inside, tmp_path)


REMOVED = {
    "dtd/dtd/images/texture 01.x": "46 classes of dtd are there, not 47",
    "cu_birds/CUB_200_2011/images/007.Bird_49": "there is no folder 007.Bird_49 in it",
    "aircraft/fgvc-aircraft-2013b/data/images/0000300.jpg": "there is no images/0000300.jpg in it",
    "aircraft/fgvc-aircraft-2013b/data/images_variant_test.txt": "no images_variant_test.txt",
    "omniglot/images_background/Alphabet 03": "images_background: holds 29 alphabets, not 30",
    "omniglot/images_evaluation": "images_evaluation.zip of ",
    "traffic_sign/GTSRB/Final_Training/Images/00017": "there is no folder 00017 in it",
    "vgg_flower/jpg/image_00100.jpg": "there is no jpg/image_00100.jpg in it",
    "vgg_flower/imagelabels.mat": "imagelabels.mat of ",
    "fungi/val.json": "train_val_annotations.tgz of ",
    "quickdraw/thing 30.npy": "344 classes of quickdraw are there, not 345",
    "mscoco/train2017/000000000014.jpg": "there is no train2017/000000000014.jpg in it",
    "ilsvrc_2012/train/n10007919": "999 classes of ilsvrc_2012 are there, not 1000",
    "ilsvrc_2012/words.txt": "words.txt of ",
    "mnist/t10k-labels-idx1-ubyte.gz": "t10k-labels-idx1-ubyte.gz of ",
}


@pytest.mark.parametrize("path", REMOVED)
def test_something_is_missing(path, raw, tmp_path):
    source = path.partition("/")[0]
    folder = raw(source)
    target = folder / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert REMOVED[path] in refusal(source, folder, tmp_path / "records")


def mat(**entries):
    stream = io.BytesIO()
    scipy.io.savemat(stream, entries)
    return stream.getvalue()


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def idx(kind, count, content):
    header = b"\0\0\x08" + kind + count.to_bytes(4, "big")
    return gzip.compress(header + content)


def cifar_batch(**changed):
    entries = {"data": np.zeros((1, 3072), np.uint8), "labels": [1], "filenames": ["a.png"]}
    return python2_pickle(entries | changed)


BATCH, META = (f"raw/cifar-10-batches-py/{name}" for name in ("test_batch", "batches.meta"))
BOX = "aircraft/fgvc-aircraft-2013b/data/images_box.txt"
DAMAGED = [
    (
        "dtd/dtd/images/banded/banded_0001.jpg",
        b"<html>",
        "banded_0001.jpg: the image cannot be",
    ),
    ("cu_birds/CUB_200_2011/classes.txt", b"1 001.A b\n", "a line that is not a number and a name"),
    ("cu_birds/CUB_200_2011/classes.txt", b"\xff\xfe1", "classes.txt: is not text"),
    (BOX, b"0000000 1 2 3\n", "says '1 2 3' of image 0000000, not four whole numbers"),
    (BOX, b"0000000 5 2 5 9\n", "which is an empty box"),
    (BOX, b"0000000 1 2 3 4\n", r"images_box.txt: has no box of 299 images: "),
    ("vgg_flower/imagelabels.mat", b"text", "is not a MATLAB file with `labels`"),
    ("vgg_flower/imagelabels.mat", mat(other=[1]), "is not a MATLAB file with `labels`"),
    ("vgg_flower/imagelabels.mat", mat(labels=[[1, 103]]), "labels that are not 1 to 102"),
    (
        "vgg_flower/imagelabels.mat",
        mat(labels=[[1, 2]]),
        "100 classes of vgg_flower have no",
    ),
    ("fungi/train.json", b"{", "train.json: does not list categories, images"),
    ("fungi/train.json", b'{"categories": [], "images": [], "annotations": []}', "not number the"),
    ("quickdraw/thing 30.npy", npy(np.zeros((2, 783), bool)), r"bool of shape \(2, 783\), not bit"),
    ("quickdraw/thing 30.npy", npy(np.zeros((2, 784))), "holds float64 of shape"),
    ("quickdraw/thing 30.npy", npy(np.zeros((0, 784), bool)), "have no images: thing 30"),
    ("quickdraw/thing 30.npy", npy(np.zeros((9, 784), bool))[:-5], "is not a whole .npy file"),
    (
        "quickdraw/thing 30.npy",
        npy(np.array([[{}] * 784]), allow_pickle=True),
        "it holds Python objects",
    ),
    ("mscoco/annotations/instances_train2017.json", b'{"categories": []}', "no list annotations"),
    ("mscoco/annotations/instances_train2017.json", b"[]", "there is no '{' at character 0"),
    ("mnist/t10k-images-idx3-ubyte.gz", b"\x1f\x8b", "is not a whole IDX file of 3 dimensions"),
    ("mnist/t10k-labels-idx1-ubyte.gz", b"text", "is not a whole IDX file of 1 dimensions"),
    ("ilsvrc_2012/words.txt", b"n00001740 entity", "words.txt has the line 'n00001740 entity'"),
    ("ilsvrc_2012/wordnet.is_a.txt", b"n1 n2 n3", "has the line 'n1 n2 n3', not two nodes"),
    ("ilsvrc_2012/wordnet.is_a.txt", b"", "is_a.txt: WordNet's node n02075296 is not above"),
    (
        "cu_birds/CUB_200_2011/classes.txt",
        b"1 a\n2 b\n3 a\n",
        "classes.txt: names 1 classes twice: a",
    ),
    (
        BOX.replace("images_box", "variants"),
        b"x 1\nx 1\n",
        "variants.txt: names 1 classes twice: x 1",
    ),
    ("fungi/val.json", b'{"categories": [{"id": 1e999}]}', "val.json: does not list categories"),
    ("quickdraw/thing 30.npy", npy(np.zeros((9, 784), bool)).replace(b"}", b" ", 1), "not a whole"),
    ("mnist/t10k-labels-idx1-ubyte.gz", idx(b"\1", 130, bytes([12] * 130)), "digits up to 12"),
    (BATCH, python2_pickle({"labels": [1, 2]}), "test_batch: is not a file of CIFAR-10"),
    (BATCH, cifar_batch(labels=[11]), "test_batch: it has labels that are not 0 to 9"),
    (BATCH, cifar_batch(labels=["1"]), "its pixels, labels or names of files are something else"),
    (BATCH, cifar_batch(filenames=["a", "b"]), "3072 bytes, 1 labels, 2 names do not agree"),
    (META, python2_pickle({"label_names": [1] * 10}), "names of labels are no list of texts"),
    (META, python2_pickle({"label_names": ["a"] * 10}), "batches.meta: names 1 classes twice: a"),
    (META, python2_pickle({"label_names": ["a", "b"]}), "2 classes of cifar10 are there, not 10"),
]


@pytest.mark.parametrize(("path", "content", "message"), DAMAGED, ids=range(len(DAMAGED)))
def test_something_is_broken(path, content, message, raw, tmp_path):
    source = "cifar10" if path in (BATCH, META) else path.partition("/")[0]
    folder = raw(source)
    replace(folder / path, content)
    import re

    assert re.search(message, refusal(source, folder, tmp_path / "records"))


def test_imagenet_skips_what_is_no_image_and_says_so(raw, tmp_path):
    folder = raw("ilsvrc_2012")
    broken = folder / "ilsvrc_2012/train/n01440764/n01440764_10.JPEG"
    replace(broken, b"<html>")
    done = run("ilsvrc_2012", folder, tmp_path / "records")
    (text,) = done.skipped
    assert text.startswith(f"{broken}: ") and done.images == 1999
    spec = json.loads((done.folder / "dataset_spec.json").read_text())
    assert spec["images_per_class"]["TRAIN"]["n01440764"] == 1
    assert json.loads((done.folder / "num_leaf_images.json").read_text())["n01440764"] == 1
    assert json.loads((done.folder / "conversion.json").read_text())["skipped"] == [text]


def test_validation_images_in_class_folders_are_not_taken_for_train_images(raw, tmp_path):
    folder = raw("ilsvrc_2012") / "ilsvrc_2012"
    for synset in (folder / "train").iterdir():
        (folder / "ILSVRC2012_val" / synset.name).mkdir(parents=True)
        first = min(synset.iterdir())
        os.link(first, folder / "ILSVRC2012_val" / synset.name / "ILSVRC2012_val_00000001.JPEG")
    found = open_raw("ilsvrc_2012", folder, tmp_path, Options()).folder
    assert found.where == str(folder / "train")


def test_a_synset_without_any_image_is_an_error(raw, tmp_path):
    folder = raw("ilsvrc_2012")
    for path in (folder / "ilsvrc_2012/train/n01440764").iterdir():
        replace(path, b"<html>")
    message = refusal("ilsvrc_2012", folder, tmp_path / "records")
    assert "no image could be read of these classes: n01440764" in message


def test_mscoco_skips_what_is_no_image_and_says_so(raw, tmp_path):
    folder = raw("mscoco")
    broken = folder / "mscoco/train2017/000000000014.jpg"
    boxes = json.loads((folder / "mscoco/annotations/instances_train2017.json").read_text())
    numbers = [k for k, one in enumerate(boxes["annotations"]) if one["image_id"] == 14]
    replace(broken, encoded(np.zeros((40, 60, 3), np.uint8))[:300])
    done = run("mscoco", folder, tmp_path / "records")
    said = [text for text in done.skipped if str(broken) in text]
    assert len(said) == len(numbers) > 3
    assert all(any(f"annotation {k}:" in text for text in said) for k in numbers)
    assert done.images == 600 - len(done.skipped)


@pytest.mark.parametrize("lines", ["# comment\nn01440764/n01440764_10.JPEG   # x/y_1.jpg\n\n"])
def test_duplicates_are_dropped(lines, pristine, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/ImageNet_CUBirds_duplicates.txt").write_text(lines)
    done = run("ilsvrc_2012", pristine["ilsvrc_2012"], tmp_path / "r", [tmp_path / "lists"])
    assert (done.images, done.skipped) == (1999, ())
    assert "the 1 images of your duplicate lists are left out" in done.notes[0]
    plain = run("ilsvrc_2012", pristine["ilsvrc_2012"], tmp_path / "plain")
    assert plain.images == 2000 and "no duplicate lists were given" in plain.notes[0]


@pytest.mark.parametrize("text", ["", "n01440764\n", "x.jpg\n"])
def test_broken_lists_of_duplicates(text, pristine, tmp_path):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=r"list\.txt: is not a list of names"):
        run("ilsvrc_2012", pristine["ilsvrc_2012"], tmp_path / "r", [tmp_path / "list.txt"])


@pytest.mark.parametrize("source", ["dtd", "cu_birds", "vgg_flower", "fungi"])
def test_a_photograph_that_is_cut_off_is_named(source, raw, pristine, tmp_path):
    """Its bytes would have been kept: only the last two tell that some are missing."""
    folder = raw(source)
    path = next(path for path in sorted(folder.rglob("*.[jJ]*")) if is_kept(path))
    replace(path, path.read_bytes()[:-9])
    message = refusal(source, folder, tmp_path / "records")
    assert f"{path.name}: the image cannot be decoded (image file is truncated" in message


def test_bytes_behind_the_end_of_a_photograph_are_kept(raw, tmp_path):
    folder = raw("dtd")
    path = next(path for path in sorted(folder.rglob("banded*.jpg")) if is_kept(path))
    content = path.read_bytes() + b"by a camera"
    replace(path, content)
    done = run("dtd", folder, tmp_path / "records")
    spec = load_spec(done.folder)
    class_id = spec.class_names.index("banded")
    split = next(split for split, ids in spec.split_classes.items() if class_id in ids)
    found = Records(spec, split).read(class_id, np.arange(spec.images_per_class[class_id]))
    assert content in [image for image, _ in found]


def is_kept(path):
    with Image.open(path) as image:
        return (image.format, image.mode) == ("JPEG", "RGB")


@pytest.mark.parametrize("name", ["Thumbs.db", ".DS_Store", "._banded_0001.jpg"])
def test_what_file_managers_leave_in_class_folders(name, raw, pristine, tmp_path):
    folder = raw("dtd")
    (folder / "dtd/dtd/images/banded" / name).write_bytes(b"junk")
    (folder / "__MACOSX/dtd/images/banded").mkdir(parents=True)
    (folder / "__MACOSX/dtd/images/dotted").mkdir()
    before = run("dtd", pristine["dtd"], tmp_path / "before")
    assert run("dtd", folder, tmp_path / "records").images == before.images


def test_any_other_file_in_a_class_folder_is_named(raw, tmp_path):
    folder = raw("dtd")
    (folder / "dtd/dtd/images/banded/notes.txt").write_text("mine")
    message = refusal("dtd", folder, tmp_path / "records")
    assert "banded/notes.txt: the image cannot be decoded" in message


def test_half_downloaded(tmp_path):
    raw = MAKERS["dtd"]().pack(tmp_path / "raw")
    path = raw / "dtd-r1.0.1.tar.gz"
    os.truncate(path, path.stat().st_size // 2)
    message = refusal("dtd", raw, tmp_path / "records")
    assert message.startswith("dtd-r1.0.1.tar.gz: is not a whole archive")


# ---- pickles are read, not run -----------------------------------------------------------------


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_is_not_run(protocol, tmp_path):
    path = str(tmp_path / "owned")
    content = pickle.dumps({"labels": [1, 2], "bomb": Bomb(path)}, protocol)
    assert pickle.loads(content) and os.path.exists(path)  # noqa: PTH110
    os.rmdir(path)  # noqa: PTH106
    with pytest.raises(ValueError, match="not a pickle of plain data"):
        read_pickled(content)
    assert not os.path.exists(path)  # noqa: PTH110


def test_what_python_2_pickled():
    entries = {"labels": [3, 1], "data": np.arange(600, dtype=np.uint8).reshape(2, 300)}
    found = read_pickled(python2_pickle(entries | {"names": ["a", "b" * 300]}))
    assert found == {
        "labels": [3, 1],
        "data": entries["data"].tobytes(),
        "names": ["a", "b" * 300],
    }
    loaded = pickle.loads(python2_pickle(entries), encoding="latin-1")
    assert np.array_equal(loaded["data"], entries["data"])  # the pickle is one


NO_DICTIONARIES = [b"", b"text", b"\x80\x02].", b"\x80\x02}", pickle.dumps(3)]


@pytest.mark.parametrize("content", [*NO_DICTIONARIES, pickle.dumps({((),): 1})])
def test_no_pickle_of_a_dictionary(content):
    with pytest.raises(ValueError, match=r"pickle|truncated|exhausted"):
        read_pickled(content)
