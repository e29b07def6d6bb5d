"""A submission is checked from its files alone; every fault is told."""

import json
from pathlib import Path

import pytest
import yaml

from episodes.faults import InputError
from fewshot.results import RowStore
from fewshot.results import submission as module
from fewshot.results.collection import collect_runs
from fewshot.results.submission import find_submissions, read_submission, write_submission

SKILLS = {("sur", "dtd"): 0.5, ("finetune", "dtd"): 0.7}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST_EPISODES", 4)


@pytest.fixture
def folder(tmp_path: Path, fill, few) -> Path:
    fill(tmp_path / "run", SKILLS, 4, experiment={"heads": ["sur"]})
    assert write_submission(collect_runs(tmp_path / "run").runs, tmp_path / "mine", "Mine") == []
    return tmp_path / "mine"


def test_a_round_trip(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"rows.parquet", "card.json", "config.yaml"}
    found = read_submission(folder)
    assert found.name == "Mine" and [m.name for m in found.methods] == ["finetune", "sur"]
    assert len(found.methods[0].rows) == 4 and "We evaluate" in found.paragraphs[0]
    assert set(found.plans[0]) == {"dtd"}
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(config) == {"heads": ["sur"]} and config.startswith("# command:  run_")
    assert find_submissions(folder.parent) == [folder]


def test_of_many_rows_with_too_few_episodes_some_are_named(tmp_path: Path, fill, few) -> None:
    fill(tmp_path / "run", {(f"head{k}", "dtd"): 0.5 for k in range(5)}, 2)
    faults = write_submission(collect_runs(tmp_path / "run").runs, tmp_path / "mine", "Mine")
    assert "(head0 on dtd: 2, head1 on dtd: 2, head2 on dtd: 2 and 2 more)" in "; ".join(faults)


def test_too_few_episodes_and_what_is_not_said(tmp_path: Path, fill, few) -> None:
    fill(tmp_path / "run", SKILLS, 3, git=None, backbones=[{"backbone": "b", "source": "x"}])
    faults = write_submission(collect_runs(tmp_path / "run").runs, tmp_path / "mine", "Mine")
    text = "; ".join(faults)
    assert "fewer than 4 episodes (finetune on dtd: 3, sur on dtd: 3)" in text
    assert "does not say the commit, weights and classes of b" in text
    with pytest.raises(InputError, match=r"mine: is not complete: .*the commit.*fewer than 4"):
        read_submission(tmp_path / "mine")


def test_seeds_count_together(tmp_path: Path, fill, few) -> None:
    for seed in (0, 1):
        fill(tmp_path / "run", SKILLS, 2, seed)
    assert write_submission(collect_runs(tmp_path / "run").runs, tmp_path / "mine", "Mine") == []
    assert len(read_submission(tmp_path / "mine").methods[0].rows) == 4


def test_a_failed_episode_is_a_fault(tmp_path: Path, fill, few) -> None:
    fill(tmp_path / "run", SKILLS, 5)
    with RowStore(tmp_path / "run" / "rows.sqlite") as store:
        store._db.execute(
            "UPDATE episodes SET status = 'failed: x', accuracy = NULL, correct = 0, "
            "class_correct = NULL WHERE plan = 1"
        )
    (fault,) = write_submission(collect_runs(tmp_path / "run").runs, tmp_path / "mine", "Mine")
    assert "has 2 failed episodes" in fault


def test_a_card_of_other_rows(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    card["runs"][0]["plans"]["dtd"] = "0" * 16
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(InputError, match="the hashes of its episodes are not those of card"):
        read_submission(folder)


@pytest.mark.parametrize("name", ["rows.parquet", "card.json"])
def test_files_that_are_missing_or_damaged(folder: Path, name: str) -> None:
    for text in ("{}", "nonsense", None):
        (folder / name).unlink(missing_ok=True)
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=name):
            read_submission(folder)


def test_a_folder_without_submissions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no submission here"):
        find_submissions(tmp_path)
