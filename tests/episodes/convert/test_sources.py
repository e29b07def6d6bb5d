"""Every converter, from folders and from archives: splits, bytes, order, specification."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes import Split, load_spec
from episodes.check import check
from episodes.convert import CONVERTERS, open_raw
from episodes.convert.conversion import convert
from episodes.convert.source import Options
from episodes.records import Records
from tests.episodes.convert.raw_data import SPLITS
from tests.episodes.convert.raw_lists import pack_imagenet
from tests.episodes.convert.raw_trees import MAKERS

RAW = {source: source for source in MAKERS} | {"ilsvrc_2012_v2": "ilsvrc_2012"}
FORMS = ("folders", "archives")


@pytest.fixture(scope="module", params=RAW)
def source(request):
    return request.param


@pytest.fixture(scope="module")
def made(source):
    made = MAKERS[RAW[source]]()
    if source == "ilsvrc_2012_v2":
        made.splits = {"train": sorted(made.records), "valid": [], "test": []}
    return made


@pytest.fixture(scope="module", params=FORMS)
def raw(request, made, source, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"raw-{source}")
    if request.param == "folders":
        return made.write(folder)
    made.pack(folder)
    if source.startswith("ilsvrc"):
        for path in folder.glob("*.JPEG"):
            path.unlink()
        pack_imagenet(made, folder)
    return folder


@pytest.fixture(scope="module")
def converted(raw, source, tmp_path_factory):
    records = tmp_path_factory.mktemp(f"records-{source}")
    return convert(open_raw(source, raw, records, Options()))


def test_the_table_is_tested():
    assert set(RAW) == set(CONVERTERS)


def test_splits_and_names(converted, made):
    spec = load_spec(converted.folder)
    assert spec.name == converted.folder.name == converted.source
    found = {
        split.value: [spec.class_names[k] for k in spec.split_classes[split]] for split in Split
    }
    assert {split: found[split] for split in SPLITS} == made.splits


def test_every_record(converted, made):
    """Bytes, order and labels of all records, read by the project's own reader."""
    spec = load_spec(converted.folder)
    for split in Split:
        if not spec.split_classes[split]:
            continue
        records = Records(spec, split)
        for class_id in spec.split_classes[split]:
            expected = made.records[spec.class_names[class_id]]
            assert spec.images_per_class[class_id] == len(expected)
            found = records.read(class_id, np.arange(len(expected)))
            assert [label for _, label in found] == [class_id] * len(expected)
            for (image, _), wanted in zip(found, expected, strict=True):
                assert np.array_equal(pixels_of(image), pixels_of(wanted))
                assert image == wanted


def pixels_of(image):
    return np.asarray(Image.open(io.BytesIO(image)))


def test_the_records_are_sound(converted):
    (audit,) = check(converted.folder.parent, [converted.source], deep=True)
    assert not audit.faults
    assert (audit.images, audit.files) == (converted.images, converted.classes)


def test_skipped_images(converted, source):
    """Only boxes without a pixel are skipped in this data."""
    assert len(converted.skipped) == (12 if source == "mscoco" else 0)
    assert all("holds no pixel" in text for text in converted.skipped)


def test_nothing_is_left_over(converted):
    names = {path.name for path in converted.folder.iterdir()}
    files = {f"{k}.tfrecords" for k in range(converted.classes)}
    extra = {"num_leaf_images.json"} if "ilsvrc" in converted.source else set()
    assert names - {".index"} == files | extra | {"dataset_spec.json", "conversion.json"}
    (splits,) = converted.folder.parent.glob("splits/*")
    assert splits.name == f"{converted.source}_splits.json"


def test_the_archives_are_untouched(raw, converted):
    assert not {path for path in raw.rglob("*") if path.is_dir() and path.name.startswith(".")}
    assert isinstance(converted.folder, Path)
