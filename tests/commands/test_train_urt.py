"""`train-urt` as a user calls it, and its attention in an evaluation."""

import shutil

import pytest

from fewshot.results import RowStore
from run_meta_dataset import main

COMMON = ["--image-size", "32", "--device", "cpu", "--features", "none"]


@pytest.fixture(scope="module")
def checkpoints(miniature, tmp_path_factory):
    """One network of a short training, twice."""
    folder = tmp_path_factory.mktemp("urt")
    flags = ["--epochs", "1", "--batch-size", "64", "--episodes", "1", "--sources", "dtd"]
    command = ["--records", str(miniature), *COMMON, *flags, "--heads", "prototypical"]
    assert main([*command, "--backbone", "resnet18", "--output", str(folder / "run")]) == 0
    first = folder / "run" / "resnet18.safetensors"
    shutil.copy(first, folder / "second.safetensors")
    return [str(first), str(folder / "second.safetensors")]


def test_attention_is_trained_and_used(miniature, checkpoints, tmp_path, capsys):
    out = str(tmp_path / "urt.safetensors")
    flags = ["--records", str(miniature), *COMMON, "--checkpoints", *checkpoints]
    few = ["--sources", "dtd", "omniglot", "--backbones", "resnet18"]
    assert main(["train-urt", *flags, *few, "--episodes", "3", "--out", out]) == 0
    assert f"{out}: attention over 2 backbones, 3 episodes" in capsys.readouterr().out
    output = ["--output", str(tmp_path / "run"), "--episodes", "2", "--sources", "dtd"]
    assert main([*flags, "--backbone", "resnet18", "--heads", f"urt:weights={out}", *output]) == 0
    with RowStore(tmp_path / "run" / "rows.sqlite") as store:
        (label,) = {row.head for row in store.rows()}
    assert label.startswith("urt:weights=")


def test_one_backbone_is_refused(miniature, checkpoints, tmp_path, capsys):
    flags = ["--records", str(miniature), *COMMON, "--checkpoints", checkpoints[0]]
    assert main(["train-urt", *flags, "--out", str(tmp_path / "urt.safetensors")]) == 2
    assert "needs two backbones" in capsys.readouterr().err
