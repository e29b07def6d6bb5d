"""Random episodes for comparisons with independent computations."""

import torch
from torch import Tensor

SHOTS = [[5] * 5, [1, 3, 20, 7, 2, 1, 11, 4], [1] * 6, [2, 9], [1, 2, 3, 4, 5] * 4]
"""Shots per class of the episodes that heads are compared on: 2 to 20 ways, 1 to 20 shots."""


def draw(
    seed: int, shots: list[int], dims: list[int], signed: bool
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Support features, labels in random order, and query features, in float64.

    Extractor k separates the classes with strength k + 1; features are signed or, as after a
    ReLU, not negative. There are two queries of each class.
    """
    generator = torch.Generator().manual_seed(seed)
    way = len(shots)
    labels = torch.repeat_interleave(torch.arange(way), torch.tensor(shots))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    support: list[Tensor] = []
    query: list[Tensor] = []
    for k, dim in enumerate(dims, start=1):
        means = 0.3 * k * torch.randn(way, dim, generator=generator, dtype=torch.float64)
        for group, classes in ((support, labels), (query, torch.arange(way).repeat(2))):
            noise = torch.randn(len(classes), dim, generator=generator, dtype=torch.float64)
            features = means[classes] + noise
            group.append(features if signed else features.relu())
    return support, labels, query


def means_of(features: Tensor, labels: Tensor) -> Tensor:
    """Class means, one class after the other."""
    return torch.stack([features[labels == k].mean(dim=0) for k in range(int(labels.max()) + 1)])
