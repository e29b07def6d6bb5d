"""A leaderboard is built from submitted files and nothing else."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

from episodes.protocol import SOURCES, find_protocol
from run_meta_dataset import main

PROJECT = Path(__file__).resolve().parents[2]
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
    assert main([*map(str, command)]) == 0
    shutil.rmtree(place / "run")  # nothing else is needed
    return place / "mine"


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
