"""SimCLR episodes: every support image is a class of its own, to be known again in another view.

Source: Doersch et al. 2020 and the benchmark's code (facts, section 4.7); the views are those of
SimCLR (Chen et al. 2020), version 1, with colours distorted at strength 1, drawn by torchvision
from torch's global generators.
"""

from functools import cache

import torch
from torch import Tensor
from torchvision.transforms import v2

from baselines.learner import EpisodeTensors

STRENGTH = 1.0
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
BLUR_SHARE, BLUR_SIGMA, BLUR_WIDTH = 0.5, (0.1, 2.0), 0.1
"""How many views are blurred, by what, and the kernel's width in widths of the image."""


def instances(episode: EpisodeTensors) -> EpisodeTensors:
    """An episode whose classes are the support images of a given one.

    Its queries are the first support images of each class again, as many as the class had queries
    (or all); the given queries are dropped.
    """
    support, labels, _, truth, way = episode
    asked = torch.bincount(truth, minlength=way)
    kept = torch.cat([(labels == one).nonzero()[: asked[one], 0] for one in range(way)])
    own = torch.arange(len(support), device=labels.device)
    return support, own, support[kept], own[kept], len(support)


def views(images: Tensor, *, blurred: bool = False) -> Tensor:
    """A view of each image, drawn for each alone: [n, 3, S, S] in [−1, 1]."""
    size = images.shape[-1]
    changes = _changes(size, blurred)
    drawn = torch.stack([changes(image) for image in (images + 1) / 2])
    return drawn.clamp(0, 1) * 2 - 1


@cache
def _changes(size: int, blurred: bool) -> v2.Compose:
    colours = [0.8 * STRENGTH] * 3
    steps: list[torch.nn.Module] = [
        v2.RandomResizedCrop(
            size, AREA, ASPECT, interpolation=v2.InterpolationMode.BICUBIC, antialias=False
        ),
        v2.RandomHorizontalFlip(),
        v2.Lambda(lambda image: image.clamp(0, 1)),  # a bicubic overshoots
        v2.RandomApply([v2.ColorJitter(*colours, hue=0.2 * STRENGTH)], 0.8),
        v2.RandomGrayscale(0.2),
    ]
    if blurred:
        width = max(3, int(BLUR_WIDTH * size) // 2 * 2 + 1)
        steps.append(v2.RandomApply([v2.GaussianBlur(width, BLUR_SIGMA)], BLUR_SHARE))
    return v2.Compose(steps)
