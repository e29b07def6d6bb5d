"""Shifts: whether an image and a shifted copy of it are seen alike.

Source: Zhang 2019, section 4; facts on anti-aliasing, Measures.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fewshot.backbones import Backbone


def shift(images: Tensor, down: float, across: float) -> Tensor:
    """Images [n, 3, h, w] moved by a number of pixels, whole or not, by the Fourier theorem.

    The image is continued by its mirror image, so that nothing jumps at its borders; every
    frequency keeps its strength, which interpolation would not leave. What moves in at a border
    is mirrored: cut it off.
    """
    height, width = images.shape[-2:]
    wide = torch.cat([images, images.flip(-1)], dim=-1).to(torch.float64)
    mirrored = torch.cat([wide, wide.flip(-2)], dim=-2)
    spectrum = torch.fft.rfft2(mirrored)
    rows = torch.fft.fftfreq(2 * height, dtype=torch.float64, device=images.device)
    columns = torch.fft.rfftfreq(2 * width, dtype=torch.float64, device=images.device)
    turn = torch.exp(-2j * math.pi * (rows[:, None] * down + columns * across))
    moved = torch.fft.irfft2(spectrum * turn, s=mirrored.shape[-2:])
    inside: Tensor = moved[..., :height, :width].to(images.dtype)
    return inside


def middle(images: Tensor, size: int, down: int = 0, across: int = 0) -> Tensor:
    """The middle [n, 3, size, size] of larger images, or what lies so many pixels off it."""
    top, left = ((length - size) // 2 for length in images.shape[-2:])
    return images[..., top + down : top + down + size, left + across : left + across + size]


@dataclass(frozen=True)
class View:
    """What a network makes of images.

    Attributes:
        labels: int64 [n], its best guess.
        features: float [n, D].
    """

    labels: Tensor
    features: Tensor

    def agreement(self, other: "View") -> tuple[Tensor, Tensor]:
        """Per image: 1 where both guesses are the same, and the cosine of the features; [n]."""
        same = (self.labels == other.labels).to(torch.float64)
        cosine = functional.cosine_similarity(
            self.features.to(torch.float64), other.features.to(torch.float64), dim=1
        )
        return same, cosine


def look(backbone: Backbone, images: Tensor) -> View:
    """Guesses and features of images [n, 3, S, S], on the backbone's device."""
    with torch.inference_mode():
        images = images.contiguous(memory_format=torch.channels_last)
        return View(backbone(images).argmax(dim=1).cpu(), backbone.embed(images).float().cpu())


def random_shift_agreement(
    backbone: Backbone, images: Tensor, size: int, reach: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Agreement of two views at random whole-pixel shifts of each image.

    Args:
        backbone: in evaluation mode.
        images: [n, 3, size + 2·reach, size + 2·reach], so that nothing is invented at borders.
        size: of the views.
        reach: greatest shift to each side, in pixels.
        generator: draws the shifts, on the CPU.

    Returns:
        Per image: same guess, cosine of the features; float64 [n] each.

    Source: Zhang 2019, section 4 (±32 pixels at 224).
    """
    views = []
    for _ in range(2):
        moves = torch.randint(-reach, reach + 1, (len(images), 2), generator=generator).tolist()
        crops = [middle(im, size, *move) for im, move in zip(images, moves, strict=True)]
        views.append(look(backbone, torch.stack(crops)))
    return views[0].agreement(views[1])


def shift_agreement(
    backbone: Backbone,
    images: Tensor,
    size: int,
    distance: float,
    generator: torch.Generator,
    still: View,
) -> tuple[Tensor, Tensor]:
    """Agreement of the images in the middle with those moved so far in a random direction.

    Args:
        backbone, images, size, generator: as for `random_shift_agreement`.
        distance: in pixels; fractions are shifted by the Fourier theorem (`shift`).
        still: the view of the middle.

    Returns:
        As `random_shift_agreement`.
    """
    angles = (2 * math.pi * torch.rand(len(images), generator=generator)).tolist()
    moved = [
        shift(image[None], distance * math.sin(angle), distance * math.cos(angle))
        for image, angle in zip(images, angles, strict=True)
    ]
    return still.agreement(look(backbone, middle(torch.cat(moved), size)))
