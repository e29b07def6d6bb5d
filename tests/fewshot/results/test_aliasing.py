"""Measures of aliasing are found by the weights they are of, and by nothing else."""

import json
from pathlib import Path

import pytest

from fewshot.results.aliasing import find_aliasing, read_measures
from fewshot.results.collection import collect_runs
from tests.stored_rows import CARD


def step(folding: float, total: float = 2.0) -> dict:
    return {"total": total, "constant": 1.0, "folding": folding, "bins": [], "images": 3}


def measures(weights: str, same: float = 1.0) -> dict:
    found = {
        "steps": [{"path": "conv1", "place": "stem", "before": step(1.0), "after": step(0.5)}],
        "moved": {"0.5": {"same": [same, 1.0]}, "1": {"same": [0.0, 0.0]}},
    }
    other = {
        "steps": [{"path": "conv1", "place": "stem", "before": step(0.0), "after": step(0.5, 0.0)}],
        "moved": {"0.5": {"same": [0.0]}, "1": {"same": [1.0]}},
    }
    identity = {"backbone": "resnet18", "weights": weights}
    return {"identity": identity, "results": {"dtd": found, "omniglot": other}}


@pytest.mark.parametrize("place", ["aliasing-x", "run", "run/aliasing"])
def test_found_beside_the_run_and_in_it(tmp_path: Path, fill, place: str) -> None:
    fill(tmp_path / "run", {("sur", "dtd"): 0.5}, 2)
    (tmp_path / place).mkdir(exist_ok=True)
    for name, weights in (("a", "other"), ("b", CARD["weights"])):
        text = json.dumps(measures(weights))
        (tmp_path / place / f"{name}.json").write_text(text, encoding="utf-8")
    (found,) = find_aliasing(collect_runs(tmp_path / "run").runs[0])
    assert found.network == "resnet18" and found.sources == 2
    (only,) = found.steps
    assert (only.name, only.before, only.after) == ("conv1 (stem)", 0.25, 0.125)
    assert found.agreement == ((0.5, 50.0), (1.0, 50.0))


def test_only_of_the_same_weights(tmp_path: Path, fill) -> None:
    fill(tmp_path / "run", {("sur", "dtd"): 0.5}, 2)
    (tmp_path / "run" / "a.json").write_text(json.dumps(measures("other")), encoding="utf-8")
    assert find_aliasing(collect_runs(tmp_path / "run").runs[0]) == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"identity": {"weights": 1}, "results": {"a": {}}}', "NAN"]
)
def test_other_files_are_none(tmp_path: Path, text: str) -> None:
    if text == "NAN":
        text = json.dumps(measures("w", float("nan")))
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    assert list(read_measures(tmp_path / "x.json")) == []
