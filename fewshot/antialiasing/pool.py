"""Max pooling at stride 1 and its filter, image by image.

Between the two lies a map four times as large as before, and eight bytes of index for each sample
of it. A large batch pays more for that memory than for the arithmetic; a few images at a time stay
in the processor's cache, and two bytes of the index are kept. The bits are the same.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from fewshot.antialiasing.blur import Pair, blur, blur_backward
from fewshot.antialiasing.low_pass import LowPass
from fewshot.antialiasing.tape import pair

WORTHWHILE = 32 * 2**20
"""Bytes of the dense map from which memory is got from the system anew every time."""
AT_A_TIME = 4 * 2**20
"""Bytes of it that are worked on at a time."""

Window = tuple[Pair, Pair, Pair]
"""Size, padding and dilation of a pooling."""


class FilteredMaxPool2d(nn.MaxPool2d):
    """A max pooling at stride 1 whose result is filtered and sub-sampled by `filter_after`."""

    filter_after: LowPass

    def forward(self, maps: Tensor) -> Tensor:
        if not _is_worthwhile(maps):
            filtered: Tensor = self.filter_after(super().forward(maps))
            return filtered
        window = pair(self.kernel_size), pair(self.padding), pair(self.dilation)
        kernel = self.filter_after.kernel(maps.dtype)
        pooled: Tensor = _PoolAndBlur.apply(maps, window, kernel, self.filter_after.stride)[0]
        return pooled


def _is_worthwhile(maps: Tensor) -> bool:
    if isinstance(maps, torch.fx.Proxy) or torch.compiler.is_compiling():
        return False
    large = maps.numel() * maps.element_size() >= WORTHWHILE
    return large and maps.requires_grad and torch.is_grad_enabled() and not maps.is_cuda


def _pool_and_blur(maps: Tensor, window: Window, kernel: Tensor, stride: Pair) -> Tensor:
    return blur(functional.max_pool2d(maps, window[0], 1, *window[1:]), kernel, stride)


class _PoolAndBlur(Function):
    """The filtered maxima; and, for first derivatives, which sample of the map each maximum is."""

    @staticmethod
    def forward(
        maps: Tensor, window: Window, kernel: Tensor, stride: Pair
    ) -> tuple[Tensor, Tensor]:
        height, width = maps.shape[-2:]
        short = torch.int16 if height * width < 2**15 else torch.int32
        filtered, samples = [], []
        for few in _parts(maps):
            pooled, found = functional.max_pool2d_with_indices(few, window[0], (1, 1), *window[1:])
            filtered.append(blur(pooled, kernel, stride))
            samples.append(found.to(short))
        return torch.cat(filtered), torch.cat(samples)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        maps, ctx.window, kernel, ctx.stride = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(maps, kernel, output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        maps, kernel, samples = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants second derivatives
            result = _pool_and_blur(maps, ctx.window, kernel, ctx.stride)
            (found,) = torch.autograd.grad(result, maps, gradient, create_graph=True)
            return found, None, None, None
        size, padding, dilation = ctx.window
        spread, done = torch.empty_like(maps), 0
        for few in _parts(maps):
            part = slice(done, done := done + len(few))
            pooled = torch.empty_like(samples[part], dtype=maps.dtype)
            dense = blur_backward(gradient[part], pooled, kernel, ctx.stride)
            spread[part] = torch.ops.aten.max_pool2d_with_indices_backward(
                dense, few, size, (1, 1), padding, dilation, False, samples[part].long()
            )
        return spread, None, None, None


def _parts(maps: Tensor) -> tuple[Tensor, ...]:
    bytes_each = maps[0].numel() * maps.element_size()
    parts: tuple[Tensor, ...] = maps.split(max(1, AT_A_TIME // bytes_each))
    return parts
