"""Heads in the main job: failures, probes, features shared between runs."""

import json

import pytest

from fewshot.results import RowStore
from run_meta_dataset import main

MINE = """
import torch
from fewshot.heads import Head


class Moody(Head):
    name = "moody"

    def fit(self, support, labels, way, generator):
        if len(labels) % 2:
            raise ValueError("an odd support set")
        return lambda query: -torch.cdist(query[0], support[0])[:, :way]


class Peeking(Head):
    name = "peeking"
    tuning = "validation classes"

    def fit(self, support, labels, way, generator):
        means = torch.stack([support[0][labels == k].mean(0) for k in range(way)])
        return lambda query: -torch.cdist(query[0] - query[0].mean(0), means)
"""
FLAGS = ["--image-size", "32", "--device", "cpu", "--sources", "dtd"]


@pytest.fixture(scope="module")
def checkpoint(miniature, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    training = ["--epochs", "1", "--batch-size", "64", "--episodes", "1", "--heads", "knn"]
    command = ["--records", str(miniature), *FLAGS, *training, "--backbone", "resnet18"]
    assert main([*command, "--output", str(folder)]) == 0
    return str(folder / "resnet18.safetensors")


@pytest.fixture
def evaluate(miniature, checkpoint, tmp_path, capsys):
    def call(*arguments, output="run"):
        given = ["--records", str(miniature), "--checkpoint", checkpoint, *FLAGS]
        given += ["--backbone", "resnet18", "--output", str(tmp_path / output)]
        status = main([*given, *map(str, arguments)])
        # A console breaks long lines.
        return status, *(" ".join(text.split()) for text in capsys.readouterr())

    return call


def rows(folder):
    with RowStore(folder / "rows.sqlite") as store:
        return store.rows()


def test_a_head_that_fails_is_reported_and_the_others_finish(evaluate, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    head = f"{tmp_path / 'mine.py'}:Moody"
    status, out, err = evaluate("--episodes", 8, "--heads", head, "prototypical")
    assert status == 0
    found = rows(tmp_path / "run")
    failed = [row for row in found if not row.ok]
    assert failed and {row.head for row in failed} == {"moody"}
    assert all(row.support_size % 2 for row in failed)
    assert sum(row.head == "prototypical" and row.ok for row in found) == 8
    assert "failed: ValueError: an odd support set" in err and "mine.py, line 11" in err
    assert f"moody failed on {len(failed)} of 8 episodes of dtd" in err
    assert "8 of 8" not in out


def test_a_head_that_peeks_is_found_out(evaluate, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    status, out, err = evaluate("--episodes", 2, "--heads", f"{tmp_path / 'mine.py'}:Peeking")
    assert status == 0
    assert "head peeking: scores of a query depend on the other queries." in err
    assert "depend on the other queries" in out
    with RowStore(tmp_path / "run" / "rows.sqlite") as store:
        (run,) = store.runs()
        (label,) = {row.head for row in store.rows()}
    assert label == "peeking (transductive)"
    assert '"tuning": "validation classes"' in json.dumps(run.calls)


def test_features_are_shared_between_runs(evaluate, tmp_path):
    features = ("--features", tmp_path / "features", "--episodes", 3)
    _, _, first = evaluate(*features, "--heads", "prototypical", output="a")
    assert "different" in first and ", 0 without features yet" not in first
    _, _, second = evaluate(*features, "--heads", "ncc_cosine", "prototypical", output="b")
    assert ", 0 without features yet" in second
    stripped = lambda name: [  # noqa: E731
        (row.index, row.correct) for row in rows(tmp_path / name) if row.head == "prototypical"
    ]
    assert stripped("a") == stripped("b")
    kept = sorted(path.name for path in (tmp_path / "features").iterdir())
    assert len(kept) == 1 and kept[0].startswith("dtd-test-")
    _, _, third = evaluate(*features, "--heads", "knn", "--feature-dtype", "float16", output="c")
    assert ", 0 without features yet" not in third


def test_memory_moves_no_number(evaluate, tmp_path):
    heads = ("--episodes", 4, "--heads", "prototypical", "sur", "finetune", "bd_cspn")
    found = []
    for number, gigabytes in enumerate((0, 0.001, 2)):
        evaluate(*heads, "--max-memory", gigabytes, output=f"run{number}")
        found.append([(r.head, r.index, r.correct) for r in rows(tmp_path / f"run{number}")])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--feature-dtype", "float8"], "unknown feature dtype 'float8'"),
        (["--max-memory", -1], "--max-memory is -1"),
        (["--time-limit", -1], "--time-limit is -1"),
        (["--heads", "urt"], "Train one with train-urt"),
        (["--heads", "mahalanobs"], "Did you mean 'mahalanobis'?"),
    ],
)
def test_bad_settings(evaluate, flags, message):
    status, _, err = evaluate("--episodes", 1, *flags)
    assert status == 2 and message in err
