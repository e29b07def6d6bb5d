"""Whose moments normalise what, against the arithmetic written out."""

import pytest
import torch
from torch import nn

from baselines.batch_norm import EpisodeNorm, share_moments
from episodes.faults import InputError
from fewshot.backbones import build_backbone

MAPS = torch.randn(7, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def make_norm(rule):
    norm = nn.BatchNorm2d(2).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 0.5]))
        norm.bias.copy_(torch.tensor([1.0, -1.0]))
        norm.running_mean.copy_(torch.tensor([0.3, -0.2]))
        norm.running_var.copy_(torch.tensor([4.0, 9.0]))
    return norm, share_moments(norm, rule)


def by_hand(maps, moments_of, norm):
    mean = moments_of.mean(dim=(0, 2, 3))
    variance = (moments_of - mean[:, None, None]).square().mean(dim=(0, 2, 3))
    unit = (maps - mean[:, None, None]) / (variance + 1e-5).sqrt()[:, None, None]
    return unit * norm.weight[:, None, None] + norm.bias[:, None, None]


def test_queries_by_the_moments_of_the_support_images():
    norm, moments = make_norm("support")
    with moments.of(4, kept=False):
        found = norm(MAPS)
    torch.testing.assert_close(found, by_hand(MAPS, MAPS[:4], norm))
    torch.testing.assert_close(norm(MAPS), by_hand(MAPS, MAPS, norm))  # outside, all are one set


def test_queries_by_their_own_moments():
    norm, moments = make_norm("transductive")
    with moments.of(4, kept=False):
        found = norm(MAPS)
    torch.testing.assert_close(found[:4], by_hand(MAPS[:4], MAPS[:4], norm))
    torch.testing.assert_close(found[4:], by_hand(MAPS[4:], MAPS[4:], norm))


def test_running_averages_follow_the_support_in_training_and_serve_in_evaluation():
    norm, moments = make_norm("running")
    norm.train()
    before = norm.running_mean.clone()
    with moments.of(4, kept=True):
        found = norm(MAPS)
    torch.testing.assert_close(found, by_hand(MAPS, MAPS[:4], norm))
    expected = 0.9 * before + 0.1 * MAPS[:4].mean(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean, expected)
    norm.eval()
    with moments.of(4, kept=False):
        found = norm(MAPS)
    unit = (MAPS - norm.running_mean[:, None, None]) / (norm.running_var + 1e-5).sqrt()[
        :, None, None
    ]
    expected = unit * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(found, expected)


def test_gradients_flow_through_the_moments():
    norm, moments = make_norm("support")
    maps = MAPS.clone().requires_grad_(True)

    def scores(maps):
        with moments.of(4, kept=False):
            return norm(maps)

    assert torch.autograd.gradcheck(scores, maps)
    assert torch.autograd.gradgradcheck(scores, maps)
    grad = torch.autograd.grad(scores(maps)[4:].square().sum(), maps)[0]
    assert (grad[:4] != 0).any()


def test_names_and_hooks_stay_and_another_kind_is_refused():
    backbone = build_backbone("aa_resnet18", 2, 0)
    names = list(backbone.state_dict())
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.modules()]
    share_moments(backbone, "support")
    assert list(backbone.state_dict()) == names
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.modules()] == hooks
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(type(m) is EpisodeNorm for m in norms)
    assert len({id(m.moments) for m in norms}) == 1
    with pytest.raises(InputError, match="cannot take the moments of an episode"):
        share_moments(nn.Sequential(nn.BatchNorm1d(3)), "support")
