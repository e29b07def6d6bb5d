"""What was measured as tables and figures, from numbers worked out by hand."""

import csv
import io

import pytest
import torch

from episodes.loader import LabelledImages
from fewshot.aliasing.figures import draw_all
from fewshot.aliasing.measurement import Measure, measure
from fewshot.aliasing.report import agreement_grid, energy_grid, over_sources
from fewshot.aliasing.spectrum import BINS
from fewshot.backbones import build_backbone


def spectrum(folding, total=10.0, constant=2.0):
    bins = [total / BINS] * BINS
    return {"total": total, "constant": constant, "folding": folding, "bins": bins, "images": 2}


def measured(filtered, same):
    step = {"path": "pool.0" if filtered else "pool", "place": "pool", "size": [8, 8]}
    step |= {"stride": [2, 2], "filter": "binomial3" if filtered else None}
    step |= {"before": spectrum(4.0), "after": spectrum(1.0 if filtered else 4.0)}
    pair = {"same": same, "cosine": [0.5, 1.0]}
    found = {"steps": [step], "random": pair, "moved": {"0.5": pair, "2": pair}}
    steady = {"same": [1.0, 1.0], "cosine": [1.0, 1.0]}
    return {"dtd": found, "cu_birds": found | {"random": steady}}


NAMES = ("plain", "aa_plain")
BOTH = (measured(False, [0.0, 1.0]), measured(True, [1.0, 1.0]))


def test_energy_before_and_after_by_step_and_source():
    grid = energy_grid("t", NAMES, BOTH, ["note"])
    assert grid.header[5:] == ("before", "after", "Textures", "Birds")
    assert [row[1:] for section in grid.sections for row in section] == [
        ("pool", "pool", "8×8", "–", "40.0", "40.0", "40.0", "40.0"),
        ("pool.0", "pool", "8×8", "binomial3", "40.0", "10.0", "10.0", "10.0"),
    ]
    lines = list(csv.DictReader(io.StringIO(grid.csv())))
    assert len(lines) == 4
    one = next(li for li in lines if li["network"] == "aa_plain" and li["source"] == "dtd")
    assert [float(one[k]) for k in ("before", "after")] == [0.4, 0.1]
    # 8 of 10 without the mean
    assert [float(one[k]) for k in ("before_of_variation", "after_of_variation")] == [0.5, 0.125]


def test_agreement_by_source_and_over_sources():
    grid = agreement_grid("t", NAMES, BOTH, [])
    rows = {row[0]: row[1:] for section in grid.sections for row in section}
    # 0 and 1: σ = 1/2, 1.96 · 0.5 / √2 = 0.693
    assert rows["Textures"][:3] == ("50.0 ± 69.3", "0.750 ± 0.346", "40.0")
    assert rows["Birds"][0] == "100.0 ± 0.0"
    assert rows["Mean"][:3] == ("75.0 ± 34.6", "0.875 ± 0.173", "40.0")
    assert rows["Mean"][5] == "10.0"
    lines = list(csv.DictReader(io.StringIO(grid.csv())))
    assert len(lines) == 2 * 2 * 3 and {li["shift"] for li in lines} == {"random", "0.5", "2"}


def test_sources_have_the_same_weight_and_errors_add():
    mean, width = over_sources([[0.0, 1.0, 0.0, 1.0], [1.0, 1.0]])
    assert (mean, width) == (0.75, pytest.approx(1.96 * 0.5 / 2 / 2))
    assert over_sources([[1.0], [0.0]]) == (0.5, None)


@pytest.mark.parametrize("formats", [("png", "svg", "pdf")])
def test_figures_are_written_and_the_same_bytes_again(tmp_path, formats):
    written = [draw_all("t", NAMES, BOTH, tmp_path / folder, formats) for folder in ("one", "two")]
    assert sorted({path.stem for path in written[0]}) == [
        "agreement",
        "energy",
        "filters",
        "spectra",
    ]
    for one, two in zip(*written, strict=True):
        assert one.stat().st_size > 3000 and one.read_bytes() == two.read_bytes()
    svg = (tmp_path / "one" / "energy.svg").read_text(encoding="utf-8")
    assert "aa_plain" in svg and "pool" in svg


def test_networks_of_different_depth_share_the_figures(tmp_path):
    deeper = measured(True, [1.0, 1.0])
    for found in deeper.values():
        found["steps"] = [*found["steps"], found["steps"][0] | {"path": "late", "stride": [4, 4]}]
    assert draw_all("t", NAMES, (BOTH[0], deeper), tmp_path, ["png"])


def test_a_source_is_measured_the_same_again(miniature):
    how = Measure(32, 5, 3)
    assert (how.reach, how.read_size) == (5, 42) and how.distances[-1] == 4.0
    images = LabelledImages(miniature, "dtd", "test", how.read_size)
    backbone = build_backbone("aa_resnet18", 4, 0).eval()
    told = []
    cpu = torch.device("cpu")
    found = measure(backbone, images, how, cpu, lambda done, total: told.append((done, total)))
    assert told[-1] == (5, 5)
    assert len(found["random"]["same"]) == 5 and set(found["moved"]) == {
        f"{distance:g}" for distance in how.distances
    }
    assert all(0 <= one <= 1 for one in found["random"]["same"])
    assert [step["filter"] for step in found["steps"]] == [None] + ["binomial3"] * 7
    assert found["steps"][0]["before"]["images"] == 5
    assert measure(backbone, images, how, cpu) == found
