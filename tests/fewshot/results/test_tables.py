"""The texts of small tables, and that no width cuts anything off."""

import ast
import csv
import io
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from episodes.faults import InputError
from episodes.protocol import SOURCES
from fewshot.results import tables
from fewshot.results.aggregate import Cell, Table, rank_table

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def small() -> Table:
    grid = [
        [Cell(0.5, 0.0125, 600), Cell(0.25, 0.01, 600)],
        [Cell(0.49, 0.0125, 600), Cell(0.375, 0.01, 600)],
        [None, Cell(1.0, None, 1)],
    ]
    return rank_table(["proto|typical", "fine_tune", "sur"], ["cu_birds", "traffic_sign"], grid)


@pytest.fixture
def full() -> Table:
    heads = ["prototypical", "finetune", "sur"]
    grid = [[Cell(0.3 + 0.05 * s + 0.02 * h, 0.011, 600) for s in range(10)] for h in range(3)]
    return rank_table(heads, SOURCES, grid)


def show(table: Table, width: int, terminal: bool = True) -> str:
    console = Console(
        width=width, force_terminal=terminal, color_system=None, file=io.StringIO(), _environ={}
    )
    console.print(tables.render_console(table, console, "Title", ["a note"]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


NOTES = [
    "Accuracy in %, mean ± 95 % interval over episodes; episodes per source: 1 to 600 "
    "(the counts differ).",
    "Bold: the best of a source and all that tie with it.",
    "– sur has no results on Birds: no mean, not ranked.",
    "A single episode has no interval; a head that has one is not ranked.",
]


def test_markdown(small: Table) -> None:
    assert tables.render_markdown(small, "Test [x]", ["mini_ature"]).splitlines() == [
        r"### Test \[x]",
        "",
        "| Head | Birds | Traffic signs | Mean | Avg rank |",
        "| :--- | ---: | ---: | ---: | ---: |",
        r"| proto\|typical | **50.00** ± 1.25 | 25.00 ± 1.00 | 37.50 ± 0.80 | 1.75 |",
        "| fine_tune | **49.00** ± 1.25 | **37.50** ± 1.00 | 43.25 ± 0.80 | **1.25** |",
        "| sur | – | 100.00 | – | – |",
        "",
        "- mini_ature",
        *[f"- {note}" for note in NOTES],
    ]


def test_csv_has_fractions_and_empty_fields(small: Table) -> None:
    assert tables.render_csv(small, "small").splitlines() == [
        "head,source,mean,ci95,episodes,rank,average_rank,table",
        "proto|typical,cu_birds,0.5,0.0125,600,1.5,1.75,small",
        "proto|typical,traffic_sign,0.25,0.01,600,2.0,1.75,small",
        "fine_tune,cu_birds,0.49,0.0125,600,1.5,1.25,small",
        "fine_tune,traffic_sign,0.375,0.01,600,1.0,1.25,small",
        "sur,cu_birds,,,0,,,small",
        "sur,traffic_sign,1.0,,1,,,small",
    ]


def test_csv_keeps_every_digit() -> None:
    table = rank_table(["a"], ["x"], [[Cell(1 / 3, 0.1 + 0.2, 3)]])
    (line,) = csv.DictReader(io.StringIO(tables.render_csv(table)))
    assert (float(line["mean"]), float(line["ci95"])) == (1 / 3, 0.1 + 0.2)


def test_latex(small: Table) -> None:
    assert tables.render_latex(small, "100% & more", ["see --output"]).splitlines() == [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{100\% \& more}",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"Source & proto\textbar{}typical & fine\_tune & sur \\",
        r"\midrule",
        r"Birds & \textbf{50.00} $\pm$ 1.25 & \textbf{49.00} $\pm$ 1.25 & -- \\",
        r"Traffic signs & 25.00 $\pm$ 1.00 & \textbf{37.50} $\pm$ 1.00 & 100.00 \\",
        r"\midrule",
        r"Mean & 37.50 $\pm$ 0.80 & 43.25 $\pm$ 0.80 & -- \\",
        r"Average rank & 1.75 & \textbf{1.25} & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip",
        r"{\footnotesize\raggedright",
        r"see -{}-output\par",
        *[
            note.replace("%", r"\%").replace("±", r"$\pm$").replace("–", "--") + r"\par"
            for note in NOTES
        ],
        "}",
        r"\end{table}",
    ]


def test_latex_escapes_each_special_character_once() -> None:
    assert tables.latex_text(r"\a{b}~^#$") == (
        r"\textbackslash{}a\{b\}\textasciitilde{}\textasciicircum{}\#\$"
    )


def test_console_narrow_is_one_row_per_source(full: Table) -> None:
    lines = [line.rstrip() for line in show(full, 80, terminal=False).splitlines()]
    assert [*lines[:4], *lines[11:]] == [
        "Title",
        "Source           prototypical        finetune             sur",
        "─────────────────────────────────────────────────────────────",
        "ILSVRC           30.00 ± 1.10    32.00 ± 1.10   34.00 ± 1.10*",
        "Traffic signs    70.00 ± 1.10    72.00 ± 1.10   74.00 ± 1.10*",
        "MSCOCO           75.00 ± 1.10    77.00 ± 1.10   79.00 ± 1.10*",
        "",
        "Mean             52.50 ± 0.35    54.50 ± 0.35    56.50 ± 0.35",
        "Avg rank                    3               2              1*",
        "a note",
        "Accuracy in %, mean ± 95 % interval over episodes; episodes per source: 600.",
        "*: the best of a source and all that tie with it.",
    ]


@pytest.mark.parametrize("width", [120, 160, 200])
def test_console_wide_is_one_row_per_head_in_the_order_of_the_benchmark(
    full: Table, width: int
) -> None:
    lines = show(full, width).splitlines()
    header = " ".join(lines[2].split())
    assert header == (
        "Head ILSVRC Omniglot Aircraft Birds Textures QuickDraw Fungi Flower signs MSCOCO Mean rank"
    )
    assert [line.split()[0] for line in lines[4:7]] == ["prototypical", "finetune", "sur"]
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 119, 120, 130, 150, 170])
@pytest.mark.parametrize("terminal", [True, False])
def test_console_shows_every_value_at_every_width(full: Table, width: int, terminal: bool) -> None:
    text = show(full, width, terminal)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    digits = text.replace(" ", "")
    for row in full.cells:
        for cell in row:
            assert cell is not None
            one, two = f"{100 * cell.mean:.1f}±1.1", f"{100 * cell.mean:.2f}±1.10"
            assert one in digits or two in digits


