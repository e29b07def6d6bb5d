"""The classifier at the end of a network: found, made cosine, made linear again."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from episodes.faults import InputError
from fewshot.backbones import Backbone

FIRST_SCALE = 10.0
EPSILON = 1e-12


class CosineClassifier(nn.Linear):
    """Scores are scaled cosines of features and class weights, as in SUR (facts, section 4).

    Weights start as N(0, sqrt(2 / classes)), the learned scale as 10.
    """

    def __init__(self, features: int, classes: int, seed: int) -> None:
        super().__init__(features, classes, bias=False)
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.weight.normal_(0.0, math.sqrt(2 / classes), generator=generator)

    def forward(self, features: Tensor) -> Tensor:
        """[n, classes] scores of features [n, D]."""
        directions = functional.normalize(self.weight, dim=1, eps=EPSILON)
        unit = functional.normalize(features, dim=1, eps=EPSILON)
        return self.scale * functional.linear(unit, directions)

    def linear(self) -> nn.Linear:
        """A plain classifier that ranks the classes of every image alike."""
        plain = nn.Linear(self.in_features, self.out_features)
        with torch.no_grad():
            directions = functional.normalize(self.weight, dim=1, eps=EPSILON)
            plain.weight.copy_(self.scale * directions)
            plain.bias.zero_()
        return plain


def find_classifier(backbone: Backbone) -> tuple[str, nn.Linear]:
    """Name in the network, and module, of the last linear layer.

    Raises:
        InputError: the network has none.
    """
    found = [
        (name, module)
        for name, module in backbone.network.named_modules()
        if isinstance(module, nn.Linear)
    ]
    if not found:
        raise InputError("ends in no linear layer.", f"backbone {backbone.name}")
    return found[-1]


def make_cosine(backbone: Backbone, seed: int) -> None:
    """Replace the classifier by a cosine classifier of the same size, freshly drawn."""
    name, old = find_classifier(backbone)
    new = CosineClassifier(old.in_features, old.out_features, seed)
    backbone.network.set_submodule(name, new)


def make_linear(backbone: Backbone) -> None:
    """Replace a cosine classifier, which is for training only, by its linear form."""
    name, old = find_classifier(backbone)
    if isinstance(old, CosineClassifier):
        backbone.network.set_submodule(name, old.linear().to(old.weight.device))
