"""A leaderboard is built from submitted files and nothing else."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

from baselines import published
from episodes.protocol import SOURCES, find_protocol
from fewshot.results.known_plans import KnownPlans, read_known, write_known
from fewshot.results.submission import read_submission
from run_meta_dataset import main

PROJECT = Path(__file__).resolve().parents[2]
REAL = published.read_known_plans
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def submitted(tmp_path_factory):
    """A complete submission on all ten sources."""
    from tests.stored_rows import fill_folder

    place = tmp_path_factory.mktemp("submitted")
    makings = {"protocol": {"name": "md-v1", "version": 1, "hash": find_protocol("md-v1").hash}}
    skills = {("mine", source): 0.8 for source in SOURCES}
    fill_folder(place / "run", skills, 600, **makings)
    command = ["results", "submit", place / "run", "--out", place / "mine", "--name", EVIL]
    assert main([*map(str, command)]) == 1  # its episodes are invented
    shutil.rmtree(place / "run")  # nothing else is needed
    return place / "mine"


@pytest.fixture(scope="module", autouse=True)
def invented(submitted):
    """The invented episodes, known beside those of the project for as long as these tests run."""
    (hashes,) = read_submission(submitted).plans
    rules = ("Meta-Dataset", "md-v1", find_protocol("md-v1").hash)
    known = [
        KnownPlans(*rules, source, "test", 0, 600, found, "none")
        for source, found in hashes.items()
    ]
    write_known(known, submitted.parent / "plans.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "read_known_plans", lambda: known)
        yield submitted.parent / "plans.csv"


def call(capsys, *arguments):
    status = main(["leaderboard", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, " ".join(out.split()), " ".join(err.split())


def test_the_site(submitted, tmp_path, capsys):
    status, out, _ = call(capsys, "build", submitted, "--out", tmp_path / "site")
    assert status == 0 and "complete: " in out and "1 submissions" in out
    names = {path.name for path in (tmp_path / "site").iterdir()}
    assert names == {"index.html", "leaderboard.md", "leaderboard.csv", "leaderboard.json"}
    rows = json.loads((tmp_path / "site" / "leaderboard.json").read_text(encoding="utf-8"))
    (mine,) = [row for row in rows if not row["published"]]
    assert mine["training"] == "imagenet" and mine["average_rank"] is not None
    assert mine["method"] == f"mine ({EVIL})"
    page = BeautifulSoup((tmp_path / "site" / "index.html").read_text("utf-8"), "html.parser")
    assert not page.find("img") and EVIL in page.text
    assert [h.text for h in page.find_all("h2")][-1] == "Submissions"
    assert "We evaluate mine" in page.text


def test_faults_are_told_and_nothing_is_built(submitted, tmp_path, capsys):
    shutil.copytree(submitted, tmp_path / "all" / "good")
    (tmp_path / "all" / "bad").mkdir()
    (tmp_path / "all" / "bad" / "card.json").write_text("{", encoding="utf-8")
    for command in (("check",), ("build", "--out", tmp_path / "site")):
        status, out, _ = call(capsys, command[0], tmp_path / "all", *command[1:])
        assert status == 1 and "complete: " in out and "fault: " in out and "card.json" in out
    assert not (tmp_path / "site").exists()
    flags = ("--out", tmp_path / "site", "--skip-faulty")
    assert call(capsys, "build", tmp_path / "all", *flags)[0] == 1
    assert (tmp_path / "site" / "index.html").exists()


def test_unknown_episodes_are_refused(submitted, invented, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(published, "read_known_plans", REAL)
    status, out, _ = call(capsys, "check", submitted)
    assert status == 1 and "the test episodes of seed 0 are not those known" in out
    assert call(capsys, "check", submitted, "--plans", invented)[0] == 0
    assert call(capsys, "check", submitted, "--plans", tmp_path / "none.csv")[0] == 2


def test_lists_are_made_from_specifications(miniature, tmp_path, capsys):
    records = tmp_path / "records"
    (records / "dtd").mkdir(parents=True)
    shutil.copy(miniature / "dtd" / "dataset_spec.json", records / "dtd")
    flags = ("--protocols", "md-v1", "5w1s", "--seeds", 0, 7, "--episodes", 3)
    status, out, _ = call(
        capsys, "plans", "--records", records, "--out", tmp_path / "plans.csv", *flags
    )
    assert status == 0 and "4 lists of 3 episodes" in out and "omniglot is not in" in out
    known = read_known(tmp_path / "plans.csv")
    assert [(one.protocol, one.seed) for one in known] == [
        ("md-v1", 0), ("md-v1", 7), ("5w1s", 0), ("5w1s", 7)
    ]  # fmt: skip
    assert {one.benchmark for one in known} == {"Meta-Dataset"}
    for wrong in (("--seeds", -1), ("--episodes", 0), ("--protocols", "md")):
        assert call(capsys, "plans", "--records", records, "--out", tmp_path / "x", *wrong)[0] == 2


def test_no_submissions(tmp_path, capsys):
    status, _, err = call(capsys, "check", tmp_path)
    assert status == 2 and "no submission" in err


def test_the_workflow_runs_commands_that_there_are(submitted, tmp_path, monkeypatch, capsys):
    text = (PROJECT / ".github/workflows/leaderboard.yml").read_text(encoding="utf-8")
    steps = yaml.safe_load(text)["jobs"]["check"]["steps"]
    commands = [s["run"] for s in steps if "run-meta-dataset" in s.get("run", "")]
    shutil.copytree(submitted, tmp_path / "submissions" / "mine")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert main(command.split()[1:]) == 0
    assert (tmp_path / "site" / "index.html").exists() and len(commands) == 2
    yaml.safe_load((PROJECT / ".github/ISSUE_TEMPLATE/submission.yml").read_text("utf-8"))
