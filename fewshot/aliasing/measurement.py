"""What is measured of one network on one source: energies at its steps, agreement under shifts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from episodes.loader import LabelledImages, stream_seed
from fewshot.aliasing.shifts import look, middle, random_shift_agreement, shift_agreement
from fewshot.aliasing.spectrum import measure_energy
from fewshot.backbones import Backbone

DISTANCES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
"""Pixels that images are moved by."""
BATCH = 32
REACH = 32 / 224
"""Greatest random shift to each side, as a share of the image's side. Source: Zhang 2019."""


@dataclass(frozen=True)
class Measure:
    """How much is measured, and on what.

    Attributes:
        size: of the images that the network sees, in pixels.
        images: per source, drawn by key from its classes.
        seed: of images and shifts.
    """

    size: int
    images: int
    seed: int

    @property
    def reach(self) -> int:
        """Greatest random shift to each side, in pixels: 32 at 224, 12 at 84."""
        return max(1, round(REACH * self.size))

    @property
    def read_size(self) -> int:
        """Side at which images are read, so that shifted views need no pixels from outside."""
        return self.size + 2 * self.reach

    @property
    def distances(self) -> tuple[float, ...]:
        """Those of `DISTANCES` that stay within the images."""
        return tuple(distance for distance in DISTANCES if distance <= self.reach)


def measure(
    backbone: Backbone,
    images: LabelledImages,
    how: Measure,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure one network on one source.

    Args:
        backbone: in evaluation mode, on the device.
        images: of the source, read at `how.read_size`.
        how: how much.
        device: where it is computed.
        progress: called with images done and images in all.

    Returns:
        JSON values: `steps` (`StepEnergy.as_json`), `random` and, by distance, `moved`: per
        image `same` (1: the same guess) and `cosine` (of the features).

    Raises:
        InputError: an image cannot be read.
    """
    chosen = images.order(how.seed, 0)[: how.images]
    generator = torch.Generator().manual_seed(
        stream_seed("shifts", images.reader.spec.name, how.seed) >> 193
    )
    pixels = [_read(images, chosen[k : k + BATCH]).to(device) for k in range(0, len(chosen), BATCH)]
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for done, batch in enumerate(pixels):
        progress(done * BATCH, len(chosen))
        pair = random_shift_agreement(backbone, batch, how.size, how.reach, generator)
        found.setdefault("random", []).append(pair)
        still = look(backbone, middle(batch, how.size))
        for distance in how.distances:
            pair = shift_agreement(backbone, batch, how.size, distance, generator, still)
            found.setdefault(f"{distance:g}", []).append(pair)
    steps = measure_energy(backbone.network, [middle(batch, how.size) for batch in pixels])
    progress(len(chosen), len(chosen))
    agreed = {key: _joined(pairs) for key, pairs in found.items()}
    return {
        "steps": [step.as_json() for step in steps],
        "random": agreed.pop("random"),
        "moved": agreed,
    }


def _read(images: LabelledImages, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
    return images.reader.read(*images.locate(numbers))


def _joined(pairs: list[tuple[Tensor, Tensor]]) -> dict[str, list[float]]:
    same, cosine = (torch.cat(parts).tolist() for parts in zip(*pairs, strict=True))
    return {"same": same, "cosine": [round(value, 6) for value in cosine]}
