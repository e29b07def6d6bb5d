"""Small evaluations by the command line, and what their stores hold."""

import subprocess
import sys
from pathlib import Path

import pytest

from fewshot.backbones import build_backbone
from fewshot.checkpoint import Card, save_checkpoint
from fewshot.results import RowStore

PROJECT = Path(__file__).resolve().parents[3]
HEADS = ["prototypical", "finetune:steps=5", "sur:steps=3", "finetune:layers=all,steps=2"]


def write_backbone(path, name="resnet18", seed=0):
    """A checkpoint of a network as it is initialised."""
    card = Card(name, "none", "ilsvrc_2012", "train", ("a", "b"), 32, "official", "md-v1", seed, {})
    save_checkpoint(path, build_backbone(name, 2, seed), card)
    return path


def command(miniature, checkpoint, output, *more):
    """The command line of a small evaluation."""
    flags = ["--records", miniature, "--checkpoint", checkpoint, "--backbone", "resnet18"]
    flags += ["--image-size", 32, "--device", "cpu", "--episodes", 6, "--threads", 1]
    flags += ["--sources", "dtd", "vgg_flower", "--heads", *HEADS, "--output", output, *more]
    return [sys.executable, str(PROJECT / "run_meta_dataset.py"), *map(str, flags)]


def carry_out(*arguments):
    """Run the command; its output and errors."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def rows(folder):
    """Every row, but for the time it took."""
    with RowStore(folder / "rows.sqlite", read_only=True) as store:
        found = [vars(row) | {"seconds": 0} for row in store.rows()]
        (run,) = store.runs()
    return run.id, run.ingredients, found


@pytest.fixture(scope="session")
def alone(miniature, tmp_path_factory):
    """A backbone, and the folder of a run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    checkpoint = write_backbone(folder / "resnet18.safetensors")
    carry_out(miniature, checkpoint, folder / "run")
    return checkpoint, folder / "run"
