"""What is exported comes back the same; what is merged is neither lost nor doubled."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from episodes.faults import InputError
from fewshot.results import EpisodeRow, RowStore
from fewshot.results.collection import collect_runs
from fewshot.results.exchange import export_runs, import_file, merge_run

SKILLS = {("sur", "dtd"): 0.5, ("finetune", "fungi"): 0.7}


def content(folder: Path):
    with RowStore(folder / "rows.sqlite", read_only=True) as store:
        return store.rows(), store.runs()


def fail_one(folder: Path) -> None:
    with RowStore(folder / "rows.sqlite") as store:
        store._db.execute(
            "UPDATE episodes SET status = 'failed: x', accuracy = NULL, correct = 0, "
            "class_correct = NULL WHERE plan = (SELECT min(plan) FROM episodes)"
        )


def add_details(folder: Path) -> EpisodeRow:
    with RowStore(folder / "rows.sqlite") as store:
        row = store.rows(head="sur", seed=0)[-1]
        guesses = tuple(number % row.way for number in range(row.query_count))
        row = replace(row, index=99, guesses=guesses, told={"selection": [0.25, 0.75]})
        store.add(store.runs()[0].id, [row])
    return row


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_a_round_trip(tmp_path: Path, fill, kind: str) -> None:
    for seed in (0, 1):
        fill(tmp_path / "a", SKILLS, 4, seed)
    fail_one(tmp_path / "a")
    added = add_details(tmp_path / "a")
    path = tmp_path / f"out.{kind}"
    assert export_runs(collect_runs(tmp_path / "a").runs, path) == 17
    for _ in range(2):  # the second time adds nothing
        with RowStore(tmp_path / "b" / "rows.sqlite") as store:
            merged = import_file(path, store)
        assert content(tmp_path / "b") == content(tmp_path / "a")
    assert added in content(tmp_path / "b")[0]
    assert [(m.known, m.differing) for m in merged] == [(8, 0), (8, 0)]


def test_csv_is_a_plain_table(tmp_path: Path, fill) -> None:
    run = fill(tmp_path / "a", SKILLS, 4)
    export_runs(collect_runs(tmp_path / "a").runs, tmp_path / "out.csv")
    with RowStore(tmp_path / "b") as store, pytest.raises(InputError, match="how they were made"):
        import_file(tmp_path / "out.csv", store)
    frame = pd.read_csv(tmp_path / "out.csv")
    rows, _ = content(tmp_path / "a")
    assert set(frame["run"]) == {run}
    assert frame["accuracy"].tolist() == [row.accuracy for row in rows]
    assert frame["classes"][0] == " ".join(":".join(map(str, c)) for c in rows[0].classes)


def test_two_halves_of_an_experiment_become_one_run(tmp_path: Path, fill) -> None:
    whole = fill(tmp_path / "whole", SKILLS, 4)
    for half, (key, skill) in zip("ab", SKILLS.items(), strict=True):
        fill(tmp_path / half, {key: skill}, 4)
    with RowStore(tmp_path / "c" / "rows.sqlite") as store:
        for half in "ab":
            rows, (run,) = content(tmp_path / half)
            assert merge_run(store, run, rows).run == whole
        assert store.rows() == content(tmp_path / "whole")[0]
        assert len(store.runs()) == 1 and len(store.runs()[0].calls) == 2


def test_rows_that_differ_are_counted_and_other_plans_refused(tmp_path: Path, fill) -> None:
    fill(tmp_path / "a", {("sur", "dtd"): 0.2}, 9)
    fill(tmp_path / "b", {("sur", "dtd"): 0.9}, 9)
    fill(tmp_path / "c", {("sur", "dtd"): 0.2}, 9, plans="other")
    before = content(tmp_path / "a")[0]
    with RowStore(tmp_path / "a" / "rows.sqlite") as store:
        rows, (run,) = content(tmp_path / "b")
        merged = merge_run(store, run, rows)
        assert (merged.added, merged.known) == (0, 9) and merged.differing > 5
        rows, (run,) = content(tmp_path / "c")
        with pytest.raises(InputError, match="did not see the same images"):
            merge_run(store, run, rows)
    assert content(tmp_path / "a")[0] == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "not a file of exported results"),
        ('{"format": "run_meta_dataset results 1", "runs": [{}], "rows": []}', "in the runs"),
    ],
)
def test_files_that_are_not_ours(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    (tmp_path / "x.parquet").write_text(text, encoding="utf-8")
    with RowStore(tmp_path / "rows.sqlite") as store:
        with pytest.raises(InputError, match=rf"x\.json: .*{message}"):
            import_file(tmp_path / "x.json", store)
        with pytest.raises(InputError, match=r"x\.parquet: cannot be read"):
            import_file(tmp_path / "x.parquet", store)
        assert store.runs() == []


def test_a_row_that_contradicts_itself_is_named(tmp_path: Path, fill) -> None:
    fill(tmp_path, SKILLS, 4)
    export_runs(collect_runs(tmp_path).runs, tmp_path / "out.json")
    exported = json.loads((tmp_path / "out.json").read_text())
    exported["rows"][3]["accuracy"] = 0.123
    (tmp_path / "out.json").write_text(json.dumps(exported))
    with (
        RowStore(tmp_path / "b.sqlite") as store,
        pytest.raises(InputError, match=r"damaged in row 3: ValueError: .*accuracy 0\.123"),
    ):
        import_file(tmp_path / "out.json", store)


@pytest.mark.parametrize(
    "call", [3, {"backbones": {}}, {"backbones": ["x"]}, {"git": "c"}, {"heads": {"a": 1}}]
)
def test_a_record_of_another_shape_is_refused(tmp_path: Path, fill, call) -> None:
    fill(tmp_path, SKILLS, 1)
    export_runs(collect_runs(tmp_path).runs, tmp_path / "out.json")
    exported = json.loads((tmp_path / "out.json").read_text())
    exported["runs"][0]["calls"] = [call]
    (tmp_path / "out.json").write_text(json.dumps(exported))
    with (
        RowStore(tmp_path / "b.sqlite") as store,
        pytest.raises(InputError, match="damaged in the runs: TypeError"),
    ):
        import_file(tmp_path / "out.json", store)


def test_a_format_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'xlsx'"):
        export_runs([], tmp_path / "out.xlsx")
