"""The command `aliasing`, from checkpoints to tables and figures; stopped and resumed."""

import io
import json

import pytest
import tyro
from rich.console import Console

from commands import aliasing
from episodes import InputError
from fewshot.aliasing import measurement
from fewshot.backbones import build_backbone
from fewshot.checkpoint import Card, save_checkpoint

QUICK = ("--images", 3, "--sources", "dtd", "omniglot", "--plots", "png")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A network with and without filters, untrained."""
    folder, paths = tmp_path_factory.mktemp("pair"), []
    for name in ("resnet18", "aa_resnet18"):
        card = Card(name, "t", "dtd", "train", ("a", "b", "c"), 32, "official", "md-v1", 0)
        paths.append(folder / f"{name}.safetensors")
        save_checkpoint(paths[-1], build_backbone(name, 3, 0).eval(), card)
    return paths


def run(*arguments):
    """What the command printed."""
    output = io.StringIO()
    command = tyro.cli(aliasing.Command, args=[str(argument) for argument in arguments])
    assert aliasing.run(command, Console(file=output, width=240)) == 0
    return output.getvalue()


def test_plain_against_antialiased(tmp_path, pair, miniature):
    out = tmp_path / "out"
    said = run("--checkpoint", *pair, "--records", miniature, "--output", out, *QUICK)
    assert "energy that folds" in said and "views at random shifts" in said
    assert "binomial3" in said and "maxpool" in said and "Omniglot" in said
    assert "the network sees the middle 32 px, and views up to 5 px off it" in said
    names = {path.name for path in out.iterdir()}
    assert {"energy.md", "energy.csv", "energy.tex", "agreement.md", "resnet18.json"} <= names
    assert {"spectra.png", "energy.png", "agreement.png", "filters.png"} <= names


def test_a_stopped_measurement_goes_on(tmp_path, pair, miniature, monkeypatch):
    out, measured, done = tmp_path / "out", measurement.measure, []

    def stop(backbone, images, *rest):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append((backbone.name, images.reader.spec.name))
        return measured(backbone, images, *rest)

    monkeypatch.setattr(measurement, "measure", stop)
    flags = ("--checkpoint", *pair, "--records", miniature, *QUICK)
    with pytest.raises(KeyboardInterrupt):
        run(*flags, "--output", out)

    def go_on(*given):
        done.append("last")
        return measured(*given)

    monkeypatch.setattr(measurement, "measure", go_on)
    again = run(*flags, "--output", out)
    assert done[3:] == ["last"]  # the one of four that was missing
    whole = run(*flags, "--output", tmp_path / "whole")
    assert again.rpartition("Folder")[0] == whole.rpartition("Folder")[0]


def test_other_settings_are_not_mixed(tmp_path, pair, miniature):
    flags = ("--checkpoint", pair[0], "--records", miniature, "--output", tmp_path / "out", *QUICK)
    run(*flags)
    kept = (tmp_path / "out" / "resnet18.json").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="results of another images"):
        run(*flags, "--images", 4)
    assert (tmp_path / "out" / "resnet18.json").read_text(encoding="utf-8") == kept
    assert set(json.loads(kept)["results"]) == {"dtd", "omniglot"}


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (("--images", 0), "--images is 0"),
        (("--image-size", 0), "--image-size is 0"),
        (("--seed", -1), "--seed is -1"),
        (("--plots", "gif"), "unknown format"),
        (("--split", "tset"), "unknown split 'tset'"),
        (("--backbone", "resnet18", "aa_resnet18"), "2 backbones, but 1 checkpoints"),
        (("--sources", "dtb"), "dtb"),
    ],
)
def test_mistakes_are_explained(pair, miniature, flags, what):
    with pytest.raises(InputError, match=what):
        run("--checkpoint", pair[0], "--records", miniature, *flags)
