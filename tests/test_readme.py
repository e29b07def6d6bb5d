"""What the README says is run."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from fewshot import score
from fewshot.heads import build_head
from run_meta_dataset import parse_command

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_checks_of_a_change_are_the_readmes_test_command():
    (command,) = [
        line for block in blocks("bash") for line in block.splitlines() if "pytest" in line
    ]
    assert command in (PROJECT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_example_head_is_ten_lines_and_works(tmp_path):
    (example,) = [block for block in blocks("python") if "(Head)" in block]
    code = [line for line in example.splitlines() if line.strip() and "import" not in line]
    assert len(code) <= 10
    (tmp_path / "nearest.py").write_text(example, encoding="utf-8")
    head = build_head(f"{tmp_path / 'nearest.py'}:NearestNeighbour")
    support = torch.tensor([[0.0, 0.0], [9.0, 0.0], [3.0, 4.0]])
    found = score(head, support, torch.tensor([0, 1, 0]), torch.tensor([[0.0, 0.0], [8.0, 0.0]]))
    assert found.tolist() == [[-0.0, -9.0], [-(41**0.5), -1.0]] or torch.allclose(
        found, torch.tensor([[0.0, -9.0], [-(41**0.5), -1.0]])
    )


COMMANDS = [
    line.split("run_meta_dataset.py", 1)[1]
    for block in blocks("bash")
    for line in block.splitlines()
    if "run_meta_dataset.py" in line
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command, monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert parse_command(shlex.split(command))[1]


def test_every_folder_is_named():
    folders = {p.name for p in PROJECT.iterdir() if (p / "__init__.py").exists()}
    assert all(f"`{name}/`" in README for name in folders)


def test_the_architecture_names_every_module():
    text = (PROJECT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for name in ("episodes", "fewshot", "commands"):
        for path in (PROJECT / name).iterdir():
            if path.suffix == ".py" and path.name != "__init__.py":
                assert path.name in text, path
