"""`table` as a user calls it."""

import json

import pytest

from run_meta_dataset import main

SKILLS = {("sur", "dtd"): 0.5, ("finetune", "dtd"): 0.7, ("peek (transductive)", "dtd"): 0.9}


@pytest.fixture
def call(capsys):
    def run(*arguments):
        status = main(["table", *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


def test_published_alone(call):
    status, out, _ = call("--published", "imagenet", "--format", "json")
    rows = json.loads(out)
    assert status == 0 and sum(row["average_rank"] is not None for row in rows) == 16
    assert {row["training"] for row in rows} == {"imagenet"}
    dipa = next(row for row in rows if row["method"] == "DIPA")
    assert dipa["average_rank"] == 1.0 and dipa["accuracies"]["ILSVRC (test)"] == 71.4
    status, out, _ = call("--published", "all")
    assert status == 0 and "Training on all datasets" in out and "TriM" in out


def test_own_rows_alone_and_among_others(call, fill, tmp_path):
    fill(tmp_path, SKILLS, 40)
    _status, out, _ = call(tmp_path, "--format", "json")
    rows = {row["method"]: row for row in json.loads(out)}
    assert rows["finetune"]["average_rank"] == 1.0 and rows["sur"]["average_rank"] == 2.0
    assert rows["peek (transductive)"]["not_ranked_because"] == ["transductive"]
    _, out, _ = call(tmp_path, "--published", "imagenet", "--format", "json")
    (mine,) = [row for row in json.loads(out) if row["method"] == "sur"]
    assert mine["average_rank"] is None and len(mine["not_ranked_because"]) >= 2


def test_a_row_that_lacks_a_source_says_so(call, fill, tmp_path):
    fill(tmp_path, SKILLS | {("sur", "fungi"): 0.5, ("sur", "mine"): 0.5}, 9)
    rows = {row["method"]: row for row in json.loads(call(tmp_path, "--format", "json")[1])}
    assert rows["finetune"]["not_ranked_because"] == ["no results on Fungi, mine"]
    assert rows["finetune"]["average_rank"] is None and rows["sur"]["average_rank"] == 1.0
    fill(tmp_path / "one", {("a", "dtd"): 0.5}, 1)
    (row,) = json.loads(call(tmp_path / "one", "--format", "json")[1])
    assert row["not_ranked_because"] == ["a single episode of Textures"]


def test_settings_have_tables_of_their_own(call, fill, tmp_path):
    fill(tmp_path / "a", SKILLS, 3)
    fill(tmp_path / "b", SKILLS, 3, protocol={"name": "5w1s", "version": 1, "hash": "b"})
    status, out, _ = call("--results", tmp_path, "--format", "markdown")
    assert status == 0 and out.count("## Meta") == 2 and "5w1s (b)" in out


@pytest.mark.parametrize("form", ["markdown", "latex", "csv", "html", "json"])
def test_files(call, fill, tmp_path, form):
    fill(tmp_path / "a", SKILLS, 3)
    status, out, _ = call(tmp_path / "a", "--format", form, "--out", tmp_path / "new" / "file")
    assert status == 0 and str(tmp_path / "new" / "file") in out
    _, printed, _ = call(tmp_path / "a", "--format", form)
    assert (tmp_path / "new" / "file").read_text(encoding="utf-8") == printed


def test_what_cannot_be(call, tmp_path):
    status, _, err = call("--out", "x")
    assert status == 2 and "--out needs a --format" in " ".join(err.split())
    status, _, err = call("--results", tmp_path / "none")
    assert status == 2 and "no such results folder" in " ".join(err.split())
