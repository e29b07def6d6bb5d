"""Every format says the same, and shows hostile names as they are."""

import csv
import io
import json

import pytest
from bs4 import BeautifulSoup
from rich.console import Console

from fewshot.results.aggregate import Cell
from fewshot.results.leaderboard import Entry, Reference, build_leaderboard
from fewshot.results.leaderboard_tables import (
    render_html,
    render_json,
    render_leaderboard_csv,
    render_leaderboard_latex,
    render_official_markdown,
    render_terminal,
)

EVIL = 'a|b <script>alert(1)</script> & "c" 100% {d}'
FIRST = Reference(1, "A & B (2020)", "https://example.org/a?b=1&c=2")
SECOND = Reference(2, "C (2021)", "https://example.org/c")


def entry(name, mean, other, **changes):
    cells = {"Omniglot": Cell(mean, 0.01, 600), "Birds": Cell(other, 0.01, 600)}
    return Entry(name, "imagenet", "train classes", cells, **changes)


@pytest.fixture
def board():
    entries = [
        entry("good", 0.5, 0.6, references=(FIRST,)),
        entry("poor", 0.05, 0.595, references=(FIRST, SECOND), transductive=True),
        entry(EVIL, 0.7, 0.8, backbone="resnet18", why_unranked=("transductive",)),
    ]
    return build_leaderboard("Training <b>", "imagenet", entries)


def test_the_official_markdown(board):
    lines = render_official_markdown(board).splitlines()
    wide = lambda *cells: "|".join(cell.ljust(27) for cell in cells)  # noqa: E731
    assert lines[2:6] == [
        wide("Method", "Avg rank", "Omniglot", "Birds"),
        wide(*["-" * 27] * 4),
        wide("good [[1]]", "**1.25**", "**50.00**±1.00&nbsp;(1)", "**60.00**±1.00&nbsp;(1.5)"),
        wide(
            "poor [[1]],[[2]]", "1.75", " 5.00±1.00&nbsp;(2)", "**59.50**±1.00&nbsp;(1.5)"
        ),
    ]  # fmt: skip
    assert "### Not ranked" in lines
    (evil,) = [line for line in lines if line.startswith("a\\|b")]
    assert "|–" in evil and "\\<script>" in evil and "70.00±1.00" in evil
    assert "[2]: https://example.org/c (C (2021))" in lines


def test_json_is_a_list_of_rows(board):
    good, poor, evil = json.loads(render_json([board]))
    assert (good["method"], good["training"], good["average_rank"]) == ("good", "imagenet", 1.25)
    assert good["ranks"] == {"Omniglot": 1.0, "Birds": 1.5}
    assert good["accuracies"] == {"Omniglot": 50.0, "Birds": 60.0}
    assert good["best"] == ["Omniglot", "Birds"] and good["best_average_rank"]
    assert poor["references"][1]["url"] == "https://example.org/c"
    assert evil["average_rank"] is None and evil["ranks"] == {}
    assert evil["method"] == EVIL and evil["not_ranked_because"] == ["transductive"]


def test_csv_is_one_line_per_cell(board):
    rows = list(csv.DictReader(io.StringIO(render_leaderboard_csv([board]))))
    assert len(rows) == 6
    assert rows[1]["column"] == "Birds" and float(rows[1]["accuracy"]) == 60.0
    assert rows[4]["method"] == EVIL and rows[4]["rank"] == ""


def test_latex_escapes_and_marks(board):
    text = render_leaderboard_latex(board)
    assert r"good [1] & \textbf{1.25} & \textbf{50.00}\,$\pm$\,1.00" in text
    assert r"a\textbar{}b \textless{}script\textgreater{}" in text and r"100\% \{d\}" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {3}


def test_html_is_one_page_with_names_as_text(board):
    text = render_html([board], "Title <i>")
    page = BeautifulSoup(text, "html.parser")
    assert page.title.text == "Title <i>" and not page.find("i")
    assert [th.text.split(" [")[0] for th in page.select("tbody th")] == ["good", "poor", EVIL]
    assert len(page.find_all("script")) == 1 and "alert(1)" not in page.script.text
    assert page.select("tbody tr")[2]["class"] == ["unranked"]
    assert [td.text for td in page.select("td.best")][:2] == ["1.25", "50.00 ±1.00"]
    assert page.select("tbody td")[1]["title"] == "50.00 ± 1.00 (95 %), rank 1, 600 episodes"
    links = {a["href"] for a in page.find_all("a")}
    assert links == {FIRST.url, SECOND.url}
    loaded = list(page.find_all(src=True)) + page.select("link[rel=stylesheet]")
    assert not loaded


def test_the_terminal_shows_all_rows_and_reasons(board):
    console = Console(width=120, file=io.StringIO(), color_system=None, _environ={})
    console.print(render_terminal(board, console))
    text = console.file.getvalue()
    assert "50.00" in text and "1.25" in text
    flat = " ".join(text.split())
    assert "not ranked (transductive)" in flat and "poor: transductive, and ranked" in flat
