"""Simple CNAPS: a frozen network that FiLM turns to the episode, and Mahalanobis distances."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

from baselines.batch_norm import Rule
from baselines.learner import Learner, one_hot
from baselines.method import Method
from fewshot.backbones import Backbone
from fewshot.heads.base import check_setting
from fewshot.heads.mahalanobis import gaussians, unbiased

WIDTH = 64
"""Channels of the set encoder, and numbers of its embedding."""
SPREAD = 1e-3
"""Deviation, at first, of the factors by which generated scales and offsets count."""

Film = Mapping[str, tuple[Tensor, Tensor]]
"""Scales `[C]` and offsets `[C]` behind the batch norms of these names."""


class Halved(nn.MaxPool2d):
    """Max pooling of maps that are wider than one place."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps) if maps.shape[-1] > 1 else maps


class SetEncoder(nn.Module):
    """Images `[N, 3, S, S]` → one embedding `[64]` of the set: the mean of theirs.

    Its batch norms go by the images of the set, in evaluation too, as in the released code.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (3, *[WIDTH] * 4):
            norm = nn.BatchNorm2d(WIDTH, track_running_stats=False)
            convolution = nn.Conv2d(channels, WIDTH, 3, padding=1)
            layers += [convolution, norm, nn.ReLU(), Halved(2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """The embedding of the set."""
        maps: Tensor = self.layers(images)
        return maps.mean(dim=(0, 2, 3))


class Residual(nn.Linear):
    """A dense layer that is added to its input, where sizes allow."""

    def forward(self, numbers: Tensor) -> Tensor:
        """`[out]` of `[in]`."""
        out = super().forward(numbers)
        return out + numbers if self.in_features == self.out_features else out


class Generator(nn.Module):
    """Scales `1 + r g(z)` and offsets `s b(z)` of the norms of one stage, z its set embedding.

    Args:
        channels: of the norms of the stage.
        norms: how many there are.
    """

    def __init__(self, channels: int, norms: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(Residual(WIDTH, channels), nn.ReLU())
        self.numbers = nn.ModuleList(_three_layers(channels) for _ in range(2 * norms))
        self.factors = nn.Parameter(SPREAD * torch.randn(2 * norms, channels))

    def forward(self, embedding: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Scale and offset of every norm."""
        known = self.shared(embedding)
        made = [f * part(known) for f, part in zip(self.factors, self.numbers, strict=True)]
        return [(1 + scale, offset) for scale, offset in zip(made[::2], made[1::2], strict=True)]


def _three_layers(channels: int) -> nn.Sequential:
    layers = [Residual(channels, channels) for _ in range(3)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


class SimpleCnapsLearner(Learner):
    """Scores are Mahalanobis distances of the features of a network that FiLM adapted.

    Args:
        backbone: as for `Learner`; frozen, its batch norms too.
        settings: of the method.
    """

    def __init__(self, backbone: Backbone, settings: "SimpleCnaps") -> None:
        super().__init__(backbone, settings.batch_norm)
        self.settings = settings
        backbone.requires_grad_(False)
        channels = filmed_norms(backbone)
        self.stages = [list(some) for _, some in groupby(channels, key=lambda name: channels[name])]
        self.encoder = SetEncoder()
        self.generators = nn.ModuleList(
            Generator(channels[names[0]], len(names)) for names in self.stages
        )

    def film(self, support: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The scales and offsets for a support set."""
        embedding = self.encoder(support)
        return {
            name: numbers
            for names, generator in zip(self.stages, self.generators, strict=True)
            for name, numbers in zip(names, generator(embedding), strict=True)
        }

    def forward(self, support: Tensor, labels: Tensor, query: Tensor, way: int) -> Tensor:
        with filmed(self.backbone, self.film(support)):
            known, asked = self.embed_episode(support, query)
        exact = known.double()
        members = one_hot(labels, way, exact)
        covariance = unbiased(self.settings.one_shot, torch.ones_like(exact[0]))
        return gaussians(exact, members, covariance).scores(asked.double()).to(known.dtype)

    def loss(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Cross-entropy of the queries, and the squared length of the generators' factors."""
        loss = functional.cross_entropy(scores.float(), truth, reduction=self.settings.loss)
        generators: list[Any] = list(self.generators)
        squares = torch.stack([one.factors.square().sum() for one in generators]).sum()
        return loss + self.settings.penalty * squares


def filmed_norms(backbone: Backbone) -> dict[str, int]:
    """Names and channels of the batch norms that are adapted, in the order of the network.

    Of a ResNet of basic blocks both of each block, but no shortcut's and not the stem's; of
    another network all.
    """
    modules = dict(backbone.named_modules())
    norms = {
        name: part.num_features
        for name, part in modules.items()
        if isinstance(part, nn.BatchNorm2d)
    }
    inside = {
        name: channels
        for name, channels in norms.items()
        if isinstance(modules[name.rpartition(".")[0]], BasicBlock)
    }
    return inside or norms


@contextmanager
def filmed(backbone: Backbone, film: Film) -> Iterator[None]:
    """Passes of a backbone with scales and offsets behind its batch norms; it stays as it is."""

    def apply(scale: Tensor, offset: Tensor, norm: Any, inputs: Any, maps: Tensor) -> Tensor:
        return maps * scale[:, None, None] + offset[:, None, None]

    handles = [
        backbone.get_submodule(name).register_forward_hook(partial(apply, *numbers))
        for name, numbers in film.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class SimpleCnaps(Method):
    """Simple CNAPS (Bateni et al. 2020) on a trained network, which `--init` names.

    Source: the paper and its released code (facts on heads, sections 4 and 6), of the variant whose
    FiLM is made in one go from the support images.

    Attributes:
        one_shot: the covariance of a class of one image; see `fewshot/heads/mahalanobis.py`.
        loss: of the queries of a training episode: their `sum`, or their `mean`.
        penalty: on the squared factors of the generators.
    """

    name: ClassVar[str] = "learned_simple_cnaps"
    needs_trained: ClassVar[bool] = True
    batch_norm: Rule = "stored"
    one_shot: Literal["published", "zero"] = "published"
    loss: Literal["sum", "mean"] = "sum"
    penalty: float = 0.001

    def __post_init__(self) -> None:
        check_setting(self.penalty >= 0, self, "penalty is not negative")

    def learner(self, backbone: Backbone, image_size: int) -> Learner:
        return SimpleCnapsLearner(backbone, self)
