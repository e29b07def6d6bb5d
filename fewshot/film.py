"""FiLM for SUR-pnf: one network, and a few numbers per source that turn it to that source.

A scale and an offset per channel after both batch norms of every residual block, and on the three
input channels: 7,686 numbers of a ResNet-18. They begin as one and zero and train alone, with
the classifier; the running statistics of batch norms follow the source too (facts on heads,
section 4).
"""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from episodes.faults import InputError
from fewshot.backbones import Backbone

FILM = "film_"
"""How the names of these numbers begin."""


class FilmedNorm(nn.BatchNorm2d):
    """A batch norm with a scale and an offset behind it."""

    def __init__(self, channels: int, eps: float, momentum: float | None) -> None:
        super().__init__(channels, eps, momentum)
        self.film_scale = nn.Parameter(torch.ones(channels))
        self.film_offset = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Normalised, scaled and offset: [n, C, h, w]."""
        return _affine(super().forward(maps), self.film_scale, self.film_offset)


class FilmedInput(nn.Conv2d):
    """A first convolution with a scale and an offset of the colours before it."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__(
            plain.in_channels,
            plain.out_channels,
            plain.kernel_size,  # type: ignore[arg-type]
            plain.stride,  # type: ignore[arg-type]
            plain.padding,  # type: ignore[arg-type]
            bias=plain.bias is not None,
        )
        self.film_scale = nn.Parameter(torch.ones(plain.in_channels))
        self.film_offset = nn.Parameter(torch.zeros(plain.in_channels))

    def forward(self, images: Tensor) -> Tensor:
        """The convolution of scaled and offset images."""
        return super().forward(_affine(images, self.film_scale, self.film_offset))


def _affine(maps: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    return maps * scale[:, None, None] + offset[:, None, None]


def insert_film(backbone: Backbone) -> None:
    """Put scales and offsets into a network of basic blocks; it computes what it did before.

    Raises:
        InputError: the network is no plain ResNet of basic blocks.
    """
    network = backbone.network
    blocks = [one for one in network.modules() if isinstance(one, BasicBlock)]
    stem = getattr(network, "conv1", None)
    norms = [(block, name) for block in blocks for name in ("bn1", "bn2")]
    plain = all(type(getattr(block, name)) is nn.BatchNorm2d for block, name in norms)
    if not (blocks and plain and type(stem) is nn.Conv2d):
        raise InputError(
            "is no plain network of basic blocks, which FiLM needs.",
            f"backbone {backbone.name}",
            "Take resnet18 or resnet18_sur.",
        )
    for block, name in norms:
        norm = getattr(block, name)
        filmed = FilmedNorm(norm.num_features, norm.eps, norm.momentum)
        filmed.load_state_dict(norm.state_dict(), strict=False)
        setattr(block, name, filmed)
    first = FilmedInput(stem)
    first.load_state_dict(stem.state_dict(), strict=False)
    network.conv1 = first


def freeze_but_film(backbone: Backbone, classifier: nn.Module) -> None:
    """Let only scales, offsets and the classifier learn."""
    backbone.requires_grad_(False)
    classifier.requires_grad_(True)
    for name, parameter in backbone.named_parameters():
        if name.rpartition(".")[2].startswith(FILM):
            parameter.requires_grad_(True)