def test_console_marks_the_best_by_weight_in_a_terminal_and_by_a_star_elsewhere(
    full: Table,
) -> None:
    assert "*" not in show(full, 120, terminal=True)
    assert "*: the best" in show(full, 80, terminal=False)
    console = Console(width=80, force_terminal=True, color_system="standard", file=io.StringIO())
    console.print(tables.render_console(full, console))
    assert "\x1b[1m34.00 ± 1.10\x1b[0m" in console.file.getvalue()  # type: ignore[attr-defined]


def test_names_are_text_and_not_markup() -> None:
    table = rank_table(["[red]x[/]", "b"], ["[bold]"], [[Cell(0.5, 0.1, 2)], [None]])
    for width in (40, 200):
        assert "[red]x[/]" in show(table, width)
        assert "[bold]" in show(table, width)


def test_notes_say_which_source_nobody_has() -> None:
    table = rank_table(["a"], ["fungi", "mscoco"], [[Cell(0.5, 0.1, 5), None]])
    assert tables.table_notes(table) == [
        "Accuracy in %, mean ± 95 % interval over episodes; episodes per source: 5.",
        "– No head has results on MSCOCO; means and ranks leave it out.",
    ]
    assert tables.table_notes(rank_table(["a"], ["x"], [[None]])) == ["No results yet."]


def test_files_are_written_whole(tmp_path: Path, small: Table) -> None:
    for title in ("old", "new"):
        files = tables.write_tables(tmp_path, small, title)
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert [file.name for file in files] == ["table.md", "table.csv", "table.tex"]
    assert (tmp_path / "table.md").read_text("utf-8") == tables.render_markdown(small, "new")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, small: Table) -> None:
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(InputError, match=r"table\.csv: cannot be written"):
        tables.write_tables(tmp_path, small)


def test_results_import_no_torch() -> None:
    for file in (PROJECT / "fewshot" / "results").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in ("torch", "torchvision")]


def test_wide_forms_grow_ever_tighter(full: Table) -> None:
    console = Console(width=80, file=io.StringIO())
    widths = [
        tables._width(tables._by_head(full, *form, ""), console) for form in tables.WIDE_FORMS
    ]
    assert all(roomy > tight for roomy, tight in pairwise(widths))
    assert widths[-1] <= 120
