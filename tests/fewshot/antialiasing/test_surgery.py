"""The surgery: what is filtered, what stays as it was, and what is refused."""

import copy

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import resnet18, resnet50

import fewshot
from fewshot import antialias
from fewshot.antialiasing import LowPass, pool, sub_sampling_steps

FOREIGN = ["resnetblur18", "resnet18d", "seresnet18", "resnetv2_50", "repvgg_a0", "skresnet18"]
OWN = ["resnet18", "resnet50", "efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small"]
OWN += ["regnet_y_400mf", "convnext_tiny", "squeezenet1_1", "shufflenet_v2_x0_5", "alexnet"]
NETWORKS = [*(f"timm/{name}" for name in FOREIGN), *OWN]


def build(name):
    torch.manual_seed(0)
    if name.startswith("timm/"):
        return timm.create_model(name.removeprefix("timm/"), num_classes=7).eval()
    return getattr(torchvision.models, name)(num_classes=7).eval()


def aliased(network):
    return {step.path for step in sub_sampling_steps(network) if not step.filtered}


def filters(network):
    return {name for name, module in network.named_modules() if isinstance(module, LowPass)}


def low_pass(x):
    """1 2 1 with reflected borders, every second sample, written out."""
    x = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    rows = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    both = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4
    return both[:, :, ::2, ::2]


def test_the_call_is_found_without_importing_torch():
    assert fewshot.antialias is antialias


def test_a_pooling_window_larger_than_the_map():
    """VoVNet's last pooling at 32 pixels: 3 × 3 in ceil mode over a map of 2 × 2."""
    plain = build("timm/ese_vovnet19b_dw")
    filtered = antialias(copy.deepcopy(plain))
    for size in (32, 35, 47):
        assert filtered(torch.randn(1, 3, size, size)).shape == (1, 7)
    pooling = nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(3, stride=2, ceil_mode=True))
    filtered = antialias(copy.deepcopy(pooling), "pool")
    for height, width in ((2, 2), (2, 9), (3, 2)):
        maps = torch.randn(1, 1, height, width)
        plain_maps = pooling(maps)
        assert filtered(maps).shape == plain_maps.shape
        if height == width:
            assert torch.equal(filtered(maps), plain_maps)  # one window over all there is


def test_an_average_pooling_of_three_is_strengthened():
    """The strided 3 × 3 average poolings of ResNeSt."""
    filtered = antialias(build("timm/resnest14d"), "all")
    steps = {step.path: step.filter for step in sub_sampling_steps(filtered)}
    assert steps["layer2.0.avd_last"] == "binomial3" and set(steps.values()) == {"binomial3"}


class Scaled(nn.Module):
    """As NFNet has it: an activation, a scale and a shift in one module, none of them a module."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x):
        return nn.functional.gelu(x).mul(1.7) * self.gain - 1


def test_a_filter_stands_behind_scale_and_shift_as_well():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), Scaled(), nn.Conv2d(4, 5, 3, padding=1))
    plain = nn.Sequential(plain).double()
    filtered = antialias(copy.deepcopy(plain))
    assert filters(filtered) == {"0.1.filter_after"}
    images = torch.randn(2, 3, 21, 22, dtype=torch.float64)
    conv, scaled, last = plain[0]
    dense = nn.functional.conv2d(images, conv.weight, conv.bias, padding=1)
    expected = last(low_pass(nn.functional.gelu(dense)) * 1.7 * scaled.gain - 1)
    torch.testing.assert_close(filtered(images), expected)


class Blocks(nn.Module):
    """Puts 4 × 4 pixels into channels before the first convolution, as TResNet does."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(48, 8, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(nn.functional.pixel_unshuffle(x, 4)).relu().mean(dim=(2, 3))


def test_pixels_may_be_put_into_channels_first():
    (step,) = sub_sampling_steps(Blocks())
    assert step.path == "conv" and step.size == (24, 24)


def test_attention_of_one_size_is_probed_at_that_size():
    network = antialias(build("timm/botnet26t_256"), "critical")
    assert {step.filtered for step in sub_sampling_steps(network, 256)} == {True}
    assert network(torch.rand(1, 3, 256, 256)).shape == (1, 7)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("placement", ["critical", "all"])
