"""Frames hold what the store holds, tidily."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from fewshot.results import RowStore
from fewshot.results.frames import load

SKILLS = {("sur", "dtd"): 0.5, ("finetune", "dtd"): 0.7, ("sur", "fungi"): 0.2}


def test_episodes_are_the_rows_of_the_store(tmp_path: Path, fill) -> None:
    runs = [fill(tmp_path / name, SKILLS, 5, seed) for seed, name in enumerate("ab")]
    frames = load(tmp_path)
    assert len(frames.episodes) == 30 and set(frames.episodes["run"]) == set(runs)
    with RowStore(tmp_path / "b" / "rows.sqlite", read_only=True) as store:
        rows = store.rows()
    mine = frames.episodes[frames.episodes["run"] == runs[1]]
    for name in ("head", "source", "split", "seed", "index", "accuracy", "way", "correct"):
        assert mine[name].tolist() == [getattr(row, name) for row in rows]
    assert mine["plan"].tolist() == [row.plan_hash for row in rows]
    assert np.allclose(mine["shot"], [row.support_size / row.way for row in rows])


def test_classes_are_the_counts_of_the_rows(tmp_path: Path, fill) -> None:
    fill(tmp_path, SKILLS, 5)
    with RowStore(tmp_path / "rows.sqlite", read_only=True) as store:
        rows = store.rows()
    expected = [
        (row.head, row.source, row.index, *counts) for row in rows for counts in row.classes
    ]
    columns = ["head", "source", "index", "class_id", "shot", "queries", "correct"]
    assert list(load(tmp_path).classes[columns].itertuples(index=False, name=None)) == expected


def test_runs_say_what_tables_group_by(tmp_path: Path, fill) -> None:
    run = fill(tmp_path, SKILLS, 1)
    facts = load(tmp_path).runs.loc[run]
    assert facts["protocol"] == "md-v1 (aaaa)" and facts["benchmark"] == "Meta-Dataset, md-v1"
    assert facts["pretraining"] == "ilsvrc_2012, 2 train classes"
    assert (facts["backbones"], facts["image_size"], facts["seed"]) == ("resnet18", 84, 0)


def test_failures_are_nan_and_in_no_class_count(tmp_path: Path, fill) -> None:
    run = fill(tmp_path, {("sur", "dtd"): 0.5}, 3)
    with RowStore(tmp_path / "rows.sqlite") as store:
        store.begin({}, {})  # a run without rows
        store._db.execute("UPDATE episodes SET status = 'failed: x', accuracy = NULL, correct = 0")
    frames = load(tmp_path)
    assert len(frames.runs) == 2 and frames.episodes["accuracy"].isna().all()
    assert set(frames.episodes["run"]) == {run} and frames.classes.empty


def test_a_result_in_one_file_outdoes_a_failure_in_another(tmp_path: Path, fill) -> None:
    for name in "abc":
        fill(tmp_path / name, {("sur", "dtd"): 0.5}, 3)
        if name != "b":
            with RowStore(tmp_path / name / "rows.sqlite") as store:
                store._db.execute("UPDATE episodes SET status = 'failed: x', accuracy = NULL")
    episodes = load(tmp_path).episodes
    assert episodes["index"].tolist() == [0, 1, 2] and episodes["accuracy"].notna().all()


def test_guesses_and_what_heads_told_are_tidy(tmp_path: Path, fill) -> None:
    run = fill(tmp_path, SKILLS, 3)
    with RowStore(tmp_path / "rows.sqlite") as store:
        rows = [
            replace(row, index=9, guesses=(1,) * row.query_count, told={"selection": [0.2, 0.8]})
            for row in store.rows(index=0)
        ]
        store.add(run, rows)
    frames = load(tmp_path)
    assert len(frames.guesses) == sum(row.query_count for row in rows)
    one = frames.guesses.query("head == 'sur' and source == 'dtd'")
    assert one["query"].tolist() == list(range(len(one))) and set(one["guess"]) == {1}
    told = frames.told.query("source == 'fungi'")
    assert told[["run", "head", "index", "name"]].drop_duplicates().to_numpy().tolist() == [
        [run, "sur", 9, "selection"]
    ]
    assert told["position"].tolist() == [0, 1] and told["value"].tolist() == [0.2, 0.8]


def test_no_runs_are_empty_frames(tmp_path: Path) -> None:
    frames = load(tmp_path)
    assert frames.runs.empty and frames.episodes.empty and frames.classes.empty
    assert isinstance(frames.episodes, pd.DataFrame)
    assert frames.guesses.empty and frames.told.empty
