"""P>M>F: all weights of the backbone tuned on augmented copies of the support set.

Source: Hu et al. 2022, "Pushing the Limits of Simple Pipelines for Few-Shot Learning", and its
released code for the constants.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot.heads.base import ImagePredictor, check_setting
from fewshot.heads.geometry import COSINE_SCALE, class_means, cosines
from fewshot.heads.tuning import TuningHead, backward, embed_all

AUGMENTED = 0.9
"""Probability that a step augments at all."""
FARTHEST = 0.125
"""Translation, as a share of the side."""


@dataclass(frozen=True)
class Pmf(TuningHead):
    """Cosine prototypes, with every weight tuned by Adam.

    Each step takes prototypes from the support images as they are, with their gradient, and the
    cross-entropy of `10 cos` on an augmented copy of the same images; batch norm keeps its stored
    statistics. The released code picks the rate of each test source from {0, 1e-4, 1e-3, 1e-2}
    on labelled test episodes; here it is a setting, the same for all.

    Attributes:
        steps: of Adam, on the whole support set.
        lr: learning rate.
        augment: whether the copy is augmented.
    """

    name: ClassVar[str] = "pmf"
    steps: int = 50
    lr: float = 1e-4
    augment: bool = True

    def __post_init__(self) -> None:
        check_setting(self.steps >= 0, self, "steps is a count, 0 or more")
        check_setting(self.lr > 0, self, "lr is positive")

    def tune(
        self, network: nn.Module, images: Tensor, labels: Tensor, way: int, draw: torch.Generator
    ) -> ImagePredictor:
        adam = torch.optim.Adam(network.parameters(), lr=self.lr)
        members = functional.one_hot(labels, way).to(images.dtype)

        def scores(items: Tensor, support: Tensor) -> Tensor:
            return COSINE_SCALE * cosines(items, class_means(support, members.to(support.dtype)))

        def loss(features: Tensor) -> Tensor:
            support, changed = features.tensor_split(2)
            return functional.cross_entropy(scores(changed, support), labels)

        for _ in range(self.steps):
            adam.zero_grad()
            changed = augmented(images, draw) if self.augment else images
            backward(network, torch.cat([images, changed]), loss)
            adam.step()
        support = embed_all(network, images)
        return lambda query: scores(embed_all(network, query), support)


def augmented(images: Tensor, draw: torch.Generator) -> Tensor:
    """A random change of images `[N, 3, S, S]`: all mirrored or none; then each for itself
    brighter or darker, of more or less saturation and contrast, and moved, with zeros behind.
    """

    def uniform(low: float, high: float) -> Tensor:
        numbers = torch.rand(len(images), 1, 1, 1, generator=draw)
        return (low + (high - low) * numbers).to(images)

    if torch.rand((), generator=draw) >= AUGMENTED:
        return images
    if torch.rand((), generator=draw) < 0.5:
        images = images.flip(3)
    images = images + uniform(-0.5, 0.5)
    for middle, factor in (((1,), uniform(0, 2)), ((1, 2, 3), uniform(0.5, 1.5))):
        mean = images.mean(dim=middle, keepdim=True)
        images = mean + factor * (images - mean)
    side = images.shape[3]
    reach = int(side * FARTHEST + 0.5)
    framed = functional.pad(images, (reach, reach, reach, reach))
    corners = torch.randint(0, 2 * reach + 1, (len(images), 2), generator=draw).tolist()
    moved = [
        image[:, y : y + side, x : x + side] for image, (y, x) in zip(framed, corners, strict=True)
    ]
    return torch.stack(moved)
