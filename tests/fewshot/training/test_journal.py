"""The log: each step is told once, whatever interrupted the training."""

import json

import pytest

from episodes.faults import InputError
from fewshot.training.journal import Journal
from fewshot.training.loop import Score
from fewshot.training.meter import Report


def report(step):
    return Report(step, 20, 0.5, 0.1, 0.2, 0.01, 80.0)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_training_that_goes_back_repeats_no_line(tmp_path):
    path = tmp_path / "log.jsonl"
    journal = Journal(path)
    for step in (5, 10, 15):
        journal.report(report(step))
    with path.open("a") as file:
        file.write('{"step": 16, "lo')  # killed while it wrote
    again = Journal(path, step=10)
    again.report(report(15))
    assert [line["step"] for line in lines(path)] == [5, 10, 15]


def test_what_is_in_a_line(tmp_path):
    journal = Journal(tmp_path / "log.jsonl")
    journal.report(report(5))
    journal.score(Score(0.4, {"few_shot": {"dtd": (0.4, 0.02)}, "held_out": {}}), 5)
    first, second = lines(tmp_path / "log.jsonl")
    assert first["data_seconds"] == 0.01 and "gpu_utilisation" not in first
    assert second == {
        "step": 5,
        "validation": 0.4,
        "few_shot": {"dtd": [0.4, 0.02]},
        "held_out": {},
    }


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        Journal(tmp_path / "log.jsonl")
