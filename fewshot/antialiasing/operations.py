"""What an operation does to a map: by how much it sub-samples, and whether it filters."""

import math
from functools import partial

import torch
from torch import nn

from fewshot.antialiasing.filters import Filter, binomial, fixed_row
from fewshot.antialiasing.tape import LOW_PASS, Call, pair

CONV, SLICE, INTERPOLATE = "conv", "slice", "interpolate"
MAX_POOL, AVG_POOL = "max_pool", "avg_pool"
ADAPTIVE_MAX, ADAPTIVE_AVG = "adaptive_max_pool", "adaptive_avg_pool"

MAX_POOLS = ("max_pool2d_with_indices", "max_pool2d")
KINDS = {
    "convolution": CONV,
    "avg_pool2d": AVG_POOL,
    **dict.fromkeys(MAX_POOLS, MAX_POOL),
    "adaptive_max_pool2d": ADAPTIVE_MAX,
    "_adaptive_avg_pool2d": ADAPTIVE_AVG,
    "slice": SLICE,
    **{f"upsample_{mode}": INTERPOLATE for mode in ("nearest2d", "bilinear2d", "bicubic2d")},
    "_upsample_nearest_exact2d": INTERPOLATE,
    "_upsample_bilinear2d_aa": INTERPOLATE,
    "_upsample_bicubic2d_aa": INTERPOLATE,
}
"""Operations that can sub-sample a map → what a step calls them."""

NORMS = {
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit",
    "_batch_norm_no_update",
    "cudnn_batch_norm",
    "miopen_batch_norm",
}
LINEAR = NORMS | {"clone", "_to_copy", "detach", "dropout", "alias"}
PADS = {"constant_pad_nd", "reflection_pad2d", "replication_pad2d"}
ACTIVATIONS = {
    *("relu", "silu", "gelu", "hardswish", "hardtanh", "leaky_relu", "elu", "_prelu_kernel"),
    *("sigmoid", "hardsigmoid", "tanh", "mish", "softplus", "clamp", "clamp_min", "clamp_max"),
    *("threshold", "log_sigmoid_forward", "rrelu_with_noise"),
}
NONLINEAR = {"pow", "exp", "sqrt"}
ARITHMETIC = {"add", "sub", "mul", "div", "neg"} | NONLINEAR
POINTWISE = LINEAR | {"native_group_norm"} | ACTIVATIONS | ARITHMETIC
"""Each sample of a channel by itself (statistics aside), so that a filter may come after it."""

MEANS = {"mean", "_adaptive_avg_pool2d"}
LEARNT = {"convolution", "mm", "addmm", "bmm", *MAX_POOLS}

MAP = 4
"""A map has four dimensions: [n, channels, height, width]."""


def stride_of(call: Call) -> tuple[int, int]:
    """By which factor an operation sub-samples a map, per dimension; (1, 1) if it does not."""
    if len(call.shape) != MAP or len(call.shape_out) != MAP:
        return 1, 1
    settings = call.arguments
    if call.op == LOW_PASS:
        return settings[0].stride  # type: ignore[no-any-return]
    if call.op == "convolution":
        return (1, 1) if settings[6] else pair(settings[3])
    if call.op in (*MAX_POOLS, "avg_pool2d"):
        return pair(settings[2] if len(settings) > 2 and settings[2] else settings[1])
    if call.op == "slice":
        step = settings[4] if len(settings) > 4 and settings[1] in (2, 3) else 1
        return (step, 1) if settings[1] == 2 else (1, step)
    if call.op in KINDS:  # adaptive pooling, interpolation
        out = call.shape_out[2:]
        if out == (1, 1) and not call.op.startswith("upsample"):
            return 1, 1
        factors = [max(1, math.ceil(n / m)) for n, m in zip(call.shape[2:], out, strict=True)]
        return factors[0], factors[1]
    return 1, 1


def kernel_of(call: Call) -> tuple[int, int]:
    """Extent of an operation, dilation included, per dimension."""
    if call.op == LOW_PASS:
        height, width = call.arguments[0].taps.shape
        return height, width
    if call.op == "convolution":
        assert call.weight is not None
        dilation = pair(call.arguments[5])
        sizes = pair(tuple(call.weight.shape[2:]))
    elif call.op in MAX_POOLS:
        dilation = pair(call.arguments[4]) if len(call.arguments) > 4 else (1, 1)
        sizes = pair(call.arguments[1])
    elif call.op == "avg_pool2d":
        dilation, sizes = (1, 1), pair(call.arguments[1])
    elif "adaptive" in call.op:
        dilation, sizes = (1, 1), stride_of(call)
    else:
        return 1, 1
    return dilation[0] * (sizes[0] - 1) + 1, dilation[1] * (sizes[1] - 1) + 1


def fixed_filter(call: Call) -> str | None:
    """Name of the low-pass filter that an operation applies to each channel, if it does.

    Its taps are fixed (no parameter), the same gain of 1 at rest for every channel.
    """
    if call.op == LOW_PASS:
        return str(call.arguments[0].filter.name)
    if call.op in ("avg_pool2d", "_adaptive_avg_pool2d"):
        kernel = kernel_of(call)
        return None if kernel == (1, 1) else f"box{'x'.join(map(str, sorted(set(kernel))))}"
    if call.op.endswith("_aa"):
        return "triangle"
    if call.op != "convolution" or isinstance(call.weight, nn.Parameter):
        return None
    assert call.weight is not None
    weight = call.weight.double()
    if call.arguments[8] != len(weight) or weight.shape[1] != 1 or weight[0].numel() == 1:
        return None
    if not torch.allclose(weight.sum(dim=(1, 2, 3)), weight.new_ones(len(weight)), atol=1e-2):
        return None
    taps = weight.shape[-1]
    named = Filter("", partial(fixed_row, binomial(taps))).taps((2, 2))
    same = weight.shape[-2] == taps and torch.allclose(weight[0, 0].cpu(), named, atol=1e-3)
    return f"binomial{taps}" if same else f"fixed{weight.shape[-2]}x{taps}"
