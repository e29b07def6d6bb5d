"""The record says truthfully which code ran, or says nothing."""

import json
import subprocess
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from fewshot.results import provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_record_is_json_and_complete() -> None:
    record = provenance.collect("cpu", ["run", "--sources", "a b"])
    assert json.loads(json.dumps(record)) == record
    assert record["versions"]["numpy"] == version("numpy")
    assert record["versions"]["torch"] == version("torch")
    assert (record["device"], record["command"]) == ("cpu", "run --sources 'a b'")
    assert datetime.fromisoformat(record["time"]).utcoffset() == timedelta(0)
    assert provenance.collect("cpu")["command"]


def test_a_checkout_has_a_commit_and_may_be_dirty(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert provenance.git_state(tmp_path) is None  # no commit yet
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert provenance.git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "code.py").write_text("2")
    assert provenance.git_state(tmp_path) == {"commit": commit, "dirty": True}


def test_a_folder_inside_another_checkout_has_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    (tmp_path / "site-packages").mkdir()
    assert provenance.git_state(tmp_path / "site-packages") is None


def test_no_git_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_state(tmp_path) is None
