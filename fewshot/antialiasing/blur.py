"""The arithmetic of a filter that sub-samples: the fast way, and the way for every case.

The plain way pads a copy of the map by reflection and convolves. On large maps the copy, and its
share of the backward pass, cost more than the filter. The fast way convolves without a copy and
then computes the outputs at the borders again, from narrow padded strips. Both give the same bits,
forwards and backwards, on the CPU (a test holds them to it). On CUDA PyTorch's own backward pass of
reflection and replication padding adds in no fixed order; neither way here uses it there.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

LARGE = 28
"""Side of a map from which the fast way is faster on a CPU: 14…21 lose, 42 and more win."""

Pair = tuple[int, int]


def blur(maps: Tensor, kernel: Tensor, stride: Pair) -> Tensor:
    """Each channel convolved with one kernel, every `stride`-th sample of it.

    Args:
        maps: [N, C, H, W].
        kernel: [height, width], of the same type; correlated, as convolutions of networks are.
        stride: per dimension.

    Returns:
        [N, C, ⌈H / stride⌉, ⌈W / stride⌉]. Borders are reflected; replicated where the map is
        too small for that. An even kernel reaches one sample further at the end.
    """
    with torch.autocast(maps.device.type, enabled=False):
        if _fast(maps, kernel, stride):
            blurred: Tensor = _Blur.apply(maps, kernel, stride)
            return blurred
        return _depthwise(_padded(maps, kernel), kernel, stride)


def blur_backward(gradient: Tensor, kernel: Tensor, stride: Pair, maps: Tensor) -> Tensor:
    """The gradient of the maps that `blur` filtered, from that of its result.

    Args:
        gradient: [N, C, ⌈H / stride⌉, ⌈W / stride⌉].
        kernel, stride: as given to `blur`.
        maps: [N, C, H, W]; only shape, type and layout count, `blur` being linear.

    Returns:
        [N, C, H, W].
    """
    if _fast(maps, kernel, stride):
        gradient = gradient.contiguous(memory_format=_layout(maps))
        spread: Tensor = _Spread.apply(gradient, kernel, stride, (maps.shape[2], maps.shape[3]))
        return spread
    with torch.enable_grad():
        own = maps.detach().requires_grad_()
        result = blur(own, kernel, stride)
    return torch.autograd.grad(result, own, gradient)[0]


def _fast(maps: Tensor, kernel: Tensor, stride: Pair) -> bool:
    if torch.compiler.is_compiling():
        return False  # the compiler makes no copy of the plain way's padding
    odd = all(taps % 2 for taps in kernel.shape)
    # Also the last window must start inside the map.
    room = all(
        size > taps + factor
        for size, taps, factor in zip(maps.shape[-2:], kernel.shape, stride, strict=True)
    )
    return odd and room and (maps.is_cuda or min(maps.shape[-2:]) >= LARGE)


def _layout(maps: Tensor) -> torch.memory_format:
    last = maps.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _depthwise(maps: Tensor, kernel: Tensor, stride: Pair, padding: Pair = (0, 0)) -> Tensor:
    channels = maps.shape[1]
    weight = kernel.expand(channels, 1, -1, -1)
    return functional.conv2d(maps, weight, stride=stride, padding=padding, groups=channels)


def _depthwise_backward(
    gradient: Tensor, kernel: Tensor, size: Pair, stride: Pair, padding: Pair = (0, 0)
) -> Tensor:
    """The gradient of the input [N, C, *size] of `_depthwise`."""
    number, channels = gradient.shape[:2]
    # Only the shape of this is read.
    like = torch.empty(
        (number, channels, *size),
        dtype=gradient.dtype,
        device=gradient.device,
        memory_format=_layout(gradient),
    )
    weight = kernel.expand(channels, 1, -1, -1)
    found: Tensor = torch.ops.aten.convolution_backward(
        *(gradient, like, weight, None, stride, padding, (1, 1), False, (0, 0), channels),
        (True, False, False),
    )[0]
    return found


def _padded(maps: Tensor, kernel: Tensor) -> Tensor:
    height, width = kernel.shape
    margins = [(width - 1) // 2, width // 2, (height - 1) // 2, height // 2]
    mode = "reflect" if min(maps.shape[-2:]) > max(margins) else "replicate"
    if not maps.is_cuda:
        return functional.pad(maps, margins, mode=mode)
    for dim, before, after in ((3, *margins[:2]), (2, *margins[2:])):
        last = maps.shape[dim] - 1
        if mode == "reflect":
            start = maps.narrow(dim, 1, before).flip(dim)
            end = maps.narrow(dim, last - after, after).flip(dim)
        else:
            start = maps.narrow(dim, 0, 1).repeat_interleave(before, dim)
            end = maps.narrow(dim, last, 1).repeat_interleave(after, dim)
        maps = torch.cat([start, maps, end], dim)
    return maps


def _borders(size: int, taps: int, stride: int) -> tuple[int, int]:
    """The first output whose window lies inside the map, and the first beyond those."""
    margin = taps // 2
    return math.ceil(margin / stride), (size - 1 - margin) // stride + 1


class _Blur(Function):
    """`blur` the fast way: a linear function of the map, whose derivative is `_Spread`."""

    @staticmethod
    def forward(maps: Tensor, kernel: Tensor, stride: Pair) -> Tensor:
        margin = kernel.shape[0] // 2, kernel.shape[1] // 2
        result = _depthwise(maps, kernel, stride, margin)
        for dim in (2, 3):
            size, outputs, factor, m = (
                maps.shape[dim], result.shape[dim], stride[dim - 2], margin[dim - 2]
            )  # fmt: skip
            inner, outer = _borders(size, kernel.shape[dim - 2], factor)
            if inner:
                strip = maps.narrow(dim, 0, (inner - 1) * factor + m + 1)
                again = _depthwise(_reflected(strip, dim, (m, 0), margin), kernel, stride)
                result.narrow(dim, 0, inner).copy_(again)
            if outer < outputs:
                start = outer * factor - m
                strip = maps.narrow(dim, start, size - start)
                again = _depthwise(_reflected(strip, dim, (0, m), margin), kernel, stride)
                result.narrow(dim, outer, outputs - outer).copy_(again)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        maps, kernel, ctx.stride = inputs
        ctx.size = (maps.shape[2], maps.shape[3])
        ctx.layout = _layout(maps)
        ctx.save_for_backward(kernel)
        ctx.save_for_forward(kernel)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradient.contiguous(memory_format=ctx.layout)
        return _Spread.apply(gradient, ctx.saved_tensors[0], ctx.stride, ctx.size), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        moved: Tensor = _Blur.apply(tangent, ctx.saved_tensors[0], ctx.stride)
        return moved


def _reflected(strip: Tensor, dim: int, margins: Pair, margin: Pair) -> Tensor:
    """A strip along a border, reflected at that border and at both of its ends."""
    along, across = list(margins), [margin[3 - dim]] * 2
    pads = across + along if dim == 2 else along + across
    return functional.pad(strip, pads, mode="reflect")


class _Spread(Function):
    """The transpose of `_Blur`: gradients of outputs to gradients of the map.

    Contributions to one sample are added in the order in which the padded map holds them, which
    is that of PyTorch's own padding on a CPU.
    """

    @staticmethod
    def forward(gradient: Tensor, kernel: Tensor, stride: Pair, size: Pair) -> Tensor:
        height, width = size
        top, left = kernel.shape[0] // 2, kernel.shape[1] // 2
        result = _depthwise_backward(gradient, kernel, size, stride, (top, left))
        rows = _borders(height, kernel.shape[0], stride[0])
        columns = _borders(width, kernel.shape[1], stride[1])

        def outside(dim: int, start: int, stop: int) -> Tensor:
            """What outputs start…stop of a dimension spread, over the padded map."""
            strip = gradient.narrow(dim, start, stop - start)
            padded = [height + 2 * top, width + 2 * left]
            factor, taps = stride[dim - 2], kernel.shape[dim - 2]
            padded[dim - 2] = (stop - start - 1) * factor + taps
            return _depthwise_backward(strip, kernel, (padded[0], padded[1]), stride)

        first = right = None
        if columns[0]:
            first = outside(3, 0, columns[0])[:, :, top : top + height, :left].flip(3)
        if columns[1] < gradient.shape[3]:
            spread = outside(3, columns[1], gradient.shape[3])
            beyond = left + width - columns[1] * stride[1]
            right = spread[:, :, top : top + height, beyond:].flip(3)
        upper = None
        if rows[0]:
            above = outside(2, 0, rows[0])[:, :, :top].flip(2)
            upper = above[..., left : left + width].clone()
            if left:
                upper[..., 1 : 1 + left] += above[..., :left].flip(3)
                upper[..., width - 1 - left : width - 1] += above[..., left + width :].flip(3)
            band = slice(1, 1 + top)
            if first is not None:
                upper[..., 1 : 1 + left] += first[:, :, band]
            upper += result[:, :, band]
            if right is not None:
                upper[..., width - 1 - right.shape[3] : width - 1] += right[:, :, band]
        if first is not None:
            result[..., 1 : 1 + left] += first
        if right is not None:
            result[..., width - 1 - right.shape[3] : width - 1] += right
        if upper is not None:
            result[:, :, 1 : 1 + top] = upper
        if rows[1] < gradient.shape[2]:
            spread = outside(2, rows[1], gradient.shape[2])
            beyond = top + height - rows[1] * stride[0]
            lower = spread[:, :, beyond:].flip(2)
            edge = result[:, :, height - 1 - lower.shape[2] : height - 1]
            if left:
                edge[..., 1 : 1 + left] += lower[..., :left].flip(3)
            edge += lower[..., left : left + width]
            if left:
                edge[..., width - 1 - left : width - 1] += lower[..., left + width :].flip(3)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, kernel, ctx.stride, ctx.size = inputs
        ctx.save_for_backward(kernel)
        ctx.save_for_forward(kernel)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _Blur.apply(gradient, ctx.saved_tensors[0], ctx.stride), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        moved: Tensor = _Spread.apply(tangent, ctx.saved_tensors[0], ctx.stride, ctx.size)
        return moved
