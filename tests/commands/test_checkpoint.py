"""`checkpoint`: weights from elsewhere mean the same here; cards are shown."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
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


# ---- SUR's and URL's files, laid out as their repositories save them -----------------------------


def published(classifiers, seed=1):
    """Names and shapes of their ResNet-18, with statistics that are not the initial ones."""
    backbone = build_backbone("resnet18_sur", 1, seed)
    backbone.train()(torch.randn(8, 3, 40, 40, generator=torch.Generator().manual_seed(seed)))
    state = backbone.network.state_dict()
    shared = {name: t for name, t in state.items() if not name.startswith("fc.")}
    assert shared["conv1.weight"].shape == (64, 3, 5, 5) and "layer2.0.downsample.1.bias" in shared
    assert sum(t.numel() for n, t in shared.items() if n.endswith(("weight", "bias"))) == 11_171_904
    return backbone.eval(), shared | classifiers


def cosine(classes=5):
    """A column per class, as theirs has it."""
    weight = torch.randn(512, classes, generator=torch.Generator().manual_seed(2))
    return {"cls_fn.weight": weight, "cls_fn.scale": torch.tensor(7.0)}


def linear(classes, name="cls_fn"):
    generator = torch.Generator().manual_seed(classes)
    weight = torch.randn(classes, 512, generator=generator)
    return {f"{name}.weight": weight, f"{name}.bias": torch.arange(float(classes))}


def save_as_theirs(path, state, old=False):
    """The container of their training scripts: best values are NumPy's, settings a dictionary."""
    momentum = {0: {"momentum_buffer": torch.zeros(64, 3, 5, 5)}}
    content = {
        "epoch": 48000,
        "args": {"model.backbone": "resnet18", "train.weight_decay": 7e-4, "data.train": ["dtd"]},
        "state_dict": OrderedDict(state),
        "best_val_acc": np.mean([71.0, 73.0]),
        "best_val_loss": np.float32(1.5),
        "optimizer": {"state": momentum, "param_groups": [{"lr": 0.03, "params": [0]}]},
    }
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    if old:  # of PyTorch 1.4 and NumPy 1, whose scalars had another address
        written = path.read_bytes()
        assert b"numpy._core.multiarray" in written
        path.write_bytes(written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


@pytest.mark.parametrize("old", [False, True])
def test_a_single_domain_network_of_sur(call, tmp_path, old):
    original, state = published(cosine())
    if old:
        state = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    save_as_theirs(tmp_path / "model_best.pth.tar", state, old)
    more = flags(tmp_path, "--transposed", backbone="resnet18_sur", seen="omniglot:train")
    status, out, errors = call("import", tmp_path / "model_best.pth.tar", *more)
    assert status == 0, errors
    assert "a classifier of 5 classes" in out
    backbone, card = load_checkpoint(tmp_path / "in.safetensors", "resnet18_sur")
    images = torch.rand(4, 3, 40, 40)
    features = original.embed(images.transpose(2, 3))
    torch.testing.assert_close(backbone.eval().embed(images), features, rtol=1e-4, atol=1e-5)
    columns = cosine()["cls_fn.weight"]
    theirs = 7 * functional.normalize(features, dim=1) @ functional.normalize(columns, dim=0)
    ours = backbone(images) / features.norm(dim=1, keepdim=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert card.seen == ("omniglot:train",) and card.seen_of("test") == ()


def test_a_single_domain_network_of_url(call, tmp_path):
    original, state = published(linear(6))
    save_as_theirs(tmp_path / "sdl.pth.tar", state)
    more = flags(tmp_path, backbone="resnet18_sur", seen="dtd:train")
    assert call("import", tmp_path / "sdl.pth.tar", *more)[0] == 0
    backbone, _ = load_checkpoint(tmp_path / "in.safetensors", "resnet18_sur")
    images = torch.rand(2, 3, 40, 40)
    features = original.embed(images)
    scores = features @ state["cls_fn.weight"].T + state["cls_fn.bias"]
    torch.testing.assert_close(backbone.eval()(images), scores, rtol=1e-4, atol=1e-4)


def test_the_universal_network_of_url_has_a_classifier_per_source(call, tmp_path):
    heads = [linear(classes, f"cls_fn.{k}") for k, classes in enumerate((4, 3, 5))]
    _, state = published({name: t for head in heads for name, t in head.items()})
    save_as_theirs(tmp_path / "url.pth.tar", state)
    more = flags(tmp_path, backbone="resnet18_sur", seen="dtd:train")
    status, out, _ = call("import", tmp_path / "url.pth.tar", *more)
    assert status == 0 and "a classifier of 12 classes" in out
    own = load_checkpoint(tmp_path / "in.safetensors", "resnet18_sur")[0].network.fc
    assert torch.equal(
        own.weight, torch.cat([head[f"cls_fn.{k}.weight"] for k, head in enumerate(heads)])
    )
    assert own.bias.tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4]


def test_scales_and_offsets_of_sur_go_onto_their_network(call, tmp_path):
    original, state = published(cosine())
    save_as_theirs(tmp_path / "base.pth.tar", state)
    more = flags(tmp_path, backbone="resnet18_sur", seen="ilsvrc_2012:train")
    assert call("import", tmp_path / "base.pth.tar", *more)[0] == 0
    base = tmp_path / "base.safetensors"
    (tmp_path / "in.safetensors").rename(base)
    film = {name: t + 0.1 for name, t in state.items() if "running" in name}
    film |= {
        "film_normalize.gamma": torch.full((1, 3), 2.0),
        "film_normalize.beta": torch.zeros(1, 3),
    }
    for stage, channels in enumerate((64, 128, 256, 512), start=1):
        for layer in (f"layer{stage}.{block}.film{k}" for block in (0, 1) for k in (1, 2)):
            film |= {f"{layer}.gamma": torch.full((1, channels), 0.5)}
            film |= {f"{layer}.beta": torch.full((1, channels), 0.25)}
    assert sum(t.numel() for name, t in film.items() if "film" in name) == 7_686
    save_as_theirs(tmp_path / "film.pth.tar", film | cosine(3))
    more = flags(tmp_path, backbone="resnet18_sur", seen="dtd:train")
    status, _, errors = call("import", tmp_path / "film.pth.tar", *more)
    assert status == 2 and "name its checkpoint: --onto" in errors
    status, out, errors = call("import", tmp_path / "film.pth.tar", *more, "--onto", base)
    assert status == 0 and "a classifier of 3 classes" in out, errors
    backbone, card = load_checkpoint(tmp_path / "in.safetensors", "resnet18_sur")
    assert card.method == "film" and card.seen == ("ilsvrc_2012:train", "dtd:train")
    images = torch.rand(2, 3, 40, 40)
    network = original.network  # an affine behind a norm can be written into the norm
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean += 0.1
                module.running_var += 0.1
                if name.startswith("layer") and "downsample" not in name:
                    module.weight *= 0.5
                    module.bias.mul_(0.5).add_(0.25)
        expected = original.embed(2 * images)
    torch.testing.assert_close(backbone.eval().embed(images), expected, rtol=1e-4, atol=1e-5)


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
        ({"a": Evil()}, "Only tensors and plain values are read"),
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
