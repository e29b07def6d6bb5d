"""The command `imagenet-c`, from checkpoints to table and figure; killed for real."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import tyro
from PIL import Image
from rich.console import Console
from torchvision.models import get_model

from commands import imagenet_c
from episodes import InputError
from episodes.miniature.validation import draw_validation
from fewshot.backbones import build_backbone
from fewshot.checkpoint import Card, save_checkpoint
from fewshot.imagenet_c.corruptions import COUNTED
from run_meta_dataset import main
from tests.fewshot.imagenet_c.layouts import CLASSES, write_release, write_validation

PROJECT = Path(__file__).parents[2]
QUICK = ("--resize", 32, "--jobs", 1, "--plots", "png")


def write_checkpoint(path, name="resnet18", classes=CLASSES, rule="official", outputs=None):
    card = Card(name, "test", "ilsvrc_2012", "train", classes, 32, rule, "md-v1", 0)
    network = build_backbone(name, outputs or len(classes), 0).eval()
    save_checkpoint(path, network, replace(card, outputs=outputs))
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A plain and an anti-aliased classifier of the same three classes, untrained."""
    folder = tmp_path_factory.mktemp("pair")
    return [
        write_checkpoint(folder / f"{name}.safetensors", name)
        for name in ("resnet18", "aa_resnet18")
    ]


@pytest.fixture
def validation(tmp_path):
    return write_validation(tmp_path / "val")


def run(*arguments):
    """What the command printed."""
    output = io.StringIO()
    command = tyro.cli(imagenet_c.Command, args=[str(argument) for argument in arguments])
    assert imagenet_c.run(command, Console(file=output, width=200)) == 0
    return output.getvalue()


def lines_of(folder):
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_plain_and_antialiased_side_by_side(tmp_path, pair, validation):
    out = tmp_path / "out"
    said = run("--backbone", "resnet18", "aa_resnet18", "--checkpoint", *pair,
               "--images", validation, "--output", out, *QUICK)  # fmt: skip
    assert "imagenet-c/in-memory-v1: 6 images of 3 classes in 96 cells, 2 classifiers" in said
    assert "resized from 224 to 32 px by the rule official" in said
    assert "1 other class folders are left out" in said
    lines = lines_of(out)
    values = {(li["column"], li["corruption"], li["severity"]): li["error"] for li in lines}
    assert len(values) == 2 * (96 + 3) and all(values.values())
    for column in ("resnet18", "aa_resnet18"):
        kept = json.loads((out / f"{column}.json").read_text())["results"]
        assert len(kept) == 96
        errors = [
            float(values[column, name, str(severity)])
            for name in COUNTED
            for severity in range(1, 6)
        ]
        assert float(values[column, "mean_corruption_error", ""]) == pytest.approx(sum(errors) / 75)
    assert "imagenet-c/in-memory-v1 · resnet18 + aa_resnet18" in (out / "table.md").read_text()
    assert r"mce\_alexnet" in (out / "table.tex").read_text()
    with Image.open(out / "errors.png") as figure:
        assert figure.width > 1000


def test_an_incomplete_release_has_no_mean(tmp_path, pair):
    folder = write_release(tmp_path / "c", ["fog"], [1, 2, 3])
    out = tmp_path / "out"
    said = run("--checkpoint", pair[0], "--images", folder, "--output", out, *QUICK)
    assert "imagenet-c/official-jpeg: 6 images of 3 classes in 3 cells" in said
    assert "gaussian_noise, shot_noise" in said and "fog/4, fog/5, brightness" in said
    values = {(li["corruption"], li["severity"]): li["error"] for li in lines_of(out)}
    assert values["fog", "3"] != "" and values["fog", "4"] == ""
    assert values["mean_corruption_error", ""] == values["mce_alexnet", ""] == ""
    row = next(li for li in (out / "table.md").read_text().splitlines() if li.startswith("| fog"))
    assert row.split("|")[2].strip() == "–"


