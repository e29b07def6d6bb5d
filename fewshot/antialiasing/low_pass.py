"""The filter as a module: low-pass and sub-sample in one step."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot.antialiasing.blur import blur
from fewshot.antialiasing.filters import DEFAULT, Filter, exact, parse_filter

PRECISIONS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class LowPass(nn.Module):
    """Filters every channel with one kernel and keeps each `stride`-th sample.

    [N, C, H, W] → [N, C, ⌈H / stride⌉, ⌈W / stride⌉]. Borders are reflected, which keeps a
    constant map constant; a map too small to reflect is replicated. The kernel is no parameter
    and not in the state dict.

    Args:
        stride: sub-sampling factor, per dimension.
        filter: see `fewshot.antialiasing.filters`.
        factor: sub-sampling factor that the kernel is made for, if it is another (a filter
            before a convolution that sub-samples itself).
        reach: samples past the end at which a pooling window in ceil mode may still start.
    """

    def __init__(
        self,
        stride: int | tuple[int, int],
        filter: str | Filter = DEFAULT,
        factor: tuple[int, int] | None = None,
        reach: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.stride = (stride, stride) if isinstance(stride, int) else stride
        self.filter, self.reach = parse_filter(filter), reach
        self.taps = self.filter.taps(factor or self.stride)
        for dtype in PRECISIONS:
            self.register_buffer(_name(dtype), exact(self.taps, dtype), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LowPass":
        """Follow the network to its device; keep a kernel for each precision."""
        super()._apply(fn, recurse)
        for dtype in PRECISIONS:
            moved = getattr(self, _name(dtype))
            setattr(self, _name(dtype), exact(self.taps, dtype).to(moved.device))
        return self

    def kernel(self, dtype: torch.dtype) -> Tensor:
        """The kernel in a precision, [height, width]."""
        found: Tensor = getattr(self, _name(dtype))
        return found

    def forward(self, maps: Tensor) -> Tensor:
        return self.dense(maps) if self.stride == (1, 1) else self._filter(maps, self.stride)

    def dense(self, maps: Tensor) -> Tensor:
        """The filtered map before it is sub-sampled, [N, C, H, W]."""
        return self._filter(maps, (1, 1))

    def _filter(self, maps: Tensor, stride: tuple[int, int]) -> Tensor:
        kernels = [getattr(self, _name(dtype)) for dtype in PRECISIONS]
        return blur_with(self._reached(maps), kernels, stride)

    def _reached(self, maps: Tensor) -> Tensor:
        """The map, its end repeated as far as pooling in ceil mode would have read on."""
        if self.reach == (0, 0):
            return maps
        extra = []
        for size, stride, reach in zip(maps.shape[-2:], self.stride, self.reach, strict=True):
            last = size - 1
            samples = min(-(-last // stride), (last + reach) // stride)
            extra.append(max(0, samples * stride - last))
        return functional.pad(maps, (0, extra[1], 0, extra[0]), mode="replicate")

    def extra_repr(self) -> str:
        return f"{self.filter.name}, stride={self.stride}"


@torch.fx.wrap  # one node of a traced graph: which kernel is taken depends on the map
def blur_with(maps: Tensor, kernels: Sequence[Tensor], stride: tuple[int, int]) -> Tensor:
    """A map, filtered with the kernel of its precision."""
    return blur(maps, kernels[PRECISIONS.index(maps.dtype)], stride)


def _name(dtype: torch.dtype) -> str:
    return "kernel_" + str(dtype).removeprefix("torch.")
