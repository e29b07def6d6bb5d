"""Filter and sub-sample, against scipy and against the plain way."""

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn import functional

from fewshot.antialiasing import LowPass
from fewshot.antialiasing import blur as arithmetic
from fewshot.antialiasing.blur import blur
from fewshot.antialiasing.filters import exact, parse_filter

FILTERS = ["binomial2", "binomial3", "binomial4", "binomial5", "binomial7", "gaussian", "taps1:2:4"]


@pytest.fixture(params=["fast", "plain"])
def way(request, monkeypatch):
    monkeypatch.setattr(arithmetic, "LARGE", 1 if request.param == "fast" else 10**6)
    return request.param


def by_scipy(maps, kernel, stride):
    """Correlation with mirrored borders, then every s-th sample; 0 samples shift for odd taps."""
    origin = [-(1 - taps % 2) for taps in kernel.shape]  # an even kernel reaches further at the end
    mirrored = (
        "mirror" if min(maps.shape[-2:]) > max(taps // 2 for taps in kernel.shape) else "nearest"
    )
    out = [
        ndimage.correlate(one, kernel.numpy(), mode=mirrored, origin=origin)
        for one in maps.reshape(-1, *maps.shape[-2:]).numpy()
    ]
    return np.stack(out)[:, :: stride[0], :: stride[1]]


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(FILTERS),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([(2, 2), (1, 1), (2, 1), (3, 3), (4, 4)]),
    st.booleans(),
)
def test_equals_scipy_for_every_size(name, size, stride, channels_last):
    torch.manual_seed(0)
    maps = torch.randn(2, 3, *size, dtype=torch.float64)
    kernel = exact(parse_filter(name).taps((2, 2)), torch.float64)
    form = torch.channels_last if channels_last else torch.contiguous_format
    for large in (1, 10**6):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(arithmetic, "LARGE", large)
            found = blur(maps.contiguous(memory_format=form), kernel, stride)
        assert found.shape[2:] == tuple(-(-n // s) for n, s in zip(size, stride, strict=True))
        expected = by_scipy(maps, kernel, stride).reshape(found.shape)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [(42, 42), (41, 42), (29, 30), (12, 13), (9, 9), (8, 7)])
@pytest.mark.parametrize("form", [torch.channels_last, torch.contiguous_format])
def test_the_fast_way_gives_the_bits_of_padding_and_convolving(size, form, monkeypatch):
    monkeypatch.setattr(arithmetic, "LARGE", 1)
    torch.manual_seed(0)
    maps = torch.randn(2, 16, *size).contiguous(memory_format=form).requires_grad_()
    kernel = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1])) / 16
    padded = functional.pad(maps, [1] * 4, mode="reflect")
    plain = functional.conv2d(padded, kernel.expand(16, 1, 3, 3), stride=2, groups=16)
    fast = blur(maps, kernel, (2, 2))
    assert torch.equal(fast, plain) and "_Blur" in type(fast.grad_fn).__name__
    weights = torch.randn_like(plain).contiguous(memory_format=form)
    assert torch.equal(*(torch.autograd.grad(out, maps, weights)[0] for out in (fast, plain)))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # forward mode uses it
@pytest.mark.parametrize(("taps", "stride"), [(3, (2, 2)), (5, (2, 2)), (5, (3, 1)), (7, (4, 2))])
def test_gradients_of_first_and_second_order(taps, stride, way):
    torch.manual_seed(0)
    maps = torch.randn(1, 2, 13, 14, dtype=torch.float64, requires_grad=True)
    kernel = parse_filter(f"binomial{taps}").taps((2, 2))
    assert torch.autograd.gradcheck(lambda x: blur(x, kernel, stride), maps)
    assert torch.autograd.gradgradcheck(lambda x: blur(x, kernel, stride) ** 2, maps)
    tangent = torch.randn_like(maps)
    _, moved = torch.func.jvp(lambda x: blur(x, kernel, stride), (maps.detach(),), (tangent,))
    torch.testing.assert_close(moved, blur(tangent, kernel, stride))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [*FILTERS, "gaussian0.8x5", "sinc13"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 2), (7, 6), (30, 31)])
def test_a_constant_map_stays_constant_to_the_last_bit(dtype, name, shape):
    maps = torch.full((2, 3, *shape), 0.6875, dtype=dtype)  # 11 / 16: the sums are representable
    out = LowPass(2, name).to(dtype)(maps)
    assert torch.equal(out, torch.full_like(out, 0.6875))


@pytest.mark.parametrize("frequency", [0.0, 0.125, 0.25, 0.375, 0.5])
def test_gain_of_a_sinusoid_is_the_filters_response(frequency, way):
    """cos²(πf) for the taps 1 2 1: 1 at rest, 1/2 at the new Nyquist, 0 at the old one."""
    wave = torch.cos(2 * torch.pi * frequency * torch.arange(64, dtype=torch.float64))
    out = LowPass(2).double()(wave.expand(1, 1, 64, 64))[0, 0, 5, 4:28]  # away from the borders
    gain = torch.cos(torch.tensor(torch.pi * frequency)) ** 2
    torch.testing.assert_close(out, gain * wave[8:56:2], rtol=0, atol=1e-7)


def test_the_dense_map_is_what_is_sub_sampled(way):
    maps = torch.randn(2, 3, 15, 16)
    low_pass = LowPass(2, "binomial5")
    torch.testing.assert_close(low_pass(maps), low_pass.dense(maps)[:, :, ::2, ::2])


@settings(deadline=None)
@given(st.integers(4, 40), st.sampled_from([(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 1), (5, 4, 2)]))
def test_reach_gives_the_size_of_pooling_in_ceil_mode(size, setting):
    kernel, stride, padding = setting
    maps = torch.rand(1, 1, size, size)
    pooled = functional.max_pool2d(maps, kernel, stride, padding, ceil_mode=True)
    dense = functional.max_pool2d(maps, kernel, 1, padding)
    low_pass = LowPass(stride, reach=(kernel - 1 - padding,) * 2)
    assert low_pass(dense).shape == pooled.shape


def test_kernels_follow_the_network_and_stay_out_of_the_state_dict():
    low_pass = LowPass(2, "gaussian0.8x5")
    assert not low_pass.state_dict() and not list(low_pass.parameters())
    half = copy.deepcopy(low_pass).to(torch.bfloat16)
    assert torch.equal(half.kernel_bfloat16, low_pass.kernel_bfloat16)
    assert torch.equal(half.float().kernel_float32, low_pass.kernel_float32)  # nothing was lost
    real = LowPass(2).to("meta").to_empty(device="cpu")
    assert torch.equal(real.kernel_float32, LowPass(2).kernel_float32)
    buffer = io.BytesIO()
    torch.save(low_pass, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    assert torch.equal(again(torch.ones(1, 1, 9, 9)), low_pass(torch.ones(1, 1, 9, 9)))


def test_autocast_leaves_the_type_of_a_map_alone(way):
    maps = torch.rand(1, 4, 32, 32, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = LowPass(2)(maps)
        low = LowPass(2)(maps.bfloat16())
    assert (out.dtype, low.dtype) == (torch.float32, torch.bfloat16)
    (out.sum() + low.float().sum()).backward()
    assert maps.grad.dtype == torch.float32
