"""Every configuration file is an experiment, and says in its header what it is."""

from pathlib import Path

import pytest

from commands.evaluate import parse

PROJECT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((PROJECT / "configs").rglob("*.y*ml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_loads_and_has_a_header(path):
    assert parse(["--config", str(path), "--records", "x"], "run_meta_dataset.py").config == path
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    for word in ("command:", "time:", "expect:"):
        assert any(line.startswith(f"# {word}") for line in header)


def test_there_is_one_per_setting_of_the_benchmark():
    assert {path.stem for path in CONFIGS} >= {
        "miniature",
        "meta_dataset_imagenet",
        "meta_dataset_all",
    }
