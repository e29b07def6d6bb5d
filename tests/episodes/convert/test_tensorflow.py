"""TensorFlow reads the records: in a process of its own, where it is installed.

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
from episodes.convert import open_raw
from episodes.convert.conversion import convert
from episodes.convert.source import Options
from tests.episodes.convert.raw_trees import MAKERS

PYTHON = os.environ.get("TENSORFLOW_PYTHON") or (
    sys.executable if importlib.util.find_spec("tensorflow") else None
)
SCRIPT = """
import hashlib, json, sys
import tensorflow as tf
features = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
}
found = {}
for path in sys.argv[1:]:
    found[path] = []
    for record in tf.data.TFRecordDataset(path):
        raw = tf.train.Example.FromString(record.numpy())
        assert set(raw.features.feature) == set(features), path
        one = tf.io.parse_single_example(record, features)
        image = one["image"].numpy()
        pixels = tf.io.decode_image(image, channels=3, expand_animations=False)
        digest = hashlib.sha256(image).hexdigest()
        found[path].append([digest, int(one["label"]), list(pixels.shape)])
print(json.dumps(found))
"""


@pytest.mark.skipif(PYTHON is None, reason="TensorFlow is not installed")
@pytest.mark.parametrize("source", ["omniglot", "aircraft", "traffic_sign", "mscoco", "cifar10"])
def test_tensorflow_reads_every_record(source, tmp_path):
    made = MAKERS[source]()
    raw = made.write(tmp_path / "raw")
    done = convert(open_raw(source, raw, tmp_path / "records", Options()))
    spec = load_spec(done.folder)
    files = [str(spec.class_file(k)) for k in range(len(spec.class_names))]
    answer = subprocess.run(
        [PYTHON, "-c", SCRIPT, *files],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )
    found = json.loads(answer.stdout.splitlines()[-1])
    for class_id, (name, file) in enumerate(zip(spec.class_names, files, strict=True)):
        expected = [
            [hashlib.sha256(image).hexdigest(), class_id, shape_of(image)]
            for image in made.records[name]
        ]
        assert found[file] == expected


def shape_of(image):
    return list(np.asarray(Image.open(io.BytesIO(image))).shape)
