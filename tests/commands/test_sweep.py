"""The command `sweep`: what is stored is skipped, what fails stops no other, and goes on."""

import shutil

import pytest
import yaml

from run_meta_dataset import main
from tests.fewshot.work.evaluations import rows, write_backbone

DEADLY = """
import os
from fewshot.heads import Head

class Deadly(Head):
    name = "deadly"

    def fit(self, support, labels, way, generator):
        if os.environ.get("DEADLY"):
            os._exit(9)
        return lambda query: query[0][:, :way]
"""


@pytest.fixture
def study(miniature, tmp_path):
    """A grid of three heads: a good one, one that ends its process, and a wrong one."""
    (tmp_path / "mine.py").write_text(DEADLY, encoding="utf-8")
    checkpoint = write_backbone(tmp_path / "resnet18.safetensors")
    base = {"records": str(miniature), "checkpoint": str(checkpoint), "backbone": "resnet18"}
    base |= {"image_size": 32, "episodes": 3, "device": "cpu", "sources": ["dtd"], "threads": 1}
    heads = ["prototypical", f"{tmp_path / 'mine.py'}:Deadly", "knn:ks=1"]
    content = {"base": base, "grid": {"seed": [4], "heads": heads}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return tmp_path / "study.yaml", tmp_path / "runs"


def test_what_fails_stops_no_other_and_is_tried_again(study, monkeypatch, capsys):
    path, output = study
    sweep = ["sweep", str(path), "--output", str(output)]
    folder = output / "seed=4"
    monkeypatch.setenv("DEADLY", "1")
    assert main(sweep) == 1
    told = capsys.readouterr()
    assert "3 cells in 1 run folders" in told.out
    assert "1 cells evaluated, 0 were stored, 2 failed." in told.out
    assert "Deadly on seed=4: its process died: exit status 9." in told.out
    assert "failed: knn:ks=1 on seed=4: unknown setting of head knn 'ks'." in told.out
    assert "cells: 3 of 3 2 failed" in told.err and "now tried one by one" in told.err
    assert {(row["head"], row["status"]) for row in rows(folder)[1]} == {("prototypical", "ok")}
    before = rows(folder)

    assert main([*sweep, "--list"]) == 0
    listed = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert listed[0] == ["stored", "prototypical"] and [one[0] for one in listed[1:]] == ["to"] * 2

    monkeypatch.delenv("DEADLY")
    path.write_text(path.read_text().replace("knn:ks=1", "knn"), encoding="utf-8")
    assert main(sweep) == 0
    told = capsys.readouterr()
    assert "2 cells evaluated, 1 were stored, 0 failed." in told.out
    found = rows(folder)[1]
    assert len(found) == 9 and all(row in found for row in before[1])
    assert main(["table", str(output), "--format", "markdown"]) == 0
    assert "knn" in capsys.readouterr().out


def test_cells_are_stored_only_while_what_they_are_made_of_is_the_same(study, capsys):
    path, output = study
    content = yaml.safe_load(path.read_text())
    content["grid"]["heads"] = ["prototypical"]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    sweep = ["sweep", str(path), "--output", str(output)]
    assert main([*sweep, "--shard", "2/2"]) == 0
    assert "0 cells in 0 run folders" in capsys.readouterr().out
    assert main(sweep) == 0
    capsys.readouterr()

    def listed():
        assert main([*sweep, "--list"]) == 0
        return capsys.readouterr().out.splitlines()[-1].split()[0]

    assert listed() == "stored"
    checkpoint = path.parent / "resnet18.safetensors"
    shutil.copy(checkpoint, path.parent / "kept")
    write_backbone(checkpoint, seed=1)
    assert listed() == "to"
    shutil.copy(path.parent / "kept", checkpoint)
    assert listed() == "stored"
    content["base"]["episodes"] = 4
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert listed() == "to"
