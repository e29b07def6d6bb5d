"""The table of backbones: standard networks, any of timm and torchvision, each also anti-aliased.

A backbone is a network with its classifier, parameter names unchanged, seen as a feature
extractor: global averages of the maps after each stage. To add one: its name in
`fewshot/backbone_name.py`; a network that is not torchvision's of that name, or has other stages
than its last four map sizes, gets a line in `BUILDERS` or `STAGES`.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import resnet18

from episodes.faults import InputError, nearest
from fewshot.antialiasing import antialias
from fewshot.backbone_name import PLAIN, BackboneName
from fewshot.image_size import check_size
from fewshot.stages import find_stages, stage_maps

TIMM_COMMAND = "pip install 'timm>=1.0.20'"


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


def _four_layer_convnet(classes: int) -> nn.Module:
    """The benchmark's small network: four times convolution, batch norm, ReLU, max pooling.

    Its classifier sees averages of the last maps, so that images may be of any size; the
    benchmark's sees the maps as they are. Source: facts, section 5.5.
    """
    layers: list[nn.Module] = []
    for channels in (3, 64, 64, 64):
        convolution = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        nn.init.trunc_normal_(convolution.weight, std=0.1, a=-0.2, b=0.2)
        layers.append(nn.Sequential(convolution, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)))
    average = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts = OrderedDict(layers=nn.Sequential(*layers), average=average, fc=nn.Linear(64, classes))
    return nn.Sequential(parts)


BUILDERS: dict[str, Callable[[int], nn.Module]] = {
    "four_layer_convnet": _four_layer_convnet,
    "resnet18_sur": _resnet18_sur,
}
"""Networks that are not torchvision's under their name: number of classes → network."""

STAGES: dict[str, tuple[str, ...]] = {
    # The ends of strides 8, 16 and 32, and the last convolution.
    f"efficientnet_b{size}": ("features.3", "features.5", "features.7", "features.8")
    for size in range(5)
}
"""Modules whose results are the stages, where they are not the last four map sizes."""

BACKBONES = tuple(name for plain in PLAIN for name in (plain, f"aa_{plain}"))
"""Every network of the table, plain and anti-aliased by default."""


def build_network(plain: str, classes: int) -> nn.Module:
    """A plain network, initialised from the global generator.

    Args:
        plain: of the table, or "timm/<name>" or "torchvision/<name>".
        classes: outputs of its classifier.

    Raises:
        InputError: the library has no such network, or is not installed.
    """
    if plain in BUILDERS:
        return BUILDERS[plain](classes)
    library, _, name = plain.rpartition("/")
    network: nn.Module
    if library == "timm":
        try:
            import timm
        except ImportError as error:
            raise InputError("timm is not installed.", plain, f"Run: {TIMM_COMMAND}") from error
        if not timm.is_model(name):
            raise _no_such("timm", name, timm.list_models())
        network = timm.create_model(name, num_classes=classes)
        return network
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise _no_such("torchvision", name, known)
    network = torchvision.models.get_model(name, weights=None, num_classes=classes)
    return network


def _no_such(library: str, name: str, known: Sequence[str]) -> InputError:
    guess = nearest(name, known)
    remedy = f"Did you mean '{library}/{guess}'?" if guess else f"Look at {library}.list_models()."
    return InputError(f"{library} has no network '{name}'.", remedy=remedy)


def build_bare_network(name: BackboneName, classes: int = 1000, seed: int = 0) -> nn.Module:
    """A freshly initialised network, anti-aliased if its name says so.

    Raises:
        InputError: there is no such network, or it cannot be anti-aliased so.
    """
    with torch.random.fork_rng(devices=[]):  # networks are initialised from the global generator
        torch.manual_seed(seed)
        network = build_network(name.plain, classes)
    if name.antialiased:
        antialias(network, name.placement, name.filter, name.activation)
    return network


@dataclass(frozen=True)
class Learned:
    """What was learned beside a network, to classify episodes with it.

    Attributes:
        method: its name.
        settings: of the method, as JSON keeps them.
        weights: by name; some methods have none.
    """

    method: str
    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]


class Backbone(nn.Module):
    """A network as a feature extractor.

    Attributes:
        name: see `fewshot/backbone_name.py`.
        network: the network, classifier included.
        stage_dims: dimension of the features after each stage.
        learned: what a method that learns from episodes learned beside the network, or None.
    """

    learned: Learned | None = None

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        self.name, self.network = name, network
        stages = find_stages(network, STAGES.get(BackboneName.parse(name).plain))
        self.stage_paths, self.stage_dims = tuple(stages), tuple(stages.values())

    def maps(self, images: Tensor) -> Tensor:
        """The maps [n, D, h, w] of the last stage, for images [n, 3, S, S]."""
        return stage_maps(self.network, self.stage_paths[-1:], images)[0]

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features after each stage: float [n, D_stage] each, for images [n, 3, S, S]."""
        maps = stage_maps(self.network, self.stage_paths, images)
        return tuple(stage.mean(dim=(2, 3)) for stage in maps)

    def embed(self, images: Tensor) -> Tensor:
        """Features [n, D] of images [n, 3, S, S]: the last stage."""
        return self.stages(images)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Scores [n, classes] of the classifier that the backbone was trained with."""
        scores: Tensor = self.network(images)
        return scores

    def check_size(self, size: int) -> None:
        """Run it once at an image size, before work that would fail late.

        Raises:
            InputError: it cannot be run; a size that works is named.
        """
        check_size(self.network, size, self.name)

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
        own.update(weights)  # keeps the versions of the modules, which MNASNet asks for
        self.network.load_state_dict(own)


def build_backbone(name: str, classes: int, seed: int) -> Backbone:
    """A freshly initialised backbone.

    Args:
        name: e.g. "aa_resnet18"; see `fewshot/backbone_name.py`.
        classes: outputs of its classifier.
        seed: of the initial weights. A network and its anti-aliased variant start alike.

    Raises:
        InputError: no backbone has this name, or it cannot be anti-aliased so.
    """
    parsed = BackboneName.parse(name)
    return Backbone(str(parsed), build_bare_network(parsed, classes, seed))
