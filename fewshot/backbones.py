"""The table of backbones: standard networks, and each of them anti-aliased.

A backbone is a torchvision network with its classifier, parameter names unchanged, seen as a
feature extractor: global averages of the maps after each stage. To add one: a line in
`ARCHITECTURES` (its `aa_` variant comes by itself) and its cost in `fewshot/cost.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models import efficientnet_b0, resnet18

from episodes.faults import InputError, unknown_name
from fewshot.antialiasing import antialias

ANTIALIASED = "aa_"


@dataclass(frozen=True)
class Architecture:
    """A plain network.

    Attributes:
        build: number of classes → the network, freshly initialised.
        stage_maps: the network and images → the maps [n, D_stage, h, w] after each stage.
        stage_dims: D of each stage; the last is the dimension of the features.
    """

    build: Callable[[int], nn.Module]
    stage_maps: Callable[[nn.Module, Tensor], Iterator[Tensor]]
    stage_dims: tuple[int, ...]


def _resnet18(classes: int) -> nn.Module:
    network: nn.Module = resnet18(num_classes=classes)
    return network


def _resnet18_sur(classes: int) -> nn.Module:
    """The ResNet-18 of SUR and URL for 84 pixels: 5×5 stem with stride 2, no max pool.

    Maps of 41, 41, 21, 11 and 6 pixels a side at 84. Source: facts on heads, section 3.
    """
    network = _resnet18(classes)
    network.conv1 = nn.Conv2d(3, 64, kernel_size=5, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return network


def _efficientnet_b0(classes: int) -> nn.Module:
    network: nn.Module = efficientnet_b0(num_classes=classes)
    return network


def _resnet_maps(network: nn.Module, images: Tensor) -> Iterator[Tensor]:
    maps = images
    for name in ("conv1", "bn1", "relu", "maxpool"):
        maps = getattr(network, name)(maps)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        maps = getattr(network, name)(maps)
        yield maps


EFFICIENTNET_STAGES = (0, 4, 6, 8, 9)
"""Bounds of the stages that end at stride 8, 16 and 32, and of the last convolution."""


def _efficientnet_maps(network: nn.Module, images: Tensor) -> Iterator[Tensor]:
    maps, features = images, network.features
    for start, stop in pairwise(EFFICIENTNET_STAGES):
        maps = features[start:stop](maps)  # type: ignore[index, operator]
        yield maps


RESNET_DIMS = (64, 128, 256, 512)

ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": Architecture(_resnet18, _resnet_maps, RESNET_DIMS),
    "resnet18_sur": Architecture(_resnet18_sur, _resnet_maps, RESNET_DIMS),
    "efficientnet_b0": Architecture(_efficientnet_b0, _efficientnet_maps, (40, 112, 320, 1280)),
}
"""Plain networks by name."""

BACKBONES = tuple(name for plain in ARCHITECTURES for name in (plain, ANTIALIASED + plain))
"""Every name that `build_backbone` knows."""


class Backbone(nn.Module):
    """A network as a feature extractor.

    Attributes:
        name: from the table.
        network: the torchvision network, classifier included.
        stage_dims: dimension of the features after each stage.
    """

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        self.name, self.network = name, network
        self._architecture = ARCHITECTURES[name.removeprefix(ANTIALIASED)]

    @property
    def stage_dims(self) -> tuple[int, ...]:
        return self._architecture.stage_dims

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features after each stage: float [n, D_stage] each, for images [n, 3, S, S]."""
        maps = self._architecture.stage_maps(self.network, images)
        return tuple(stage.mean(dim=(2, 3)) for stage in maps)

    def embed(self, images: Tensor) -> Tensor:
        """Features [n, D] of images [n, 3, S, S]: the last stage."""
        return self.stages(images)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Scores [n, classes] of the classifier that the backbone was trained with."""
        scores: Tensor = self.network(images)
        return scores

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Load a state dict of the network, torchvision's published ones included.

        Raises:
            InputError: a name or a shape differs.
        """
        own = self.network.state_dict()
        names = sorted(own.keys() ^ weights.keys())
        shapes = [
            name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape
        ]
        if names or shapes:
            faults = [f"{name} ({'missing' if name in own else 'unknown'})" for name in names]
            faults += [
                f"{name} ({list(weights[name].shape)}, not {list(own[name].shape)})"
                for name in shapes
            ]
            more = ", …" if len(faults) > 3 else ""
            raise InputError(
                f"{len(faults)} of the weights do not fit: {', '.join(faults[:3])}{more}.",
                f"backbone {self.name}",
                "Name the backbone that these weights belong to.",
            )
        self.network.load_state_dict(dict(weights))


def build_backbone(name: str, classes: int, seed: int) -> Backbone:
    """A freshly initialised backbone.

    Args:
        name: from the table, e.g. "aa_resnet18".
        classes: outputs of its classifier.
        seed: of the initial weights. A network and its anti-aliased variant start alike.

    Raises:
        InputError: no backbone has this name.
    """
    if name not in BACKBONES:
        raise unknown_name("backbone", name, BACKBONES)
    plain = name.removeprefix(ANTIALIASED)
    with torch.random.fork_rng(devices=[]):  # torchvision initialises from the global generator
        torch.manual_seed(seed)
        network = ARCHITECTURES[plain].build(classes)
    if name.startswith(ANTIALIASED):
        antialias(network)
    return Backbone(name, network)
