"""Low-pass filters by name: what stands between a map and its sub-sampling.

| name | filter |
|---|---|
| `binomial2` … `binomial7` | a row of Pascal's triangle (Zhang 2019, section 3.2) |
| `gaussian0.8x5` | Gaussian of σ = 0.8 samples, 5 taps |
| `gaussian` | Gaussian by the sub-sampling factor s: σ = s/6, ⌈2σ + 1⌉ taps |
| `sinc13` | ideal low-pass at the new Nyquist, 13 taps under a Hann window: the reference |
| `taps1:3:3:1` | a user's own row |

Every filter has gain 1 at rest, exactly, in every precision: its taps are rounded to numbers that
the precision represents and that sum to 1 without rounding.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from episodes.faults import InputError

DEFAULT = "binomial3"
MOST_TAPS = 63
NAMES = "binomial2 to binomial7, gaussian, gaussian<σ>x<taps>, sinc<taps>, taps<a>:<b>:…"


@dataclass(frozen=True)
class Filter:
    """A low-pass filter.

    Attributes:
        name: how `parse_filter` spells it; of a user's two-dimensional kernel, only its size.
        row: sub-sampling factor → taps, float64 [taps], sum 1.
        kernel: a two-dimensional kernel instead, float64 [height, width], sum 1.
    """

    name: str
    row: Callable[[int], Tensor] | None = None
    kernel: Tensor | None = None

    def taps(self, stride: tuple[int, int]) -> Tensor:
        """The kernel for a sub-sampling factor per dimension, float64 [height, width].

        A dimension that is not sub-sampled is not filtered.
        """
        if self.kernel is not None:
            return self.kernel
        assert self.row is not None
        one = torch.ones(1, dtype=torch.float64)
        height, width = [self.row(factor) if factor > 1 else one for factor in stride]
        kernel: Tensor = height[:, None] * width
        return kernel


def binomial(taps: int) -> Tensor:
    """A row of Pascal's triangle, float64 [taps], scaled to sum 1. Source: Zhang 2019."""
    row = [math.comb(taps - 1, k) for k in range(taps)]
    return torch.tensor(row, dtype=torch.float64) / sum(row)


def gaussian(sigma: float, taps: int) -> Tensor:
    """A sampled Gaussian of standard deviation `sigma` samples, float64 [taps], sum 1."""
    row = torch.exp(-0.5 * (_places(taps) / sigma) ** 2)
    scaled: Tensor = row / row.sum()
    return scaled


def gaussian_by_stride(stride: int) -> Tensor:
    """The Gaussian of σ = stride/6 with ⌈2σ + 1⌉ taps. Source: facts on anti-aliasing, Filters."""
    sigma = stride / 6
    return gaussian(sigma, math.ceil(2 * sigma + 1))


def windowed_sinc(taps: int, stride: int) -> Tensor:
    """An ideal low-pass at 1/(2 stride) cycles per sample under a Hann window, sum 1."""
    places = _places(taps)
    row = torch.sinc(places / stride) * torch.cos(math.pi * places / (taps + 1)) ** 2
    return row / row.sum()


def fixed_row(row: Tensor, stride: int) -> Tensor:
    return row


def _places(taps: int) -> Tensor:
    """Distance of each tap from the middle, in samples."""
    return torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2


def parse_filter(wanted: "str | Tensor | Sequence[float] | Filter") -> Filter:
    """The filter of this name, or a user's own kernel.

    Args:
        wanted: a name of the table above; or taps of one dimension, used for both; or a
            two-dimensional kernel. Taps are scaled to sum 1.

    Raises:
        InputError: there is no such filter, or the taps are no low-pass filter.
    """
    if isinstance(wanted, Filter):
        return wanted
    if not isinstance(wanted, str):
        return _own_filter(torch.as_tensor(wanted, dtype=torch.float64).detach().cpu())
    if wanted == "gaussian":
        return Filter(wanted, gaussian_by_stride)
    if (found := re.fullmatch(r"binomial([2-7])", wanted)) is not None:
        taps = int(found[1])
        return Filter(wanted, partial(fixed_row, binomial(taps)))
    if (found := re.fullmatch(r"gaussian(\d+(?:\.\d+)?|\.\d+)x(\d{1,3})", wanted)) is not None:
        sigma, taps = float(found[1]), int(found[2])
        if sigma > 0 and 1 <= taps <= MOST_TAPS:
            return Filter(wanted, partial(fixed_row, gaussian(sigma, taps)))
    if (found := re.fullmatch(r"sinc(\d{1,3})", wanted)) is not None:
        taps = int(found[1])
        if 2 <= taps <= MOST_TAPS:
            return Filter(wanted, partial(windowed_sinc, taps))
    if wanted.startswith("taps"):
        try:
            row = [float(number) for number in wanted.removeprefix("taps").split(":")]
        except ValueError:
            row = []
        if row:
            return _own_filter(torch.tensor(row, dtype=torch.float64))
    raise InputError(f"unknown filter '{wanted}'.", remedy=f"Known: {NAMES}.")


def _own_filter(taps: Tensor) -> Filter:
    shape = "x".join(map(str, taps.shape))
    where = f"filter of {shape or 'no'} taps"
    if taps.ndim not in (1, 2) or not 0 < max(taps.shape) <= MOST_TAPS or not taps.numel():
        raise InputError(
            f"has shape {list(taps.shape)}.", where, f"Give 1 to {MOST_TAPS} taps, or a kernel."
        )
    total = float(taps.sum())
    if not bool(torch.isfinite(taps).all()) or total <= 1e-6 * float(taps.abs().sum()):
        raise InputError(
            f"its taps sum to {total:g}, so it lets no constant pass.", where, "Give a low-pass."
        )
    if taps.numel() == 1:
        raise InputError("filters nothing.", where, "Give at least two taps.")
    scaled = taps / total
    if taps.ndim == 1:
        name = "taps" + ":".join(f"{value:.12g}" for value in taps.tolist())
        return Filter(name, partial(fixed_row, scaled))
    return Filter(f"own{shape}", kernel=scaled)


def exact(kernel: Tensor, dtype: torch.dtype) -> Tensor:
    """A kernel in a precision, its taps rounded so that they still sum to 1 without rounding.

    The taps become multiples of one power of two; what rounding lost goes to the largest taps,
    evenly, so that a symmetric kernel stays symmetric. Binomial kernels are their own rounding.

    Args:
        kernel: float64, sum 1.
        dtype: of floating point.
    """
    largest = kernel.abs().max()
    bits = -round(math.log2(torch.finfo(dtype).eps))  # 23 of float32, 7 of bfloat16
    # Coarser than a wide precision could: room for the product with a map, so that the sum over
    # a constant map is exact as well.
    bits = min(bits - math.floor(math.log2(float(largest))), 2 * bits // 3 + 2 if bits > 10 else 99)
    for finer in range(bits, 0, -1):
        unit = 2.0**-finer
        counts = torch.round(kernel / unit)
        peak = kernel >= largest * (1 - 1e-9)
        rest = 1 / unit - float(counts.sum())
        counts[peak] += rest / int(peak.sum())
        taps = counts * unit
        cast = taps.to(dtype)
        if torch.equal(counts, counts.round()) and torch.equal(cast.to(torch.float64), taps):
            return cast
    return kernel.to(dtype)
