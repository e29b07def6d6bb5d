"""Where networks sub-sample, against lists made by hand from their published architectures."""

import copy

import pytest
import timm
import torch
from torch import nn
from torchvision.models import densenet121, efficientnet_b0, resnet18, resnet50, swin_t

from episodes.faults import InputError
from fewshot.antialiasing import antialias, sub_sampling_steps, watch_sub_sampling


def found(network, size=64):
    return {step.path: step for step in sub_sampling_steps(network, size)}


def places(network, size=64):
    return {path: step.place for path, step in found(network, size).items()}


def aliased(network):
    return {path for path, step in found(network).items() if not step.filtered}


RESNET18 = {"conv1": "stem", "maxpool": "pool"} | {
    f"layer{stage}.0.{path}": place
    for stage in (2, 3, 4)
    for path, place in (("conv1", "conv"), ("downsample.0", "skip"))
}


def test_resnet18_sub_samples_at_eight_places():
    assert places(resnet18()) == RESNET18
    steps = found(resnet18())
    assert {path: step.support for path, step in steps.items()} == {
        path: 7 if path == "conv1" else 3 if place == "conv" else 1
        for path, place in RESNET18.items()
    }
    assert all(step.stride == (2, 2) for step in steps.values())
    assert [step.size for step in steps.values()] == [
        (64, 64), (32, 32), (16, 16), (16, 16), (8, 8), (8, 8), (4, 4), (4, 4)
    ]  # fmt: skip


def test_the_steps_of_an_anti_aliased_network_are_those_of_the_plain_one():
    for build in (resnet18, resnet50, efficientnet_b0):
        plain = build()
        filtered = antialias(copy.deepcopy(plain))
        one, other = (
            [(s.kind, s.place, s.kernel, s.stride, s.size) for s in sub_sampling_steps(network)]
            for network in (plain, filtered)
        )
        assert one == other
    assert aliased(antialias(resnet18())) == {"conv1"}
    assert aliased(resnet18()) == set(RESNET18)


def test_timms_blurred_resnet_leaves_the_stem_and_three_shortcuts_aliased():
    steps = found(timm.create_model("resnetblur18"))
    left = {step.path: step.kernel for step in steps.values() if not step.filtered}
    assert left == {
        "conv1": (7, 7),
        "layer2.0.downsample.0": (1, 1),
        "layer3.0.downsample.0": (1, 1),
        "layer4.0.downsample.0": (1, 1),
    }
    filtered = {path: s.filter for path, s in steps.items() if s.filtered}
    names = ("maxpool.0", "layer2.0.conv1", "layer3.0.conv1", "layer4.0.conv1")
    assert filtered == dict.fromkeys(names, "binomial3")
    assert steps["layer2.0.conv1"].sampler == "layer2.0.aa"


def test_timms_blurred_efficientnet_leaves_the_stem_aliased():
    assert aliased(timm.create_model("efficientnet_b0", aa_layer="blurpool")) == {"conv_stem"}


def test_squeeze_and_excitation_reads_the_depthwise_maps_of_efficientnet():
    steps = found(efficientnet_b0())
    assert [path for path, step in steps.items() if step.squeezed] == [
        f"features.{k}.0.block.1.0" for k in (2, 3, 4, 6)
    ]
    assert [step.kernel[0] for step in steps.values()] == [3, 3, 5, 3, 5]


def test_average_pools_are_boxes_and_on_a_shortcut_shortcuts():
    steps = found(densenet121())
    assert [s.filter for s in steps.values()] == [None, None, "box2", "box2", "box2"]
    assert places(timm.create_model("resnet18d"))["layer2.0.downsample.0"] == "skip"


def test_windowed_attention_is_not_taken_for_sub_sampling():
    assert list(places(swin_t())) == ["features.0.0"]  # its merging of patches keeps all phases


class Sliced(nn.Module):
    def __init__(self, phases):
        super().__init__()
        self.phases = phases
        self.mix = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        parts = [x[:, :, i::2, j::2] for i, j in self.phases]
        return self.mix(torch.stack(parts).mean(dim=0))


