"""Runs are found by id, by folder and by both; a file that cannot be read hides no other."""

from pathlib import Path

import pytest

from episodes.faults import InputError
from fewshot.results.collection import collect_runs, find_files, find_run, find_runs

SKILLS = {("sur", "dtd"): 0.5}


@pytest.fixture
def runs(tmp_path: Path, fill) -> list[str]:
    """Two runs in one folder, one in another."""
    return [
        fill(tmp_path / "a", SKILLS, 2),
        fill(tmp_path / "a", SKILLS, 2, seed=1),
        fill(tmp_path / "b", SKILLS, 2, seed=2),
    ]


def test_all_runs_below_a_folder(tmp_path: Path, runs: list[str]) -> None:
    collection = collect_runs(tmp_path)
    assert [stored.run.id for stored in collection.runs] == runs
    assert [stored.path.parent.name for stored in collection.runs] == ["a", "a", "b"]
    assert find_files(tmp_path / "b" / "rows.sqlite") == [tmp_path / "b" / "rows.sqlite"]


def test_a_broken_file_hides_no_other(tmp_path: Path, runs: list[str]) -> None:
    (tmp_path / "a" / "rows.sqlite").write_text("broken " * 1000)
    collection = collect_runs(tmp_path)
    assert [stored.run.id for stored in collection.runs] == runs[2:]
    (fault,) = collection.faults
    assert "a/rows.sqlite: this is not a results file" in fault
    assert find_runs([str(tmp_path)], tmp_path) == collection
    with pytest.raises(InputError, match=r"no runs here\..*not a results file"):
        find_runs([str(tmp_path / "a")], tmp_path)


def test_a_run_by_its_names(tmp_path: Path, runs: list[str]) -> None:
    for name in (runs[1], runs[1][:5], f"{tmp_path / 'a'}@{runs[1]}"):
        assert find_run(name, tmp_path).run.id == runs[1]
    assert find_run(str(tmp_path / "b"), tmp_path).run.id == runs[2]
    assert [s.run.id for s in find_runs([str(tmp_path / "a"), runs[2]], tmp_path).runs] == runs
    assert [s.run.id for s in find_runs([runs[2], str(tmp_path / "b")], tmp_path).runs] == runs[2:]
    assert len(find_runs([], tmp_path).runs) == 3


def test_names_that_mean_nothing_or_too_much(tmp_path: Path, runs: list[str]) -> None:
    with pytest.raises(InputError, match=f"means 2 runs.*a@{runs[0]}.*a@{runs[1]}"):
        find_run(str(tmp_path / "a"), tmp_path)
    with pytest.raises(InputError, match="unknown run 'zzzz'"):
        find_run("zzzz", tmp_path)
    with pytest.raises(InputError, match=r"no folder .*none in which it could be a run's id"):
        find_run("zzzz", tmp_path / "none")
    with pytest.raises(InputError, match="no/such: there is no such run, file or folder"):
        find_run("no/such", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no runs here"):
        find_runs([str(tmp_path / "empty")], tmp_path)