def test_any_network(name, placement):
    """Parameters and their names, strict loading, and shapes at odd sizes stay as they were."""
    plain = build(name)
    filtered = antialias(copy.deepcopy(plain), placement)
    left = {s.path for s in sub_sampling_steps(plain) if s.support >= 7 and not s.filtered}
    assert aliased(filtered) == (left if placement == "critical" else set())
    assert list(filtered.state_dict()) == list(plain.state_dict())
    filtered.load_state_dict(plain.state_dict(), strict=True)
    assert [n for n, _ in filtered.named_parameters()] == [n for n, _ in plain.named_parameters()]
    for size in (64, 75):
        one, other = (
            [(s.path, s.sampled) for s in sub_sampling_steps(network, size)]
            for network in (plain, filtered)
        )
        assert one == other


@settings(deadline=None, max_examples=8)
@given(st.sampled_from(["resnet18", "mobilenet_v3_small", "timm/resnet18d"]), st.integers(32, 256))
def test_every_map_has_the_size_it_had(name, size):
    plain = build(name)
    expected = [step.sampled for step in sub_sampling_steps(plain, size)]
    for low_pass in ("binomial2", "binomial5"):
        filtered = antialias(copy.deepcopy(plain), "all", low_pass)
        assert [step.sampled for step in sub_sampling_steps(filtered, size)] == expected


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ("pool", {"maxpool.filter_after"}),
        ("skip", {f"layer{k}.0.downsample.0.filter_before" for k in (2, 3, 4)}),
        ("conv", {f"layer{k}.0.conv2.filter_before" for k in (2, 3, 4)}),
        ("preconv", {f"layer{k}.0.conv1.filter_before" for k in (2, 3, 4)}),
        ("stem", {"relu.filter_after"}),
        (["pool", "stem"], {"relu.filter_after", "maxpool.filter_after"}),
    ],
)
def test_placements_of_resnet18(placement, expected):
    assert filters(antialias(resnet18(), placement)) == expected


def test_critical_is_everything_but_the_wide_stem():
    critical = antialias(resnet18())
    assert aliased(critical) == {"conv1"}
    assert filters(critical) == filters(antialias(resnet18(), "pool,skip,conv"))
    assert len(filters(antialias(resnet18(), "all"))) == 8


def test_resnet50_filters_between_the_last_two_convolutions_of_a_block():
    assert filters(antialias(resnet50(), "conv")) == {
        f"layer{k}.0.conv3.filter_before" for k in (2, 3, 4)
    }


@pytest.mark.parametrize("name", ["efficientnet_b0", "timm/efficientnet_b0"])
def test_squeeze_and_excitation_reads_the_filtered_map(name):
    network = antialias(build(name), "se")
    assert len(filters(network)) == 4 and len(aliased(network)) == 1
    seen, made = [], []
    blocks = [m for m in network.modules() if "SqueezeExc" in type(m).__name__]
    for module in network.modules():
        if isinstance(module, LowPass):
            module.register_forward_hook(lambda _m, _i, out: made.append(out))
    for block in blocks:
        block.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    network(torch.rand(1, 3, 64, 64))
    assert all(any(torch.equal(out, maps) for maps in seen) for out in made) and len(made) == 4


@pytest.mark.parametrize("placement", ["critical", "preconv", "preconv,conv"])
def test_block_equals_the_definition(placement):
    """Convolve at stride 1, normalise, activate, filter and sub-sample, convolve; the shortcut
    projected at stride 1 and then filtered; the filter before the convolution at stride 1."""
    torch.manual_seed(0)
    plain = resnet18(num_classes=2).double().eval()
    block = plain.layer2[0]
    maps = torch.randn(2, 64, 9, 10, dtype=torch.float64)
    found = antialias(copy.deepcopy(plain), placement).layer2[0](maps)
    main, skip = maps, nn.functional.conv2d(maps, block.downsample[0].weight)
    if "preconv" in placement:
        row = torch.tensor([1.0, 2, 1], dtype=torch.float64) / 4
        kernel = torch.outer(row, row).expand(64, 1, 3, 3)
        padded = nn.functional.pad(main, (1, 1, 1, 1), mode="reflect")
        main = nn.functional.conv2d(padded, kernel, groups=64)
    main = nn.functional.conv2d(main, block.conv1.weight, padding=1)
    post = placement != "preconv"
    main = low_pass(block.bn1(main).relu()) if post else block.bn1(main)[:, :, ::2, ::2].relu()
    main = block.bn2(nn.functional.conv2d(main, block.conv2.weight, padding=1))
    skip = low_pass(skip) if placement == "critical" else skip[:, :, ::2, ::2]
    expected = (main + block.downsample[1](skip)).relu()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_filter_then_project_is_project_then_filter_and_costs_nothing():
    torch.manual_seed(0)
    plain = nn.Sequential(resnet50(num_classes=2)).double().eval()
    maps = torch.randn(1, 256, 15, 14, dtype=torch.float64)
    shortcut = plain[0].layer2[0].downsample
    expected = shortcut[1](low_pass(nn.functional.conv2d(maps, shortcut[0].weight)))
    filtered = antialias(copy.deepcopy(plain), "skip")
    torch.testing.assert_close(filtered[0].layer2[0].downsample(maps), expected)
    for step in sub_sampling_steps(filtered, 96):
        assert step.flops < 1.02 * step.plain_flops


