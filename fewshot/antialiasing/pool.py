"""Max pooling at stride 1 and its filter, a few images at a time.

Between the two lies a map four times as large as before, and eight bytes of index for each sample
of it. A large batch pays more for that memory than for the arithmetic; a few images at a time stay
in the processor's cache, and the backward pass pools them again. The bits are the same.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from fewshot.antialiasing.blur import Pair, blur, blur_backward
from fewshot.antialiasing.low_pass import LowPass

WORTHWHILE = 32 * 2**20
"""Bytes of the dense map from which memory is got from the system anew every time."""
AT_A_TIME = 8 * 2**20
"""Bytes of it that are worked on at a time."""


class FilteredMaxPool2d(nn.MaxPool2d):
    """A max pooling at stride 1 whose result is filtered and sub-sampled by `filter_after`."""

    filter_after: LowPass

    def forward(self, maps: Tensor) -> Tensor:
        if not _is_worthwhile(maps):
            filtered: Tensor = self.filter_after(super().forward(maps))
            return filtered
        window = (self.kernel_size, self.padding, self.dilation)
        kernel = self.filter_after.kernel(maps.dtype)
        pooled: Tensor = _PoolAndBlur.apply(maps, window, kernel, self.filter_after.stride)
        return pooled


def _is_worthwhile(maps: Tensor) -> bool:
    if isinstance(maps, torch.fx.Proxy) or torch.compiler.is_compiling():
        return False
    large = maps.numel() * maps.element_size() >= WORTHWHILE
    return large and maps.requires_grad and torch.is_grad_enabled() and not maps.is_cuda


def _pool_and_blur(maps: Tensor, window: Any, kernel: Tensor, stride: Pair) -> Tensor:
    size, padding, dilation = window
    return blur(functional.max_pool2d(maps, size, 1, padding, dilation), kernel, stride)


class _PoolAndBlur(Function):
    @staticmethod
    def forward(maps: Tensor, window: Any, kernel: Tensor, stride: Pair) -> Tensor:
        return torch.cat([_pool_and_blur(few, window, kernel, stride) for few in _parts(maps)])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        maps, ctx.window, kernel, ctx.stride = inputs
        ctx.save_for_backward(maps, kernel)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        maps, kernel = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants second derivatives
            result = _pool_and_blur(maps, ctx.window, kernel, ctx.stride)
            (found,) = torch.autograd.grad(result, maps, gradient, create_graph=True)
            return found, None, None, None
        size, padding, dilation = ctx.window
        pool = (size, 1, padding, dilation, False)
        pool_backward = torch.ops.aten.max_pool2d_with_indices_backward.grad_input
        found, done = torch.empty_like(maps), 0
        for few in _parts(maps):
            part = slice(done, done := done + len(few))
            dense, places = functional.max_pool2d(
                few, size, 1, padding, dilation, return_indices=True
            )
            spread = blur_backward(gradient[part], kernel, ctx.stride, dense)
            pool_backward(spread, few, *pool, places, grad_input=found[part])
        return found, None, None, None


def _parts(maps: Tensor) -> tuple[Tensor, ...]:
    bytes_each = maps[0].numel() * maps.element_size()
    parts: tuple[Tensor, ...] = maps.split(max(1, AT_A_TIME // bytes_each))
    return parts