def test_imported_weights_are_scored_on_the_classes_of_their_list(tmp_path, pair, validation):
    """A classifier from elsewhere that always answers by its bias: n777 before n002."""
    network = get_model("squeezenet1_1", num_classes=5).eval()
    with torch.no_grad():
        network.classifier[1].weight.zero_()
        network.classifier[1].bias.copy_(torch.tensor([1.0, 2, 3, 4, 0]))
    torch.save(network.state_dict(), tmp_path / "elsewhere.pth")
    lists = tmp_path / "classes.txt"
    lists.write_text("n003\nn001\nn002\nn777\nn000\n")
    path = tmp_path / "in.safetensors"
    given = ["checkpoint", "import", tmp_path / "elsewhere.pth", "--classes", lists, "--out", path]
    given += ["--backbone", "torchvision/squeezenet1_1", "--seen", "ilsvrc_2012"]
    assert main([str(one) for one in given]) == 0
    flags = ("--images", validation, "--corruptions", "fog", "--plots", "png", "--jobs", 1)
    flags += ("--resize", 64)

    def errors(folder, column):
        lines = [li for li in lines_of(tmp_path / folder) if li["column"] == column]
        return [float(li["error"]) for li in lines if li["severity"] and li["error"]]

    said = run("--checkpoint", path, "--output", tmp_path / "known", *flags)
    assert "6 images of 3 classes, of the 5 that the classifier knows" in said
    assert "the best of all classes that it knows" in said
    column = "torchvision/squeezenet1_1"
    assert set(errors("known", column)) == {1.0}  # n777 is its best guess, and has no images
    said = run("--checkpoint", path, pair[0], "--output", tmp_path / "both", *flags,
               "--guess", "folders")  # fmt: skip
    assert "the best of these 3 classes alone" in said
    assert "of the 3 that every classifier knows" in said
    assert errors("both", column) == [pytest.approx(2 / 3)] * 6  # now always n002
    run("--checkpoint", pair[0], "--output", tmp_path / "alone", *flags)
    assert errors("alone", "resnet18") == errors("both", "resnet18")
    with pytest.raises(InputError, match="results of another guess"):
        run("--checkpoint", path, "--output", tmp_path / "known", *flags, "--guess", "folders")


