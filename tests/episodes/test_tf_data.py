"""TensorFlow's tests, in a process of their own; and what is refused without or before it."""

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import episodes
from episodes import EpisodeReader, InputError, import_order
from episodes.tf_data import read_arrays

PROJECT = Path(__file__).parents[2]


@pytest.mark.skipif(not find_spec("tensorflow"), reason="the extra tf is not installed")
def test_with_tensorflow():
    """Its import order must not be decided by what other tests have imported."""
    settings = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-rA", "-W", "default"),
            "tests/episodes/in_tensorflow.py",
        ],
        check=False,
        cwd=PROJECT,
        env=settings | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert done.stdout.count("\nPASSED") == 14


def test_arrays_are_the_tensors_of_the_reader(miniature):
    reader = EpisodeReader(miniature, "cu_birds", "test", size=20)
    episode, arrays = reader[4], read_arrays(reader, np.int64(4))
    expected = [
        episode.support_images.permute(0, 2, 3, 1),
        episode.support_labels,
        torch.from_numpy(episode.plan.support_class_ids),
        episode.query_images.permute(0, 2, 3, 1),
        episode.query_labels,
        torch.from_numpy(episode.plan.query_class_ids),
    ]
    types = [np.float32, np.int32, np.int32] * 2
    for array, tensor, dtype in zip(arrays, expected, types, strict=True):
        assert array.dtype == dtype and np.array_equal(array, tensor.numpy())


def test_without_tensorflow_the_message_says_what_to_install(miniature, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # import raises
    with pytest.raises(InputError, match=r"not installed.*Run: pip install 'tensorflow-cpu"):
        episodes.tf_dataset(EpisodeReader(miniature, "dtd", "test"))


def installed(*names):
    return lambda name: ModuleSpec(name, None) if name in names else None


def test_tensorflow_before_pytorch_is_refused_where_it_would_crash(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    monkeypatch.setattr(import_order, "find_spec", installed("triton"))
    with pytest.raises(InputError, match=r"`import torchvision` before `import tensorflow`"):
        import_order.check_import_order()
    monkeypatch.setattr(import_order, "find_spec", installed())  # PyTorch for CPUs has none
    import_order.check_import_order()
    monkeypatch.setitem(sys.modules, "triton", ModuleType("triton"))
    monkeypatch.setattr(import_order, "find_spec", installed("triton"))
    import_order.check_import_order()
