"""A table of texts in its four forms."""

import csv
import io

import pytest
from rich.console import Console

from episodes.faults import InputError
from fewshot.grid import Grid, percent

GRID = Grid(
    title="Errors of a_b & c",
    header=("Corruption", "aa_resnet18"),
    sections=((("fog", "12.5"),), (("mean_error", "–"),)),
    notes=("in %",),
    values=(("corruption", "error"), ("fog", 0.125), ("mean_error", None)),
)


def test_markdown():
    assert GRID.markdown().splitlines() == [
        "### Errors of a_b & c",
        "",
        "| Corruption | aa_resnet18 |",
        "| :--- | ---: |",
        "| fog | 12.5 |",
        "| mean_error | – |",
        "",
        "- in %",
    ]


def test_latex_escapes_and_rules_between_sections():
    text = GRID.latex()
    assert r"\caption{Errors of a\_b \& c}" in text
    assert r"Corruption & aa\_resnet18 \\" in text and r"mean\_error & -- \\" in text
    assert text.count(r"\midrule") == 2 and r"in \%\par" in text


def test_csv_keeps_precision_and_missing_is_empty():
    lines = list(csv.reader(io.StringIO(GRID.csv())))
    assert lines == [
        ["corruption", "error", "table"],
        ["fog", "0.125", "Errors of a_b & c"],
        ["mean_error", "", "Errors of a_b & c"],
    ]


def test_console_shows_all():
    output = io.StringIO()
    Console(file=output, width=80).print(GRID.console())
    assert all(word in output.getvalue() for word in ("aa_resnet18", "12.5", "mean_error", "in %"))


def test_files_are_written_whole_or_refused(tmp_path):
    paths = GRID.write(tmp_path / "new", "errors")
    assert [path.name for path in paths] == ["errors.md", "errors.csv", "errors.tex"]
    assert paths[0].read_text(encoding="utf-8") == GRID.markdown()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        GRID.write(tmp_path / "file")


def test_percent():
    assert (percent(0.12345), percent(None), percent(1, 0)) == ("12.3", "–", "100")
