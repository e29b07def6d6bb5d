"""A head in a file of the user's own, outside the repository."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from episodes.faults import InputError
from fewshot import score
from fewshot.heads import build_head, file_of_head, is_own

NEAREST = '''
from dataclasses import dataclass

import torch
from fewshot.heads import Head


@dataclass(frozen=True)
class Nearest(Head):
    """A query takes the class of its nearest support item."""

    name = "nearest"
    power: float = 2.0

    def fit(self, support, labels, way, generator):
        def predict(query):
            distances = torch.cdist(query[0], support[0], p=self.power)
            nearest = [distances[:, labels == k].amin(dim=1) for k in range(way)]
            return -torch.stack(nearest, dim=1)

        return predict
'''
SUPPORT = torch.tensor([[0.0, 0.0], [0.0, 4.0], [3.0, 0.0]])
LABELS = torch.tensor([0, 1, 0])


@pytest.fixture
def nearest(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(NEAREST)
    return path


def test_a_head_by_path_scores(nearest: Path) -> None:
    scores = score(f"{nearest}:Nearest", SUPPORT, LABELS, torch.tensor([[0.0, 3.0]]))
    assert scores.tolist() == [[-3.0, -1.0]]


def test_its_settings_are_read_and_labelled(nearest: Path) -> None:
    head = build_head(f"{nearest}:Nearest:power=1")
    assert str(head) == "nearest:power=1.0"
    assert score(head, SUPPORT, LABELS, torch.tensor([[1.0, 3.0]])).tolist() == [[-4.0, -2.0]]
    with pytest.raises(InputError, match="Did you mean 'power'"):
        build_head(f"{nearest}:Nearest:powr=1")


def test_a_relative_path_is_taken_from_the_working_folder(
    nearest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nearest.parent)
    assert str(build_head("mine.py:Nearest")) == "nearest"


def test_an_edited_file_is_read_again(nearest: Path) -> None:
    build_head(f"{nearest}:Nearest")
    nearest.write_text(NEAREST.replace('"nearest"', '"tseraen"'))  # same size and second
    assert str(build_head(f"{nearest}:Nearest")) == "tseraen"


@pytest.mark.parametrize(
    ("head", "old", "new", "message"),
    [
        ("", "", "", "names no class. Write the class after a colon"),
        (":Nearst", "", "", "unknown class 'Nearst'. Did you mean 'Nearest'?"),
        (":torch", "", "", "is not a head"),
        (":Nearest", "(Head)", "", "is not a head. Derive it from fewshot.heads.Head."),
        (":Nearest", 'name = "nearest"', "pass", "has no name"),
        (":Nearest", '"nearest"', '"sur"', "calls itself 'sur'"),
        (":Nearest", "def fit", "def fitt", "implements neither `fit` nor `fit_backbone`"),
        (":Nearest", "@dataclass(frozen=True)", "", "has settings (power) but is not a dataclass"),
        (":Nearest", "import torch", "raise SystemExit(3)", "the file fails to run: SystemExit: 3"),
        (":Nearest", "import torch", "import trch", "ModuleNotFoundError: No module named 'trch'"),
        (":Nearest", "class Nearest", "class Nearest Head", "the file fails to run: SyntaxError"),
        (":Nearest", "@dataclass(frozen=True)", "@dataclass", "the file fails to run: TypeError"),
    ],
)
def test_a_bad_file_is_one_clear_message(
    nearest: Path, head: str, old: str, new: str, message: str
) -> None:
    nearest.write_text(NEAREST.replace(old, new, 1))
    with pytest.raises(InputError) as fault:
        build_head(f"{nearest}{head}")
    assert message in str(fault.value)
    assert str(nearest) in str(fault.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    known = set(sys.modules)
    with pytest.raises(InputError, match=r"mine\.py: there is no such file"):
        build_head(f"{tmp_path}/mine.py:Nearest")
    assert set(sys.modules) == known


def test_a_head_with_a_required_setting_says_so(nearest: Path) -> None:
    nearest.write_text(NEAREST.replace("power: float = 2.0", "power: float"))
    with pytest.raises(InputError, match=r"missing 1 required positional argument: 'power'"):
        build_head(f"{nearest}:Nearest")
    assert str(build_head(f"{nearest}:Nearest:power=3")) == "nearest:power=3.0"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that offers a head as an entry point, as pip would leave it."""
    (tmp_path / "my_package.py").write_text(NEAREST)
    folder = tmp_path / "my_package-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    points = "nearest = my_package:Nearest\nbroken = my_package:Absent\nplain = my_package:torch\n"
    (folder / "entry_points.txt").write_text(f"[fewshot.heads]\n{points}")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_package", None)


def test_a_head_of_an_installed_package_goes_by_its_name(installed: Path) -> None:
    head = build_head("nearest:power=1")
    assert str(head) == "nearest:power=1.0" and is_own(head)
    assert file_of_head(head) == installed / "my_package.py"
    assert score(head, SUPPORT, LABELS, torch.tensor([[1.0, 3.0]])).tolist() == [[-4.0, -2.0]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("neerest", "unknown head 'neerest'. Did you mean 'nearest'?"),
        ("broken", "entry point broken = my_package:Absent: fails to import: AttributeError"),
        ("plain", "is not a head"),
    ],
)
def test_a_bad_entry_point_is_one_message(installed: Path, name: str, message: str) -> None:
    with pytest.raises(InputError) as fault:
        build_head(name)
    assert message in str(fault.value)


def test_heads_of_the_project_are_not_own() -> None:
    assert not is_own(build_head("sur")) and file_of_head(build_head("sur")) is None