def test_a_strided_slice_is_a_step_unless_every_phase_is_kept():
    (step,) = found(Sliced([(0, 0)])).values()
    assert (step.path, step.kind, step.stride, step.size) == ("", "slice", (2, 2), (64, 64))
    assert not found(Sliced([(0, 0), (0, 1), (1, 0), (1, 1)]))


class Gated(nn.Module):
    """A depthwise blur of its own behind an activation written out as x · sigmoid(x)."""

    def __init__(self, learnt):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        row = torch.tensor([1.0, 4, 6, 4, 1]) / 16
        kernel = torch.outer(row, row).expand(4, 1, 5, 5).clone()
        if learnt:
            self.kernel = nn.Parameter(kernel)
        else:
            self.register_buffer("kernel", kernel)

    def forward(self, x):
        x = self.conv(x)
        x = x * x.sigmoid()
        return nn.functional.conv2d(x, self.kernel, stride=2, padding=2, groups=4)


def test_only_fixed_taps_are_a_filter():
    (step,) = found(Gated(learnt=False)).values()
    assert (step.path, step.filter, step.kernel) == ("conv", "binomial5", (3, 3))
    (step,) = found(Gated(learnt=True)).values()
    assert (step.path, step.filter, step.kernel) == ("", None, (5, 5))


def test_a_network_is_left_as_it_was():
    network = resnet18()
    network.layer2.eval()
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    state = torch.random.get_rng_state()
    sub_sampling_steps(network)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [module.training for module in network.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_costs_are_counted_by_hand():
    step = found(resnet18())["layer2.0.conv1"]
    assert step.flops == step.plain_flops == 2 * 9 * 64 * 128 * 8 * 8
    step = found(antialias(resnet18()))["layer2.0.conv1"]
    assert step.plain_flops == 2 * 9 * 64 * 128 * 8 * 8
    assert step.flops == 2 * 9 * 64 * 128 * 16 * 16 + 2 * 9 * 128 * 8 * 8


def test_an_image_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"VisionTransformer: cannot be run on images of shape"):
        sub_sampling_steps(timm.create_model("vit_tiny_patch16_224"), 96)


# ---- the maps at these steps -------------------------------------------------------------------


def watched(network, images):
    maps = {}
    watch_sub_sampling(network, images, lambda s, *pair: maps.update({s.path: (s, *pair)}))
    return maps


def test_maps_of_a_plain_network_are_those_whose_samples_are_kept():
    torch.manual_seed(0)
    network, images = resnet18().eval(), torch.randn(2, 3, 45, 52)
    maps = watched(network, images)
    assert list(maps) == list(RESNET18)
    dense = nn.functional.conv2d(images, network.conv1.weight, padding=3)
    step, unfiltered, filtered = maps["conv1"]
    torch.testing.assert_close(unfiltered, dense)
    assert filtered is unfiltered or torch.equal(filtered, unfiltered)
    torch.testing.assert_close(unfiltered[:, :, ::2, ::2], network.conv1(images))
    _, pooled, _ = maps["maxpool"]
    stem = network.relu(network.bn1(network.conv1(images)))
    assert torch.equal(pooled[:, :, ::2, ::2], network.maxpool(stem))
    assert all(m.shape[2:] == s.size and len(m) == 2 for s, m, _ in maps.values() if s is step)


def test_maps_of_a_filtered_network_are_before_and_after_the_filter():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    for network in (antialias(resnet18().eval()), timm.create_model("resnetblur18").eval()):
        (found,) = [m for m in watched(network, images).values() if m[0].kind == "max_pool"]
        step, unfiltered, filtered = found
        stem = torch.relu(network.bn1(network.conv1(images)))
        dense = nn.functional.max_pool2d(stem, 3, 1, 1)
        torch.testing.assert_close(unfiltered, dense)
        torch.testing.assert_close(filtered[:, :, ::2, ::2], network.maxpool(stem))
        assert step.filter == "binomial3"


def test_maps_are_those_of_the_given_size():
    for network in (resnet18(), antialias(resnet18()), timm.create_model("resnet18d")):
        for step, unfiltered, filtered in watched(network, torch.rand(1, 3, 65, 65)).values():
            assert unfiltered.shape == filtered.shape
            assert step.sampled == tuple(-(-n // 2) for n in filtered.shape[2:]) or step.filter
