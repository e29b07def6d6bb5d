"""The surgery: what is filtered, what stays as it was, and the filter's known response."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import efficientnet_b0, resnet18, resnet50, vgg11

from episodes.faults import InputError
from fewshot.antialiasing import LowPass, antialias
from fewshot.antialiasing.filters import binomial
from fewshot.antialiasing.surgery import FilteredConv2d

NETWORKS = {"resnet18": resnet18, "resnet50": resnet50, "efficientnet_b0": efficientnet_b0}


def strided(network: nn.Module) -> set[str]:
    """Names of the convolutions and pools that still sub-sample without a filter."""
    kinds = (nn.Conv2d, nn.MaxPool2d)
    return {
        name
        for name, module in network.named_modules()
        if isinstance(module, kinds) and module.stride not in (1, (1, 1))
    }


@pytest.mark.parametrize(
    ("taps", "row"),
    [
        (1, [1.0]),
        (2, [0.5, 0.5]),
        (3, [0.25, 0.5, 0.25]),
        (5, [0.0625, 0.25, 0.375, 0.25, 0.0625]),
    ],
)
def test_binomial_rows(taps, row):
    assert binomial(taps).tolist() == row


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [32, 33, 84])
def test_output_shape_is_that_of_the_plain_network(name, size):
    plain = NETWORKS[name](num_classes=3).eval()
    filtered = antialias(copy.deepcopy(plain))
    images = torch.zeros(1, 3, size, size)
    trunk = "layer4" if hasattr(plain, "layer4") else "features"
    shapes = []
    for network in (plain, filtered):
        getattr(network, trunk).register_forward_hook(lambda _m, _i, out: shapes.append(out.shape))
        with torch.inference_mode():
            network(images)
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_their_names_stay(name):
    plain = NETWORKS[name]()
    weights = plain.state_dict()
    filtered = antialias(NETWORKS[name]())
    assert list(filtered.state_dict()) == list(weights)
    filtered.load_state_dict(weights, strict=True)
    count = sum(p.numel() for p in filtered.parameters())
    assert count == sum(p.numel() for p in plain.parameters())
    kept = {n for n, _ in filtered.named_buffers() if ".kernel_" in n}
    assert kept and not kept & filtered.state_dict().keys()


def test_resnet18_keeps_only_the_wide_stem_unfiltered():
    network = antialias(resnet18())
    assert strided(network) == {"conv1"}
    filters = {n for n, m in network.named_modules() if isinstance(m, LowPass)}
    assert filters == {"maxpool.1"} | {
        f"layer{stage}.0.{place}.low_pass"
        for stage in (2, 3, 4)
        for place in ("conv2", "downsample.0")
    }


def test_resnet50_filters_between_the_last_two_convolutions_of_a_block():
    network = antialias(resnet50())
    assert strided(network) == {"conv1"}
    assert isinstance(network.layer2[0].conv3, FilteredConv2d)
    assert isinstance(network.layer2[0].downsample[0], FilteredConv2d)


def test_efficientnet_filters_the_stem_and_every_strided_depthwise_convolution():
    network = antialias(efficientnet_b0())
    assert strided(network) == set()
    filters = [n for n, m in network.named_modules() if isinstance(m, LowPass)]
    assert filters == ["features.0.3"] + [f"features.{k}.0.block.1.3" for k in (2, 3, 4, 6)]


def test_block_equals_the_definition():
    """Convolve at stride 1, normalise, activate, filter and sub-sample, convolve; the shortcut
    projected at stride 1 and then filtered: written out with an explicit filter."""
    torch.manual_seed(0)
    plain = resnet18(num_classes=2).double().eval()
    block = plain.layer2[0]
    maps = torch.randn(2, 64, 9, 10, dtype=torch.float64)

    def low_pass(x):
        x = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        rows = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
        both = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4
        return both[:, :, ::2, ::2]

    main = nn.functional.conv2d(maps, block.conv1.weight, stride=1, padding=1)
    main = low_pass(block.bn1(main).relu())
    main = block.bn2(nn.functional.conv2d(main, block.conv2.weight, padding=1))
    skip = low_pass(nn.functional.conv2d(maps, block.downsample[0].weight))
    expected = (main + block.downsample[1](skip)).relu()
    found = antialias(copy.deepcopy(plain)).layer2[0](maps)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_max_pool_is_dense_then_filtered():
    maps = torch.rand(1, 64, 8, 8)
    network = antialias(resnet18())
    dense = nn.functional.max_pool2d(maps, 3, stride=1, padding=1)
    assert torch.equal(network.maxpool(maps), LowPass(2)(dense))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 2), (7, 6)])
def test_a_constant_map_stays_constant_to_the_last_bit(dtype, shape):
    maps = torch.full((2, 3, *shape), 0.6875, dtype=dtype)
    out = LowPass(2).to(dtype)(maps)
    assert out.shape[2:] == ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    assert torch.equal(out, torch.full_like(out, 0.6875))


@pytest.mark.parametrize("frequency", [0.0, 0.125, 0.25, 0.375, 0.5])
def test_gain_of_a_sinusoid_is_the_filters_response(frequency):
    """cos²(πf) for the taps 1 2 1: 1 at rest, 1/2 at the new Nyquist, 0 at the old one."""
    wave = torch.cos(2 * torch.pi * frequency * torch.arange(64, dtype=torch.float64))
    maps = wave.expand(1, 1, 64, 64)
    out = LowPass(2).double()(maps)[0, 0, 5, 4:28]  # away from the borders
    gain = torch.cos(torch.tensor(torch.pi * frequency)) ** 2
    torch.testing.assert_close(out, gain * wave[8:56:2], rtol=0, atol=1e-7)


def test_survives_copy_state_dict_and_channels_last():
    network = antialias(resnet18(num_classes=4)).eval()
    images = torch.rand(2, 3, 40, 40)
    expected = network(images)
    assert torch.equal(copy.deepcopy(network)(images), expected)
    strict = antialias(resnet18(num_classes=4)).eval()
    strict.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(strict(images), expected)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(images), expected, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_parameter():
    network = antialias(resnet18(num_classes=4))
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_a_network_it_does_not_know_is_refused():
    with pytest.raises(InputError, match=r"VGG: has no sub-sampling step .* torchvision ResNet"):
        antialias(vgg11())
