"""A network that cannot be run at the asked image size: said at once, with a size that works."""

import pytest
from torch import nn

from episodes import InputError
from fewshot.backbones import build_backbone
from fewshot.checkpoint import Card, save_checkpoint
from fewshot.image_size import check_size
from run_meta_dataset import main

HRNET = "timm/hrnet_w18_small"
"""Adds up maps of 21 and 22 pixels at 84."""


class Only(nn.Module):
    """Runs at some sizes only."""

    def __init__(self, *sizes):
        super().__init__()
        self.sizes, self.conv = sizes, nn.Conv2d(3, 2, 1)

    def forward(self, images):
        if images.shape[-1] not in self.sizes:
            raise RuntimeError("so large an image?\nSo small?")
        return self.conv(images).mean(dim=(2, 3))


def test_the_nearest_size_that_works_is_named():
    network = Only(64, 224, 100).train()
    check_size(network, 100, "mine")
    with pytest.raises(InputError) as fault:
        check_size(network, 84, "mine")
    assert str(fault.value) == (
        "mine: cannot be run at 84 × 84 pixels (so large an image?). "
        "Take another image size: 64 pixels work."
    )
    assert network.training


def test_of_two_as_near_the_larger_is_named():
    with pytest.raises(InputError, match="96 pixels work"):
        check_size(Only(64, 96), 80, "mine")


def test_no_size_works():
    with pytest.raises(InputError, match="Nor at 32 to 384 pixels: take another network"):
        check_size(Only(), 84, "mine")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("hrnet") / "hrnet.safetensors"
    card = Card(HRNET, "t", "dtd", "train", ("a", "b"), 84, "official", "md-v1", 0)
    save_checkpoint(path, build_backbone(HRNET, 2, 0).eval(), card)
    return path


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "--backbone", HRNET, "--image-size", 84],
        ["train", "--backbone", HRNET, "--train-sources", "dtd", "--batch-size", 8],
        ["baseline", "protonet", "--backbone", HRNET, "--image-size", 84, "--train-sources", "dtd"],
        ["--backbone", "resnet18", HRNET, "--episodes", 1, "--sources", "dtd"],
        ["--checkpoint", "FILE", "--backbone", HRNET, "--episodes", 1, "--sources", "dtd"],
        ["aliasing", "--checkpoint", "FILE", "--sources", "dtd"],
        ["imagenet-c", "--checkpoint", "FILE", "--resize", 84, "--images", "VALIDATION"],
    ],
)
def test_every_command_says_so(command, checkpoint, tmp_path, capfd, miniature, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "val" / "a").mkdir(parents=True)
    (tmp_path / "val" / "a" / "1.JPEG").touch()
    named = {"FILE": checkpoint, "VALIDATION": tmp_path / "val"}
    given = [str(named.get(word, word)) for word in command]
    if command[0] not in ("inspect", "imagenet-c"):
        given += ["--records", str(miniature)]
    assert main(given) == 2
    said = capfd.readouterr().err
    assert f"{HRNET}: cannot be run at 84 × 84 pixels" in said
    assert "96 pixels work" in said and "Traceback" not in said
