"""TensorFlow reads the records of every source: in a process of its own, where it is installed.

`$TENSORFLOW_PYTHON` names an interpreter that has it; otherwise this one is tried.
"""

import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from episodes import load_spec
from episodes.convert import CONVERTERS, open_raw
from episodes.convert.conversion import convert
from episodes.convert.source import Options
from tests.episodes.convert.raw_trees import MAKERS

PYTHON = os.environ.get("TENSORFLOW_PYTHON") or (
    sys.executable if importlib.util.find_spec("tensorflow") else None
)
RAW = {source: source for source in MAKERS} | {"ilsvrc_2012_v2": "ilsvrc_2012"}
SCRIPT = """
import hashlib, json, sys
import tensorflow as tf
features = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
}
found = {}
for source, files in json.load(sys.stdin).items():
    found[source] = []
    for record in tf.data.TFRecordDataset(files):
        raw = tf.train.Example.FromString(record.numpy())
        assert set(raw.features.feature) == set(features), source
        one = tf.io.parse_single_example(record, features)
        image = one["image"].numpy()
        pixels = tf.io.decode_image(image, channels=3, expand_animations=False)
        digest = hashlib.sha256(image).hexdigest()
        found[source].append([digest, int(one["label"]), list(pixels.shape)])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def made():
    """Raw data by their maker, which two sources share."""
    return {source: MAKERS[source]() for source in MAKERS}


@pytest.fixture(scope="module")
def specs(made, tmp_path_factory):
    """The records of all sources."""
    folder = tmp_path_factory.mktemp("all")
    for source in MAKERS:
        made[source].write(folder / "raw" / source)
    found = {}
    for source in CONVERTERS:
        raw = open_raw(source, folder / "raw" / RAW[source], folder / "records", Options())
        found[source] = load_spec(convert(raw).folder)
    return found


@pytest.fixture(scope="module")
def read(specs):
    """What TensorFlow reads of each source: digest, label and shape, class after class."""
    if PYTHON is None:
        pytest.skip("TensorFlow is not installed")
    files = {
        source: [str(spec.class_file(k)) for k in range(len(spec.class_names))]
        for source, spec in specs.items()
    }
    answer = subprocess.run(
        [PYTHON, "-c", SCRIPT],
        check=True,
        input=json.dumps(files),
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )
    return json.loads(answer.stdout.splitlines()[-1])


@pytest.mark.skipif(PYTHON is None, reason="TensorFlow is not installed")
@pytest.mark.parametrize("source", CONVERTERS)
def test_tensorflow_reads_every_record(source, specs, made, read):
    records = made[RAW[source]].records
    assert read[source] == [
        [hashlib.sha256(image).hexdigest(), class_id, shape_of(image)]
        for class_id, name in enumerate(specs[source].class_names)
        for image in records[name]
    ]


def shape_of(image):
    return list(np.asarray(Image.open(io.BytesIO(image))).shape)
