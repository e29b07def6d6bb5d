"""TSA: residual adapters in every block, and an alignment after them.

Source: Li et al. 2022, "Cross-domain Few-shot Learning with Task-specific Adapters", and its
released code for the constants.

A 3 x 3 convolution becomes y = conv(x) + alpha * x, alpha a 1 x 1 convolution of the same
stride. Both sample x at the same places, so alpha is added to the middle of the kernel, which
costs nothing and reaches anti-aliased convolutions too.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from episodes.faults import InputError
from fewshot.heads.base import ImagePredictor, check_setting
from fewshot.heads.geometry import COSINE_SCALE, class_means, cosines
from fewshot.heads.tuning import TuningHead, backward, embed_all

INITIAL_SHARE = 1e-4
"""Of the identity, in the adapters at first."""


class ResidualAdapter(nn.Module):
    """A parametrization of a kernel: `alpha` is added to its middle."""

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        rows, columns = kernel.shape[:2]
        identity = torch.eye(rows, columns, dtype=kernel.dtype, device=kernel.device)
        self.alpha = nn.Parameter(INITIAL_SHARE * identity)

    def forward(self, kernel: Tensor) -> Tensor:
        return kernel + functional.pad(self.alpha[..., None, None], (1, 1, 1, 1))


def attach_adapters(network: nn.Module) -> list[nn.Parameter]:
    """Give every 3 x 3 convolution but the first of a network a residual adapter, in place.

    Returns:
        The adapters.

    Raises:
        InputError: there is no such convolution.
    """
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)][1:]
    adapters = []
    for conv in convolutions:
        if conv.kernel_size == (3, 3) and conv.padding == (1, 1) and conv.groups == 1:
            adapter = ResidualAdapter(conv.weight)
            parametrize.register_parametrization(conv, "weight", adapter)
            adapters.append(adapter.alpha)
    if not adapters:
        raise InputError(
            "has no 3 x 3 convolution for an adapter.",
            type(network).__name__,
            "Use a residual network.",
        )
    return adapters


@dataclass(frozen=True)
class Tsa(TuningHead):
    """Task-specific adapters, then cosine prototypes of aligned features.

    Adapters and alignment minimise the cross-entropy of `10 cos` on the support set itself, each
    item being part of its own prototype; everything else is frozen. The published rates are 0.05
    and 0.1 on the sources that the backbone was trained on, 0.5 and 1 on others; a head is not
    told which, so one pair serves all.

    Attributes:
        steps: iterations of Adadelta, on the whole support set.
        lr: learning rate of the adapters.
        alignment_lr: learning rate of the alignment.
    """

    name: ClassVar[str] = "tsa"
    steps: int = 40
    lr: float = 0.05
    alignment_lr: float = 0.1

    def __post_init__(self) -> None:
        check_setting(self.steps >= 0, self, "steps is a count, 0 or more")
        check_setting(self.lr > 0 and self.alignment_lr > 0, self, "learning rates are positive")

    def tune(
        self, network: nn.Module, images: Tensor, labels: Tensor, way: int, draw: torch.Generator
    ) -> ImagePredictor:
        network.requires_grad_(False)
        adapters = attach_adapters(network)
        first = embed_all(network, images[:1])
        alignment = torch.eye(first.shape[1], dtype=first.dtype, device=first.device)
        alignment.requires_grad_(True)
        groups = [
            {"params": adapters, "lr": self.lr},
            {"params": [alignment], "lr": self.alignment_lr},
        ]
        adadelta = torch.optim.Adadelta(groups)
        members = functional.one_hot(labels, way).to(first.dtype)

        def scores(items: Tensor, support: Tensor) -> Tensor:
            prototypes = class_means(support, members) @ alignment.T
            return COSINE_SCALE * cosines(items @ alignment.T, prototypes)

        for _ in range(self.steps):
            adadelta.zero_grad()
            backward(
                network,
                images,
                lambda features: functional.cross_entropy(scores(features, features), labels),
            )
            adadelta.step()
        support = embed_all(network, images)
        return lambda query: scores(embed_all(network, query), support)
