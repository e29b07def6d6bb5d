"""The report holds what the rows say, shows hostile names as text, and loads nothing."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup

from fewshot.results import RowStore
from fewshot.results.collection import collect_runs
from fewshot.results.comparison import compare_pair, mean_over_sources
from fewshot.results.curves import find_curves
from fewshot.results.figures.figure import clip
from fewshot.results.frames import load
from fewshot.results.methods import find_methods
from fewshot.results.report import curves_by_source, pair_all, write_report
from tests.fewshot.results.test_aliasing import measures
from tests.stored_rows import CARD, draw_rows

pytest.importorskip("matplotlib")

EVIL = '<script>alert(1)</script> $x_1$ & "b"'
SKILLS = {
    (head, source): skill + shift
    for head, skill in (("finetune", 0.6), ("sur", 0.55), (EVIL, 0.4))
    for source, shift in (("dtd", 0.0), ("omniglot", 0.2), ("mine <b>", -0.1))
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    from tests.stored_rows import fill_folder

    place = tmp_path_factory.mktemp("report")
    for seed in (0, 1):
        fill_folder(place / "run", SKILLS, 40, seed)
    return place


@pytest.fixture(scope="module")
def report(folder: Path):
    return write_report(collect_runs(folder).runs, "A <title>")


@pytest.fixture(scope="module")
def page(report) -> BeautifulSoup:
    return BeautifulSoup(report[0], "html.parser")


def test_tables_and_figures_are_there(page: BeautifulSoup, report) -> None:
    heads = [th.text for th in page.select("table.sortable tbody th")]
    assert sorted(heads) == sorted(["finetune", "sur", EVIL])
    names = [figure.name for figure in report[1]]
    assert names == [
        "bars",
        "differences",
        "critical_difference",
        "ways_and_shots",
        "ways_by_source",
        "shots_by_source",
    ]
    assert [tag["id"] for tag in page.find_all("figure")] == names
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.find_all("svg"))


def test_hovering_tells_the_numbers(page: BeautifulSoup, folder: Path) -> None:
    rows = load(folder).episodes.query("head == 'sur' and source == 'dtd'")["accuracy"]
    mean, half = 100 * rows.mean(), 196 * rows.std(ddof=0) / np.sqrt(len(rows))
    tips = [title.text for title in page.select("svg g > title")]
    assert any(tip.startswith(f"sur on Textures: {mean:.2f} ± {half:.2f}, 80 ep") for tip in tips)
    assert sum("minus" in tip for tip in tips) == 6


def test_names_from_files_are_text(page: BeautifulSoup) -> None:
    assert page.title.text == "A <title>"
    assert len(page.find_all("script")) == 1 and "alert" not in page.script.text
    assert not page.find("b") and EVIL in page.text
    labels = " ".join(text.text for text in page.select("svg text"))
    assert "$x_1$" in labels  # not taken for a formula


def test_nothing_is_loaded_and_no_name_is_used_twice(page: BeautifulSoup, report) -> None:
    assert not page.find_all(src=True)
    assert not re.search(r"url\((?!#)|@import|<link(?! rel=\"icon\" href=\"data:)", report[0])
    assert all(tag["href"].startswith("#") for tag in page.find_all("a"))
    assert not [use for use in page.find_all("use") if not use["xlink:href"].startswith("#")]
    names = [
        tag["id"] for tag in page.find_all(id=True) if not tag["id"].startswith(("patch", "ax"))
    ]
    figures = [name for name in names if "-" in name]
    assert len(figures) == len(set(figures))


def test_how_the_numbers_were_made(page: BeautifulSoup) -> None:
    assert len(page.select("#provenance details")) == 2
    assert "We evaluate" in page.select_one("#provenance").text
    assert "0123456789abcdef" in page.select_one("pre").text


def test_paired_differences_are_those_of_the_comparison(folder: Path) -> None:
    methods = find_methods(load(folder))
    differences, widths, notes = pair_all(methods)
    first, second = methods[0], methods[1]
    rows = compare_pair(first.rows, second.rows, (first.name, second.name), first.sources)
    mean, width = mean_over_sources(rows)
    assert differences[0, 1] == pytest.approx(mean) and widths[0, 1] == pytest.approx(width)
    assert np.allclose(differences, -differences.T, equal_nan=True) and not notes


def test_other_episodes_are_not_paired(tmp_path: Path, fill) -> None:
    fill(tmp_path / "a", {("a", "dtd"): 0.5}, 5)
    fill(tmp_path / "b", {("b", "dtd"): 0.5}, 5, plans="other")
    differences, _, notes = pair_all(find_methods(load(tmp_path)))
    assert np.isnan(differences).all() and notes == ["a and b share no episodes: not paired."]
    page, drawn = write_report(collect_runs(tmp_path).runs, "x")
    assert "not paired" in page and "critical_difference" not in [f.name for f in drawn]


def test_failures_and_several_settings(tmp_path: Path, fill) -> None:
    fill(tmp_path / "a", {("a", "dtd"): 0.5}, 5)
    fill(
        tmp_path / "b", {("a", "dtd"): 0.5}, 5, protocol={"name": "5w1s", "version": 1, "hash": "b"}
    )
    with RowStore(tmp_path / "a" / "rows.sqlite") as store:
        store._db.execute(
            "UPDATE episodes SET status = 'failed: <oom>', accuracy = NULL, correct = 0 "
            "WHERE plan = 1"
        )
    text, drawn = write_report(collect_runs(tmp_path).runs, "x")
    page = BeautifulSoup(text, "html.parser")
    assert [figure.name[:2] for figure in drawn] == [*4 * ["1_"], *4 * ["2_"]]
    assert "failed: <oom>" in page.text and "5w1s (b)" in page.text


def test_training_curves_where_there_are_logs(tmp_path: Path, fill) -> None:
    fill(tmp_path / "run", {("a", "dtd"): 0.5}, 5)
    lines = [f'{{"step": {step}, "loss": {2 / step}}}' for step in range(1, 9)]
    lines += ["nonsense", '{"step": 8, "validation": 0.4}', '{"step": 8, "loss": NaN}']
    (tmp_path / "run" / "resnet<18>.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (stored,) = collect_runs(tmp_path).runs
    (curve,) = find_curves(stored)
    assert curve.loss == tuple((step, 2 / step) for step in range(1, 9))
    assert curve.validation == ((8.0, 0.4),)
    text, drawn = write_report([stored], "x")
    assert drawn[-1].name == "training" and "resnet&lt;18&gt;" in text


def test_selection_and_aliasing_where_there_are_some(tmp_path: Path, fill) -> None:
    run = fill(tmp_path / "run", {("a", "dtd"): 0.5}, 2)
    with RowStore(tmp_path / "run" / "rows.sqlite") as store:
        row = draw_rows("sur", "dtd", 0.5, [0])[0]
        store.add(run, [replace(row, told={"selection": (0.9, 0.1)})])
    text = json.dumps(measures(CARD["weights"]))
    (tmp_path / "run" / "aliasing.json").write_text(text, encoding="utf-8")
    page, drawn = write_report(collect_runs(tmp_path).runs, "x")
    assert [figure.name for figure in drawn][-2:] == ["selection", "aliasing"]
    assert "Selection by sur" in page and "Textures: stage 1 counts 90.0 %" in page
    assert "conv1 (stem)" in page


def test_only_what_is_ranked_together_is_marked_and_tested(tmp_path: Path, fill) -> None:
    for head, skill in (("a", 0.4), ("b", 0.5), ("t (transductive)", 0.9)):
        skills = {(head, source): skill for source in ("dtd", "omniglot")}
        fill(tmp_path / head, skills, 20, backbones=[CARD])
    fill(tmp_path / "c", {("c", s): 0.95 for s in ("dtd", "omniglot")}, 20,
         backbones=[{**CARD, "seen": ["everything"]}])  # fmt: skip
    page, drawn = write_report(collect_runs(tmp_path).runs, "x")
    (bars, test) = (next(f for f in drawn if f.name == n) for n in ("bars", "critical_difference"))
    best = {tip.split(" on ")[0] for tip in bars.tips.values() if "best or tied" in tip}
    assert best == {"b"} and len(drawn) == 6
    text = test.as_svg()
    assert "transductive" not in text and ">c " not in text and "pre-training: everything" in page


def test_points_hold_ten_episodes_or_more(folder: Path) -> None:
    for by_method in curves_by_source(find_methods(load(folder)), "way").values():
        for points in by_method.values():
            assert sum(n for *_, n in points) == 80 and len(points) > 1


def test_no_runs_are_a_page(tmp_path: Path) -> None:
    page, drawn = write_report([], "x")
    assert "no results yet" in page and drawn == []


def test_figures_for_papers(report, tmp_path: Path) -> None:
    for figure in report[1]:
        figure.save(tmp_path)
        svg = (tmp_path / f"{figure.name}.svg").read_text(encoding="utf-8")
        assert svg.startswith("<?xml") and "var(" not in svg
        assert (tmp_path / f"{figure.name}.pdf").read_bytes().startswith(b"%PDF")
    before = (tmp_path / "bars.pdf").read_bytes()
    report[1][0].save(tmp_path)
    assert (tmp_path / "bars.pdf").read_bytes() == before


def test_the_same_rows_give_the_same_page(report, folder: Path) -> None:
    assert write_report(collect_runs(folder).runs, "A <title>")[0] == report[0]


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2."""
    light = []
    for color in (first, second):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_contrast_in_both_themes(report) -> None:
    themes = re.findall(r":root \{(.*?)\}", report[0], flags=re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        color = dict(re.findall(r"--(\w+): (#\w{6})", theme))
        for ground in ("paper", "raised", "best"):
            assert contrast(color["ink"], color[ground]) >= 7
            assert contrast(color["quiet"], color[ground]) >= 4.5
            assert contrast(color["accent"], color[ground]) >= 4.5


def test_long_names_are_told_apart_where_they_do_not_fit():
    for name in ("resnet18", "four_layer_convnet"):
        pair = [f"bd_cspn (transductive) @ {aa}{name}" for aa in ("", "aa_")]
        for most in (24, 34):
            clipped = [clip(method, most) for method in pair]
            assert len(set(clipped)) == 2 and all(len(method) <= most for method in clipped)
    assert clip("bd_cspn (transductive) @ resnet18", 24) == "bd_cspn (tra… @ resnet18"
    assert clip("prototypical", 12) == "prototypical"