def test_max_pool_is_dense_then_filtered():
    maps = torch.rand(1, 64, 8, 8, dtype=torch.float64)
    dense = nn.functional.max_pool2d(maps, 3, stride=1, padding=1)
    network = antialias(resnet18())
    torch.testing.assert_close(network.maxpool(maps), low_pass(dense))


class Shared(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.pool, self.conv = pool, nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.pool(self.conv(self.pool(x)).relu())


@pytest.mark.parametrize("kind", [nn.MaxPool2d, nn.AvgPool2d])
def test_a_pool_that_is_used_twice_is_filtered_once(kind):
    network = antialias(Shared(kind(2)), "pool")
    maps = torch.rand(1, 3, 41, 41, dtype=torch.float64)
    once = low_pass(kind(2, stride=1)(maps))
    torch.testing.assert_close(network.pool(maps), once)
    assert [step.filter for step in sub_sampling_steps(network)] == ["binomial3"] * 2


@pytest.mark.parametrize(("batch", "size", "kernel"), [(5, 40, 3), (4, 33, 2)])
def test_pooling_image_by_image_gives_the_same_bits(batch, size, kernel, monkeypatch):
    torch.manual_seed(0)
    network = antialias(nn.Sequential(nn.MaxPool2d(kernel, 2, kernel // 2)), "pool")
    maps = torch.randn(batch, 16, size, size).relu()  # many ties, at which the first wins
    maps = maps.contiguous(memory_format=torch.channels_last).requires_grad_()
    found = []
    for worthwhile in (2**60, 1):
        monkeypatch.setattr(pool, "WORTHWHILE", worthwhile)
        monkeypatch.setattr(pool, "AT_A_TIME", 2 * 16 * size * size * 4)
        result = network(maps)
        weights = torch.arange(result.numel(), dtype=torch.float32).view_as(result).sin()
        found.append((result, *torch.autograd.grad(result, maps, weights)))
    assert "PoolAndBlur" in type(result.grad_fn).__name__
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 0), ((3, 5), 2, (1, 2)), (3, 3, 1, 2)])
@pytest.mark.parametrize("filter", ["binomial3", "binomial4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_window_is_pooled_a_few_images_at_a_time(monkeypatch, window, filter, dtype):
    network = antialias(nn.Sequential(nn.MaxPool2d(*window)), "pool", filter)
    torch.manual_seed(0)
    maps = torch.randn(5, 8, 33, 30, dtype=dtype).relu().requires_grad_()
    found = []
    for worthwhile in (2**60, 1):
        monkeypatch.setattr(pool, "WORTHWHILE", worthwhile)
        monkeypatch.setattr(pool, "AT_A_TIME", 2 * maps[0].numel() * maps.element_size())
        result = network(maps)
        weights = torch.arange(result.numel(), dtype=dtype).view_as(result).sin()
        found.append((result, *torch.autograd.grad(result, maps, weights)))
    assert "PoolAndBlur" in type(result.grad_fn).__name__
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_pooling_image_by_image_has_second_derivatives(monkeypatch):
    monkeypatch.setattr(pool, "WORTHWHILE", 1)
    torch.manual_seed(0)
    network = antialias(nn.Sequential(nn.MaxPool2d(3, 2, 1)), "pool")
    maps = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, maps)
    assert torch.autograd.gradgradcheck(lambda x: network(x) ** 2, maps)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_a_smooth_activation_takes_the_place_of_relu(activation):
    network = antialias(resnet18(), activation=activation)
    kinds = {type(m).__name__.lower() for m in network.modules()}
    assert activation in kinds and "relu" not in kinds
    assert aliased(network) == {"conv1"}
    network(torch.rand(2, 3, 40, 40)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18d"])
def test_gradients_reach_every_parameter(name):
    network = antialias(build(name)).train()
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
