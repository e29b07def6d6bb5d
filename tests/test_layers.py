"""Imports point one way, and files stay short; and these tests can fail."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
ORDER = ("episodes", "fewshot", "baselines", "commands", "run_meta_dataset")
INSIDE = {
    # a module → what it must not import
    "fewshot/heads": ("fewshot.backbones", "fewshot.evaluation", "fewshot.features", "fewshot.run"),
    "fewshot/results": ("torch", "fewshot.heads", "fewshot.backbones"),
    "fewshot/experiment.py": ("torch",),
    "fewshot/cost.py": ("torch",),
    "episodes/sampling.py": ("torch", "episodes.reader", "episodes.records", "episodes.images"),
    "commands/pack.py": ("torch",),
    "episodes/spec.py": ("episodes.sampling", "episodes.reader", "episodes.records"),
    "episodes/protocol.py": ("episodes.spec", "episodes.sampling"),
}
MOST_LINES = 400


def sources(place):
    path = PROJECT / place
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def imported(text):
    """Names of the modules that a source text imports, at any depth of indentation."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def breaches(text, forbidden):
    return [
        name
        for name in imported(text)
        if any(name == bad or name.startswith(bad + ".") for bad in forbidden)
    ]


def room(name):
    return PROJECT / (name + ".py" if name == ORDER[-1] else name)


@pytest.mark.parametrize("name", [name for name in ORDER if room(name).exists()])
def test_imports_point_one_way(name):
    later = ORDER[ORDER.index(name) + 1 :]
    place = room(name).relative_to(PROJECT)
    faults = {str(path): breaches(path.read_text(), later) for path in sources(place)}
    assert not {path: names for path, names in faults.items() if names}


@pytest.mark.parametrize("place", INSIDE)
def test_imports_inside_a_room(place):
    assert sources(place)
    faults = {str(path): breaches(path.read_text(), INSIDE[place]) for path in sources(place)}
    assert not {path: names for path, names in faults.items() if names}


def test_a_planted_breach_is_found():
    text = "def f():\n    from fewshot.heads import HEADS\n"
    assert breaches(text, ("fewshot",)) == ["fewshot.heads"]
    assert breaches("import torch.nn", ("torch",)) == ["torch.nn"]
    assert breaches("import torchvision", ("torch",)) == []


def test_no_file_is_long():
    rooms = [*ORDER[:-1], "tests", "benchmarks"]
    files = [path for name in rooms if (PROJECT / name).is_dir() for path in sources(name)]
    files.append(PROJECT / "run_meta_dataset.py")
    lengths = {str(path): len(path.read_text().splitlines()) for path in files}
    assert not {path: n for path, n in lengths.items() if n > MOST_LINES}


def test_no_file_has_an_empty_name():
    vague = {"util", "utils", "helper", "helpers", "misc", "common"}
    assert not [p for name in ORDER[:-1] for p in sources(name) if p.stem in vague]
