"""Simple CNAPS against its arithmetic written out, and a network that stays as it is."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from baselines.simple_cnaps import filmed, filmed_norms
from baselines.table import build_method
from fewshot.backbones import build_backbone
from tests.baselines.contract import make_learner, make_task, network


def trained_network(name="four_layer_convnet"):
    """With running averages that are not those of a new network."""
    backbone = network(name)
    generator = torch.Generator().manual_seed(2)
    for part in backbone.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    return backbone


def cnaps(settings=""):
    return make_learner(build_method(f"simple_cnaps{settings}"), trained_network())


def test_the_whole_forward_pass_written_out():
    """Set encoder, generator, FiLM and distances, layer by layer; one class has one shot."""
    learner, task = cnaps(), make_task([3, 1, 2])
    with torch.no_grad():
        for generator in learner.generators:
            generator.factors.mul_(300)  # so that FiLM matters
    found = task.scores(learner).detach()
    own = {name: value.detach() for name, value in learner.state_dict().items()}

    maps = task.support
    for layer in range(5):
        maps = functional.conv2d(
            maps,
            own[f"encoder.layers.{4 * layer}.weight"],
            own[f"encoder.layers.{4 * layer}.bias"],
            padding=1,
        )
        mean, var = maps.mean((0, 2, 3)), maps.var((0, 2, 3), unbiased=False)
        maps = (maps - mean[:, None, None]) / (var + 1e-5).sqrt()[:, None, None]
        scale, offset = (own[f"encoder.layers.{4 * layer + 1}.{n}"] for n in ("weight", "bias"))
        maps = (maps * scale[:, None, None] + offset[:, None, None]).relu()
        maps = functional.max_pool2d(maps, 2) if maps.shape[-1] > 1 else maps
    embedding = torch.stack([one.mean((1, 2)) for one in maps]).mean(0)

    def dense(name, numbers):
        return own[f"{name}.weight"] @ numbers + own[f"{name}.bias"] + numbers

    shared = dense("generators.0.shared.0", embedding).relu()
    numbers = []
    for which in range(8):
        first = dense(f"generators.0.numbers.{which}.0", shared).relu()
        second = dense(f"generators.0.numbers.{which}.2", first).relu()
        third = dense(f"generators.0.numbers.{which}.4", second)
        numbers.append(own["generators.0.factors"][which] * third)

    features = torch.cat([task.support, task.query])
    for layer in range(4):
        name = f"backbone.network.layers.{layer}"
        features = functional.conv2d(features, own[f"{name}.0.weight"], padding=1)
        mean, var = own[f"{name}.1.running_mean"], own[f"{name}.1.running_var"]
        features = (features - mean[:, None, None]) / (var + 1e-5).sqrt()[:, None, None]
        weight, bias = own[f"{name}.1.weight"], own[f"{name}.1.bias"]
        features = features * weight[:, None, None] + bias[:, None, None]
        scale, offset = 1 + numbers[2 * layer], numbers[2 * layer + 1]
        features = (features * scale[:, None, None] + offset[:, None, None]).relu()
        features = functional.max_pool2d(features, 2)
    features = features.flatten(1)
    known, asked = features[: len(task.support)], features[len(task.support) :]

    whole = torch.cov(known.T)
    for k, count in enumerate((3, 1, 2)):
        members = known[task.labels == k]
        # of one item the released code takes the variance of its numbers for every entry
        spread = torch.cov(members.T) if count > 1 else members.var().expand_as(whole)
        share = count / (count + 1)
        q = share * spread + (1 - share) * whole + torch.eye(len(whole), dtype=torch.float64)
        for j, away in enumerate(asked - members.mean(0)):
            assert float(found[j, k]) == pytest.approx(-float(away @ q.inverse() @ away), rel=1e-6)


def test_the_loss_is_a_sum_with_a_penalty():
    task = make_task([2, 2])
    scores = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    truth = torch.tensor([0, 0])
    terms = functional.cross_entropy(scores, truth, reduction="none")
    for settings, expected in (("", terms.sum()), (":loss=mean", terms.mean())):
        learner = cnaps(settings)
        squares = sum(one.factors.detach().square().sum() for one in learner.generators)
        found = learner.loss(scores, truth).detach()
        assert float(found) == pytest.approx(float(expected + 0.001 * squares), rel=1e-6)
    assert task.way == 2


def test_the_network_stays_as_it_is_and_only_the_rest_learns():
    learner, task = cnaps().train(), make_task([2, 3])
    before = {name: value.clone() for name, value in learner.backbone.state_dict().items()}
    learner.loss(task.scores(learner), task.truth).backward()
    after = learner.backbone.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(p.requires_grad for p in learner.backbone.parameters())
    assert not any(part._forward_hooks for part in learner.backbone.modules())
    learns = [name for name, p in learner.named_parameters() if p.requires_grad]
    assert learns and all(name.startswith(("encoder.", "generators.")) for name in learns)


def test_both_norms_of_every_basic_block_are_adapted():
    names = filmed_norms(build_backbone("resnet18", 1, 0))
    assert len(names) == 16 and not any("downsample" in name for name in names)
    assert list(names.values()) == [64] * 4 + [128] * 4 + [256] * 4 + [512] * 4
    learner = build_method("simple_cnaps").learner(build_backbone("resnet18", 1, 0), 32)
    assert [len(stage) for stage in learner.stages] == [4, 4, 4, 4]


def test_scales_of_one_and_offsets_of_zero_change_nothing():
    backbone = build_backbone("aa_resnet18", 1, 0).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    film = {name: (torch.ones(n), torch.zeros(n)) for name, n in filmed_norms(backbone).items()}
    with torch.no_grad():
        plain = backbone.embed(images)
        with filmed(backbone, film):
            torch.testing.assert_close(backbone.embed(images), plain)
