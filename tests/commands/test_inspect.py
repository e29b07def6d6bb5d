"""`inspect` as a user calls it."""

import sys

import pytest

from run_meta_dataset import main


def lines(capsys, *arguments):
    assert main(["inspect", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_timms_blurred_resnet_is_told_what_it_leaves_aliased(capsys):
    out = lines(capsys, "--backbone", "timm/resnetblur18", "--image-size", "84")
    assert [line.split()[0] for line in out if " aliased " in line and "×" in line][:4] == [
        "conv1",
        "layer2.0.downsample.0",
        "layer3.0.downsample.0",
        "layer4.0.downsample.0",
    ]
    assert "8 steps, 4 aliased." in out[-1]


def test_an_anti_aliased_resnet_keeps_its_stem_and_costs_the_known_factor(capsys):
    out = lines(capsys, "--backbone", "aa_resnet18", "--image-size", "84")
    assert out[0] == "aa_resnet18 at 84 px"
    assert "8 steps, 1 aliased." in out[-1] and "1.27" in out[-1]  # facts on anti-aliasing
    assert "0 aliased" in lines(capsys, "--backbone", "aa[all]_resnet18")[-1]
    assert "1.00" in lines(capsys, "--backbone", "aa[skip]_resnet18", "--image-size", "84")[-1]


def test_torchvisions_networks_by_name(capsys):
    assert "5 steps" in lines(capsys, "--backbone", "torchvision/densenet121")[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "timm/resnet18q"], "timm has no network 'resnet18q'. Did you mean 'timm/"),
        (["--backbone", "torchvision/resnet17"], "torchvision has no network 'resnet17'"),
        (["--backbone", "aa[se]_resnet18"], "ResNet: has no sub-sampling step that 'se' stands"),
        (["--backbone", "resnet18", "--image-size", "0"], "--image-size is 0"),
        (
            ["--backbone", "torchvision/vit_b_16", "--image-size", "96"],
            "cannot be run at 96 × 96 pixels",
        ),
    ],
)
def test_mistakes_are_explained(capsys, arguments, message):
    assert main(["inspect", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_without_timm_the_command_to_install_it_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert main(["inspect", "--backbone", "timm/resnet18"]) == 2
    assert "timm is not installed. Run: pip install 'timm>=1.0.20'" in capsys.readouterr().err
