"""A grid in a file becomes a work list; every mistake in it is one sentence."""

import pytest

from commands.evaluate import parse
from episodes import InputError
from fewshot.study import count_cells, name_of, read_study

GRID = """
base: {records: there, episodes: 7, sources: [dtd, omniglot]}
variants:
  - {backbone: resnet18, checkpoint: a/one.safetensors}
  - {backbone: aa_resnet18, checkpoint: b/one.safetensors}
grid:
  heads: [prototypical, "finetune:steps=3,layers=all"]
  image-size: [84, 126]
  seed: [0, 1, 2]
"""


def read(tmp_path, text):
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    return read_study(tmp_path / "study.yaml", tmp_path / "out", lambda flags: parse(flags, "x"))


def test_every_cell_is_there_once_with_its_settings(tmp_path):
    works = read(tmp_path, GRID)
    assert len(works) == 12 and count_cells(works) == 24
    cells = [cell for work in works for cell in work.cells]
    settings = {
        (e.backbone, str(e.checkpoint[0]), e.heads, e.image_size, e.seed)
        for e in (cell.experiment for cell in cells)
    }
    assert len(settings) == 24
    assert {(b, c) for b, c, *_ in settings} == {
        (("resnet18",), "a/one.safetensors"),
        (("aa_resnet18",), "b/one.safetensors"),
    }
    assert {cell.experiment.sources for cell in cells} == {("dtd", "omniglot")}
    assert {cell.experiment.episodes for cell in cells} == {7}
    for work in works:
        assert work.experiment.heads == ("prototypical", "finetune:steps=3,layers=all")
        assert work.experiment.output == tmp_path / "out" / work.name
    assert len({work.name for work in works}) == 12
    assert works[0].name.startswith("resnet18,checkpoint=one,image_size=84,seed=0")


def test_without_records_the_miniature_has_its_own_settings(tmp_path):
    (work,) = read(tmp_path, "grid: {seed: [3]}")
    assert work.experiment.episodes == 60 and work.experiment.seed == 3
    assert work.experiment.heads == ("prototypical", "finetune", "sur")
    assert len(work.cells) == 3


def test_names_tell_choices_apart_and_lie_in_one_folder():
    choices = [
        {"backbone": "resnet18", "seed": 1},
        {"backbone": "aa[skip;binomial5]_resnet18", "seed": 1},
        {"backbone": "aa-skip-binomial5-_resnet18", "seed": 1},
        {"protocol": "../../etc/passwd"},
        {"protocol": "----etc-passwd"},
        {"backbone": ["resnet18", "resnet34"]},
        {"features": "x" * 300},
        {"features": "x" * 301},
        {"checkpoint": "a/b.safetensors"},
        {"checkpoint": "c/b.safetensors"},
        {},
    ]
    names = [name_of(choice) for choice in choices]
    assert len(set(names)) == len(names)
    assert not any("/" in name or name.startswith(".") or len(name) > 140 for name in names)
    assert names[0] == "resnet18,seed=1" and names[-1] == "study"


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is not a mapping of base, variants and grid"),
        ("[1]", "is not a mapping of base, variants and grid"),
        ("grid: [", "is not YAML"),
        ("grd: {seed: [1]}", "unknown part 'grd'. Did you mean 'grid'?"),
        ("grid: {sed: [1]}", "unknown setting 'sed'. Did you mean 'seed'?"),
        ("grid: {seed: 1}", "'seed' of the grid is not a list of values"),
        ("grid: {seed: []}", "'seed' of the grid is not a list of values"),
        ("grid: {seed: [-1]}", "--seed is -1"),
        ("grid: {heads: [knn, knn]}", "asks twice for knn"),
        ("grid: {seed: [1, 1]}", "asks twice for prototypical on seed=1"),
        ("base: {output: x}", "'output' of 'base' is decided by the sweep"),
        ("variants: {a: b}", "'variants' is not a list of mappings"),
        ("variants: [1]", "'variants' is not a mapping of settings"),
        ("base: 7", "'base' is not a mapping of settings"),
        ("grid: {backbone: [resnet19]}", "resnet19"),
        ("base: {seed: soon}", "has a value of the wrong type"),
        (
            f"grid: {{seed: {[*range(101)]}, episodes: {[*range(1, 101)]}}}",
            "asks for 10,100 cells; 10,000 is the limit",
        ),
    ],
)
def test_mistakes(tmp_path, text, message):
    with pytest.raises(InputError, match=r"(?s).*") as fault:
        read(tmp_path, text)
    assert message in str(fault.value) and "\n" not in str(fault.value)
    assert str(tmp_path / "study.yaml") in str(fault.value) or "unknown" in message


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_study(tmp_path / "none.yaml", tmp_path, lambda flags: parse(flags, "x"))