def test_a_slash_in_a_backbone_s_name_makes_no_folder(tmp_path, validation, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_checkpoint(tmp_path / "c.safetensors", "aa[skip;binomial5]_timm/resnet18")
    run("--checkpoint", path, "--images", validation, "--corruptions", "fog", *QUICK)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("imagenet-c-aa[skip;binomial5]_timm-resnet18-")
    assert (folder / "aa[skip;binomial5]_timm-resnet18.json").is_file()


def test_without_resize_the_network_sees_224_pixels(tmp_path, pair):
    folder = write_release(tmp_path / "c", ["fog"], [1])
    out = tmp_path / "out"
    said = run("--checkpoint", pair[0], "--images", folder, "--output", out, "--plots", "png",
               "--corruptions", "fog", "--per-class", 1)  # fmt: skip
    assert "Images seen at 224 px; backbones trained at 32 px." in said
    assert "Only the first 1 images of each class." in said
    assert json.loads((out / "resnet18.json").read_text())["identity"]["resize"] is None
    with pytest.raises(InputError, match="results of another resize"):
        run("--checkpoint", pair[0], "--images", folder, "--output", out, "--resize", 32,
            "--corruptions", "fog", "--per-class", 1)  # fmt: skip


def test_the_two_kinds_never_share_scores(tmp_path, pair, validation):
    folder = write_release(tmp_path / "c", ["fog"], [1])
    out = tmp_path / "out"
    flags = ("--checkpoint", pair[0], "--output", out, "--corruptions", "fog", *QUICK)
    run(*flags, "--images", folder)
    with pytest.raises(InputError, match="results of another benchmark"):
        run(*flags, "--images", validation)


def test_the_miniature_needs_no_images(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = draw_validation()
    classes = tuple(sorted(path.name for path in folder.iterdir()))
    assert len(classes) == 50 and len(list(folder.rglob("*.JPEG"))) == 100
    first = next(folder.rglob("*.JPEG"))
    before = first.stat().st_mtime_ns
    path = write_checkpoint(tmp_path / "a.safetensors", classes=classes)
    said = run("--checkpoint", path, "--output", tmp_path / "out", "--corruptions", "contrast",
               "--per-class", 1, "--plots", "svg")  # fmt: skip
    assert "miniature-c (not ImageNet-C), imagenet-c/in-memory-v1: 50 images of 50 classes" in said
    assert "never comparable" in said and "resized from 224 to 32 px" in said
    assert first.stat().st_mtime_ns == before


def test_checkpoints_that_cannot_share_a_table_are_refused(tmp_path, pair, validation):
    other = write_checkpoint(tmp_path / "o.safetensors", classes=("n001", "n002"))
    rule = write_checkpoint(tmp_path / "r.safetensors", rule="antialiased")
    for path, what in (
        (other, "other classes .*Add --guess folders"),
        (rule, "another image rule"),
    ):
        with pytest.raises(InputError, match=what):
            run("--checkpoint", pair[0], path, "--images", validation, *QUICK)
    with pytest.raises(InputError, match="unknown guess 'folder'"):
        run("--checkpoint", pair[0], "--images", validation, "--guess", "folder")
    nameless = write_checkpoint(tmp_path / "n.safetensors", outputs=5)
    with pytest.raises(InputError, match="outputs have no class names"):
        run("--checkpoint", nameless, "--images", validation, *QUICK)
    with pytest.raises(InputError, match="2 backbones, but 1 checkpoints"):
        run("--checkpoint", pair[0], "--backbone", "resnet18", "aa_resnet18")
    with pytest.raises(InputError, match="holds the backbone aa_resnet18, not resnet18"):
        run("--checkpoint", *pair, "--backbone", "resnet18", "--images", validation)


@pytest.mark.parametrize(
    "flags", [("--resize", 0), ("--per-class", 0), ("--jobs", 0), ("--seed", -1)]
)
def test_impossible_settings_are_named(pair, flags):
    with pytest.raises(InputError, match=flags[0]):
        run("--checkpoint", pair[0], *flags)


@pytest.mark.parametrize(
    ("flags", "what"), [(("--corruptions", "frog"), "frost"), (("--plots", "gif"), "svg")]
)
def test_unknown_names_are_answered_with_known_ones(pair, validation, flags, what):
    with pytest.raises(InputError, match=what):
        run("--checkpoint", pair[0], "--images", validation, *flags)


def test_a_killed_evaluation_goes_on_to_the_same_table(tmp_path, pair, validation):
    def command(out):
        flags = ["--checkpoint", *pair, "--images", validation, "--output", out, *QUICK]
        flags += ["--corruptions", "snow", "contrast", "pixelate", "glass_blur"]
        program = [sys.executable, "run_meta_dataset.py", "imagenet-c"]
        return [*program, *map(str, flags)]

    scores = tmp_path / "out" / "aa_resnet18.json"
    process = subprocess.Popen(
        command(tmp_path / "out"), cwd=PROJECT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not (scores.exists() and len(json.loads(scores.read_text())["results"]) >= 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = json.loads(scores.read_text())["results"]
    assert 3 <= len(kept) < 21
    for out in ("out", "whole"):
        done = subprocess.run(
            command(tmp_path / out), check=False, cwd=PROJECT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    counts = [
        [(li["column"], li["corruption"], li["severity"], li["error"]) for li in lines_of(folder)]
        for folder in (tmp_path / "out", tmp_path / "whole")
    ]
    assert counts[0] == counts[1]
    again = json.loads(scores.read_text())["results"]
    assert {key: again[key] for key in kept} == kept  # to the very seconds: not computed again
