"""The study of plain against anti-aliased networks, from training to table, on a tiny budget."""

import csv
import importlib.util
from pathlib import Path

import pytest

import fewshot.plots
from fewshot.results.frames import load

PLACE = Path(__file__).parents[2] / "benchmarks" / "aliasing.py"


@pytest.fixture(scope="module")
def study():
    specification = importlib.util.spec_from_file_location("aliasing_study", PLACE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_interval_over_seeds_by_hand(study):
    # Student's t of one degree of freedom at 97.5 %: 12.706; standard error of 1 and 3: 1.
    assert study.over_seeds([1.0, 3.0]) == "+2.0 ± 12.7"
    assert study.over_seeds([-0.5]) == "-0.5"


def test_a_tiny_study(study, tmp_path, miniature, monkeypatch):
    monkeypatch.setattr(fewshot.plots, "can_plot", lambda: False)  # figures take most of the time
    tiny = study.Study(
        out=tmp_path, backbone="four_layer_convnet", seeds=(3,), heads=("prototypical",),
        epochs=1, image_size=32, episodes=2, images=2, records=miniature,
        sources=("dtd", "omniglot"),
    )  # fmt: skip
    study.carry_out(tiny)
    grid = study.report(tiny)
    grid.write(tmp_path, "study")
    with (tmp_path / "study.csv").open(newline="") as file:
        rows = {row["Measure"]: row for row in csv.DictReader(file)}
    assert [*rows] == [
        "energy that folds, mean of steps",
        "same guess, random shifts",
        "cosine of features",
        "accuracy, prototypical",
    ]
    folded = rows["energy that folds, mean of steps"]
    assert float(folded[tiny.names[1]]) < float(folded[tiny.names[0]])
    assert "1 seeds" in grid.title and "means over 2 sources" in grid.notes[0]
    means = {}
    for name in tiny.names:
        folders = [tiny.run_folder(name, seed) for seed in tiny.seeds]
        means[name] = load(*folders).episodes["accuracy"].mean()  # as many of every source
        assert float(rows["accuracy, prototypical"][name]) == pytest.approx(
            100 * means[name], abs=0.06
        )
    change = rows["accuracy, prototypical"]["difference, seeds"]
    expected = 100 * (means[tiny.names[1]] - means[tiny.names[0]])
    assert float(change) == pytest.approx(expected, abs=0.06)
    # A study that was finished computes nothing again.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(before) == 2
    study.carry_out(tiny)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
