"""The energy that folds at every sub-sampling step, and the gain of filters.

*Folded energy* of a sub-sampling step: the share of the map's spectral energy above the new
Nyquist frequency at the moment of sub-sampling (2-D FFT, energies averaged over channels and
images first). Sub-sampling by s keeps frequencies up to 1/(2s) cycles per sample of the old grid;
what lies above comes down on lower ones. The FFT takes a map to repeat itself, so what jumps
between opposite borders counts as high frequencies, in plain and filtered maps alike.

Source: facts on anti-aliasing, Measures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fewshot.antialiasing import Step, watch_sub_sampling

BINS = 16
"""Of a spectrum: from 0 to 1/2 cycles per sample."""

# ---- frequencies -----------------------------------------------------------------------------


def folded_frequency(frequency: float, stride: int) -> float:
    """Where a frequency is after sub-sampling, in cycles per new sample, from 0 to 1/2.

    Args:
        frequency: in cycles per sample of the old grid.
        stride: every stride-th sample is kept.
    """
    new = frequency * stride
    return abs(new - round(new))


def gain(taps: Tensor, frequencies: Tensor) -> Tensor:
    """How much of a sinusoid a filter lets through, |H(f)|, float64 [n].

    Args:
        taps: [k] of one dimension.
        frequencies: [n] in cycles per sample.
    """
    places = torch.arange(len(taps), dtype=torch.float64)
    turns = torch.exp(-2j * math.pi * frequencies.to(torch.float64)[:, None] * places)
    passed: Tensor = (turns * taps.to(torch.float64)).sum(dim=1).abs()
    return passed


def energy(maps: Tensor) -> Tensor:
    """Spectral energy [h, w] of maps [n, C, h, w], mean over images and channels, float64.

    Frequencies as `torch.fft.fftfreq` orders them; the sum is the mean energy of a map.
    """
    spectra = torch.fft.fft2(maps.to(torch.float64), norm="ortho")
    mean: Tensor = (spectra.abs() ** 2).mean(dim=(0, 1))
    return mean


def frequencies_of(height: int, width: int) -> tuple[Tensor, Tensor]:
    """|f| of every entry of a spectrum along the height and the width, each [height, width]."""
    down, across = (torch.fft.fftfreq(n, dtype=torch.float64).abs() for n in (height, width))
    return down[:, None].expand(height, width), across.expand(height, width)


def above_nyquist(height: int, width: int, stride: tuple[int, int]) -> Tensor:
    """Which entries of a spectrum fold when the map is sub-sampled, bool [height, width]."""
    down, across = frequencies_of(height, width)
    slack = 1e-9  # the new Nyquist frequency itself stays where it is
    return (down > 0.5 / stride[0] + slack) | (across > 0.5 / stride[1] + slack)


# ---- energy at the steps of a network --------------------------------------------------------


@dataclass
class Spectrum:
    """Energies of the maps at one place, summed over images.

    Attributes:
        total, constant, folding: energy in all, of the channels' means, above the new Nyquist.
        bins: [BINS] energy by the larger of the two frequencies, from 0 to 1/2 cycles per sample.
        images: how many.
    """

    total: float = 0.0
    constant: float = 0.0
    folding: float = 0.0
    bins: list[float] = field(default_factory=lambda: [0.0] * BINS)
    images: int = 0

    def add(self, maps: Tensor, stride: tuple[int, int]) -> None:
        """Count the maps [n, C, h, w] of some more images."""
        found = energy(maps).cpu() * len(maps)
        height, width = found.shape
        down, across = frequencies_of(height, width)
        places = (torch.maximum(down, across) * 2 * BINS).long().clamp(max=BINS - 1)
        sums = torch.zeros(BINS, dtype=torch.float64)
        sums.index_add_(0, places.flatten(), found.flatten())
        self.bins = [old + new for old, new in zip(self.bins, sums.tolist(), strict=True)]
        self.total += float(found.sum())
        self.constant += float(found[0, 0])
        self.folding += float(found[above_nyquist(height, width, stride)].sum())
        self.images += len(maps)

    @property
    def folded(self) -> float:
        """Share of the energy that folds."""
        return self.folding / self.total if self.total else 0.0

    @property
    def folded_of_variation(self) -> float:
        """The same, of what is left of the map without its channels' means."""
        varying = self.total - self.constant
        return self.folding / varying if varying > 0 else 0.0


@dataclass
class StepEnergy:
    """A sub-sampling step, and the energies of its maps before and after its filter."""

    step: Step
    before: Spectrum = field(default_factory=Spectrum)
    after: Spectrum = field(default_factory=Spectrum)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        step = self.step
        return {
            "path": step.path,
            "place": step.place,
            "size": list(step.size),
            "stride": list(step.stride),
            "filter": step.filter,
            "before": vars(self.before),
            "after": vars(self.after),
        }


def measure_energy(network: nn.Module, batches: Sequence[Tensor]) -> list[StepEnergy]:
    """Energies at every sub-sampling step of a network, over batches of images.

    Args:
        network: in evaluation mode, plain, anti-aliased or foreign.
        batches: float [n, 3, S, S] each.

    Raises:
        InputError: the network cannot be run on these images.
    """
    found: dict[int, StepEnergy] = {}

    def watch(step: Step, unfiltered: Tensor, filtered: Tensor) -> None:
        one = found.setdefault(step.call, StepEnergy(step))
        one.before.add(unfiltered, step.stride)
        one.after.add(filtered, step.stride)

    for images in batches:
        watch_sub_sampling(network, images, watch)
    return [found[call] for call in sorted(found)]
