"""`checkpoint`: weights from elsewhere mean the same here; cards are shown."""

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model, resnet18

from fewshot.backbones import build_backbone
from fewshot.checkpoint import load_checkpoint
from run_meta_dataset import main


@pytest.fixture
def call(capsys):
    def call(*arguments):
        status = main(["checkpoint", *map(str, arguments)])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def elsewhere(tmp_path):
    """torchvision's network with statistics that are not the initial ones, and its file."""
    torch.manual_seed(0)
    network = resnet18(num_classes=7).train()
    network(torch.randn(8, 3, 64, 64))
    torch.save(network.state_dict(), tmp_path / "elsewhere.pth")
    return network.eval(), tmp_path / "elsewhere.pth"


def flags(tmp_path, *more, backbone="resnet18", seen="ilsvrc_2012"):
    out = tmp_path / "in.safetensors"
    return ["--backbone", backbone, "--seen", seen, "--out", out, *more]


def test_torchvision_s_weights_give_torchvision_s_scores(call, elsewhere, tmp_path):
    network, path = elsewhere
    status, out, _ = call("import", path, *flags(tmp_path))
    assert status == 0 and "a classifier of 7 classes" in out
    backbone, card = load_checkpoint(tmp_path / "in.safetensors", "resnet18")
    images = torch.rand(3, 3, 64, 64)
    assert torch.equal(backbone.eval()(images), network(images))
    assert card.seen_of("test") == ("ilsvrc_2012",) and card.method == "imported"
    assert card.origin == "elsewhere.pth"


def test_imagenet_pixels_are_folded_into_the_first_convolution(call, elsewhere, tmp_path):
    network, path = elsewhere
    assert call("import", path, *flags(tmp_path, "--pixels", "imagenet"))[0] == 0
    backbone, _ = load_checkpoint(tmp_path / "in.safetensors", "resnet18")
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    theirs = network.bn1(network.conv1(((images + 1) / 2 - mean) / std))
    ours = backbone.eval().network.bn1(backbone.network.conv1(images))
    inside = (..., slice(2, -2), slice(2, -2))  # the padding stands for another colour
    torch.testing.assert_close(ours[inside], theirs[inside], rtol=1e-4, atol=1e-4)
    assert (ours - theirs).abs().max() > 1e-3


def sur_like(classes=5):
    """SUR's names: wrapped, a classifier called cls_fn with a scale, no counts of batches."""
    state = build_backbone("resnet18_sur", classes, 1).network.state_dict()
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    weight = state.pop("fc.weight")
    state.pop("fc.bias")
    state |= {"cls_fn.weight": weight, "cls_fn.scale": torch.tensor(10.0)}
    return {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}


def test_names_of_sur_are_mapped_and_turned(call, tmp_path):
    torch.save(sur_like(), tmp_path / "sur.pth")
    more = flags(tmp_path, "--transposed", backbone="resnet18_sur", seen="omniglot:train")
    assert call("import", tmp_path / "sur.pth", *more)[0] == 0
    backbone, card = load_checkpoint(tmp_path / "in.safetensors", "resnet18_sur")
    original = build_backbone("resnet18_sur", 5, 1).eval()
    images = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(
        backbone.eval().embed(images), original.embed(images.transpose(2, 3)), rtol=1e-4, atol=1e-5
    )
    assert card.seen == ("omniglot:train",) and card.seen_of("test") == ()
    assert len(backbone.network.fc.weight) == 5


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_large", "convnext_tiny", "torchvision/squeezenet1_1"]
)
def test_classifiers_are_found_under_the_network_s_own_name(call, tmp_path, name):
    network = get_model(name.rpartition("/")[2], num_classes=6).eval()
    torch.save(network.state_dict(), tmp_path / "x.pth")
    status, out, _ = call("import", tmp_path / "x.pth", *flags(tmp_path, backbone=name))
    assert status == 0 and "a classifier of 6 classes" in out
    backbone, _ = load_checkpoint(tmp_path / "in.safetensors", name)
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(backbone.eval()(images), network(images))


def test_weights_without_a_classifier(call, tmp_path):
    state = build_backbone("aa_resnet18", 5, 1).network.state_dict()
    save_file({k: v for k, v in state.items() if "fc" not in k}, tmp_path / "f.safetensors")
    more = flags(tmp_path, backbone="aa_resnet18", seen="none")
    status, out, _ = call("import", tmp_path / "f.safetensors", *more)
    assert status == 0 and "no classifier" in out
    assert load_checkpoint(tmp_path / "in.safetensors", "aa_resnet18")[1].seen == ("none",)


def test_the_card_is_shown(call, elsewhere, tmp_path):
    call("import", elsewhere[1], *flags(tmp_path, "--origin", "https://example.org/r18.pth"))
    status, out, _ = call("show", tmp_path / "in.safetensors")
    assert status == 0
    for words in ("backbone    resnet18", "ilsvrc_2012:test", "https://example.org/r18.pth"):
        assert words in out


def test_an_evaluation_says_what_pre_training_saw(call, elsewhere, tmp_path, miniature, capsys):
    call("import", elsewhere[1], *flags(tmp_path))
    command = ["--checkpoint", tmp_path / "in.safetensors", "--backbone", "resnet18"]
    command += ["--records", miniature, "--heads", "prototypical", "--episodes", 1]
    command += ["--sources", "dtd", "--image-size", 32, "--output", tmp_path / "run"]
    assert main([*map(str, command)]) == 0
    assert "pre-training saw the test classes of ilsvrc_2012" in capsys.readouterr().out


def test_classes_are_named_in_the_card(call, elsewhere, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"n0000000{k} word\n" for k in range(7)))
    status, out, _ = call("import", elsewhere[1], *flags(tmp_path, "--classes", names))
    assert status == 0 and "7 classes (n00000000 … n00000006)" in out
    backbone, card = load_checkpoint(tmp_path / "in.safetensors", "resnet18")
    assert card.classes[3] == "n00000003" and card.outputs is None
    assert len(backbone.network.fc.weight) == 7
    status, _, errors = call("import", elsewhere[1], *flags(tmp_path, "--classes", "imagenet"))
    assert status == 2 and "names 1000 classes" in errors and "a classifier of 7 classes" in errors


class Evil:
    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": Evil()}, "Only tensors are read"),
        ([1, 2], "holds no named tensors"),
        ({"state_dict": {}}, "holds no named tensors"),
        ({"conv1.weight": torch.zeros(3)}, "of the weights do not fit"),
    ],
)
def test_what_is_no_weights_of_this_backbone(call, tmp_path, content, words):
    torch.save(content, tmp_path / "x.pth")
    status, out, errors = call("import", tmp_path / "x.pth", *flags(tmp_path))
    assert status == 2 and words in errors and "unpickled" not in out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--seen", "imagenet"], "unknown source 'imagenet'"),
        (["--seen", "dtd:tets"], "tets"),
        (["--pixels", "raw"], "unknown kind of pixels 'raw'"),
    ],
)
def test_wrong_flags(call, elsewhere, tmp_path, more, words):
    status, _, errors = call("import", elsewhere[1], *flags(tmp_path), *more)
    assert status == 2 and words in errors


def test_a_missing_or_damaged_file(call, tmp_path):
    status, _, errors = call("import", tmp_path / "none.pth", *flags(tmp_path))
    assert status == 2 and "there is no such file" in errors
    (tmp_path / "x.pth").write_bytes(b"nonsense")
    status, _, errors = call("import", tmp_path / "x.pth", *flags(tmp_path))
    assert status == 2 and "cannot be read as weights" in errors
