"""Whatever happens to a results file, the message is clear and the other results stay readable."""

import sqlite3
from pathlib import Path

import pytest

from episodes.faults import InputError
from fewshot.results import RowStore, load
from fewshot.results.methods import find_methods, table_of
from run_meta_dataset import main

SKILLS = {("sur", "dtd"): 0.5, ("finetune", "dtd"): 0.7}


@pytest.fixture
def two(tmp_path: Path, fill) -> Path:
    """A folder of two runs in two files."""
    for seed in (0, 1):
        fill(tmp_path / str(seed), SKILLS, 200, seed)
    return tmp_path


def destroy_rows(path: Path) -> None:
    """Damage the pages of rows; what a file says of its runs stays readable."""
    with RowStore(path) as store:
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store._db.execute("PRAGMA journal_mode = DELETE")
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'episodes'"
        (page,) = store._db.execute(query).fetchone()
        (size,) = store._db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def test_rows_that_are_damaged_hide_no_other_file(two: Path, capsys) -> None:
    destroy_rows(two / "0" / "rows.sqlite")
    frames = load(two)
    assert set(frames.episodes["seed"]) == {1}
    (fault,) = frames.faults
    assert "0/rows.sqlite: the results file is damaged" in fault
    for command in (
        ["table", two],
        ["results", "summary", two],
        ["results", "ls", "--results", two],
    ):
        assert main([*map(str, command)]) == 0
        out, err = capsys.readouterr()
        assert "not read:" in out + err and "damaged" in out + err and "sur" in out


def test_a_file_of_a_newer_program_hides_no_other(two: Path, capsys) -> None:
    with RowStore(two / "0" / "rows.sqlite") as store:
        store._db.execute("PRAGMA user_version = 9")
    assert main(["table", str(two)]) == 0
    out, err = capsys.readouterr()
    assert "format 9, this program knows 1 to 3" in " ".join(err.split()) and "sur" in out


def test_a_locked_file_is_still_read(two: Path, capsys) -> None:
    other = sqlite3.connect(two / "0" / "rows.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert main(["table", str(two / "0")]) == 0
    other.execute("ROLLBACK")
    other.close()
    assert "sur" in capsys.readouterr().out


def test_rows_without_accuracy_are_told_and_averaged_by_nobody(two: Path) -> None:
    with RowStore(two / "0" / "rows.sqlite") as store:
        store._db.execute("UPDATE episodes SET accuracy = NULL WHERE plan = 1 AND head = 1")
        with pytest.raises(InputError, match="damaged"):
            store.rows()
    frames = load(two / "0")
    table = table_of(find_methods(frames))
    counts = {
        head: (cells[0].episodes, cells[0].failed)
        for head, cells in zip(table.heads, table.cells, strict=True)
        if cells[0] is not None
    }
    assert sorted(counts.values()) == [(199, 1), (200, 0)]
    assert None in table.average_ranks


def test_mixed_protocols_have_tables_of_their_own(two: Path, fill, capsys) -> None:
    fill(two / "c", SKILLS, 3, protocol={"name": "5w1s", "version": 1, "hash": "b"})
    fill(two / "d", {("sur", "fungi"): 0.5}, 3, seed=5)
    assert main(["table", str(two), "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("5w1s (b)" in line for line in lines) == 2


def test_a_missing_source_is_missing(tmp_path: Path, fill, capsys) -> None:
    fill(tmp_path, {("a", "dtd"): 0.5, ("b", "dtd"): 0.6, ("b", "fungi"): 0.6}, 9)
    assert main(["table", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "a has no results on Fungi: no mean, not ranked" in out


def test_a_place_that_cannot_be_written(two: Path, capsys) -> None:
    for command in (
        ["table", str(two), "--format", "csv", "--out", "/proc/none/table.csv"],
        ["results", "export", str(two), "--out", "/proc/none/rows"],
        ["report", str(two), "--out", "/proc/none/report.html"],
    ):
        assert main(command) == 2
        err = " ".join(capsys.readouterr().err.split())
        assert "/proc/none" in err and "Traceback" not in err
