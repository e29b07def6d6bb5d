"""What the surgery refuses: the step is named, and the network stays as it was."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import efficientnet_b0, resnet18

from episodes.faults import InputError
from fewshot import antialias
from fewshot.antialiasing import LowPass


class Slices(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.two(self.one(x).relu()[:, :, ::2, ::2])


class Dynamic(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight[:, :, ::1], self.bias)

    def _conv_forward(self, x, weight, bias):
        stride = 2 if x.shape[-1] % 2 else 4
        return nn.functional.conv2d(x, weight, bias, stride, self.padding)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, x):
        return nn.functional.max_pool2d(self.conv(x), 2)


class Tail(nn.Module):
    """The activated map is read by functions only."""

    def __init__(self):
        super().__init__()
        self.pool, self.conv = nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, x):
        x = torch.relu(self.conv(self.pool(x)))
        return x.amax(dim=(2, 3))


class Positions(nn.Module):
    """As vision transformers have it: what is added to the sub-sampled map has its size."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.last, self.where = nn.Conv2d(4, 2, 1), nn.Parameter(torch.zeros(1, 4, 48, 48))

    def forward(self, x):
        return self.last(self.norm(self.conv(x)) + self.where)


class Split(nn.Module):
    """As Res2Net has it: halves of a map through convolutions of their own and one activation."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.halves = nn.ModuleList(nn.Conv2d(2, 3, 3, stride=2) for _ in range(2))
        self.relu, self.last = nn.ReLU(), nn.Conv2d(6, 3, 1)

    def forward(self, x):
        halves = self.first(x).chunk(2, dim=1)
        both = [self.relu(conv(half)) for conv, half in zip(self.halves, halves, strict=True)]
        return self.last(torch.cat(both, dim=1))


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3)), {}, "Sequential: has no sub-sampling step"),
        (
            Positions(),
            {},
            "Positions: cannot be filtered at 'conv': it could not be",
        ),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1)), {}, "Sequential: has no sub-sampling step"),
        (Slices(), {}, r"Slices, step '': sub-samples by slice with stride 2 in Slices, which"),
        (Functional(), {}, r"Functional, step '': sub-samples by max pool with stride 2 in"),
        (Tail(), {}, r"Tail, step 'conv': its result is read by functions .*'amax' in ''.* 'conv'"),
        (Split(), {}, r"Split, step 'halves.0': its result .*'cat' in ''.* without 'conv'"),
        (nn.Sequential(Dynamic(3, 4, 3)), {}, "its stride depends on the size .*first at '0'"),
        (resnet18(), {"placement": "se"}, "ResNet: has no sub-sampling step that 'se' stands for"),
        (efficientnet_b0(), {"placement": "conv,skip"}, "that 'skip' stands for"),
        (resnet18(), {"placement": "stems"}, "unknown placement 'stems'. Did you mean 'stem'"),
        (resnet18(), {"placement": ()}, "no placement is named"),
        (resnet18(), {"filter": "binomial8"}, "unknown filter 'binomial8'"),
        (resnet18(), {"activation": "swish"}, "unknown activation 'swish'. .*silu"),
        (efficientnet_b0(), {"activation": "silu"}, "has no ReLU to make smooth"),
        (antialias(resnet18(), "all"), {"placement": "all"}, "is filtered there already"),
        (antialias(resnet18()), {}, "nothing is critical"),
        (nn.Sequential(nn.Conv2d(3, 4, 300, 2)), {}, "cannot be run on images of shape"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_changed(network, settings, message):
    text, weights = repr(network), copy.deepcopy(network.state_dict())
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()]
    with pytest.raises(InputError, match=message):
        antialias(network, **settings)
    assert repr(network) == text
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()] == hooks
    assert all(torch.equal(w, weights[n]) for n, w in network.state_dict().items())


def test_a_change_that_fails_late_is_taken_back(monkeypatch):
    network = resnet18()
    text = repr(network)

    def fail(*_):
        raise InputError("late")

    monkeypatch.setattr("fewshot.antialiasing.surgery._verify", fail)
    with pytest.raises(InputError, match="late"):
        antialias(network, activation="silu")
    assert repr(network) == text and not any(isinstance(m, LowPass) for m in network.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
