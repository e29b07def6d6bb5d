"""Mixed images: each a blend or a patchwork of two of its batch, with both labels in part."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0
"""Of the beta distribution of the shares, as in torchvision's reference training."""


def find_mixing(name: str, classes: int) -> Mixing | None:
    """A mixing of batches by torchvision: images [n, 3, S, S] and labels [n] to the same images
    and float labels [n, classes]. It draws from torch's CPU generator and no other.

    Args:
        name: mixup, cutmix, both (each batch draws one of the two) or none.
        classes: number of labels.
    """
    if name == "none":
        return None
    mixup = v2.MixUp(alpha=MIXUP_ALPHA, num_classes=classes)
    cutmix = v2.CutMix(alpha=CUTMIX_ALPHA, num_classes=classes)
    chosen = {"mixup": mixup, "cutmix": cutmix, "both": v2.RandomChoice([mixup, cutmix])}[name]

    def mix(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mixed, shares = chosen(images, labels)
        return mixed.contiguous(memory_format=torch.channels_last), shares

    return mix
