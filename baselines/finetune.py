"""Fine-tuning a network that was trained to classify, with a new layer for each episode."""

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.batch_norm import Rule, share_moments
from baselines.learner import Learner, pool
from baselines.method import Method
from fewshot.backbones import Backbone
from fewshot.heads.base import check_setting
from fewshot.heads.geometry import unit
from fewshot.heads.nearest import benchmark_unit

DIRECTION, LAYER, BIAS = 0.05, 0.1, 0.1
"""Deviations of a new layer's weights with and without weight norm, and its bias without. Source:
facts, sections 5.3 and 5.5."""


class NewLayer(nn.Module):
    """The layer of a new episode: linear or cosine, with or without weight norm.

    Drawn from torch's global generator.

    Args:
        features: D.
        way: number of classes.
        settings: of the method.
    """

    def __init__(self, features: int, way: int, settings: "BenchmarkFinetune") -> None:
        super().__init__()
        self.settings = settings
        self.weight = nn.Parameter(torch.empty(way, features))
        if settings.weight_norm:
            nn.init.normal_(self.weight, std=DIRECTION)
            self.length = nn.Parameter(torch.ones(way))
        else:
            nn.init.trunc_normal_(self.weight, std=LAYER, a=-2 * LAYER, b=2 * LAYER)
        if settings.classifier == "linear":
            start = 0.0 if settings.weight_norm else BIAS
            self.bias = nn.Parameter(torch.full((way,), start))

    def forward(self, features: Tensor) -> Tensor:
        """Scores `[n, way]` of features `[n, D]`."""
        cosine = self.settings.classifier == "cosine"
        if self.settings.weight_norm:
            weight = self.length[:, None] * unit(self.weight)
        else:
            weight = benchmark_unit(self.weight) if cosine else self.weight
        if cosine:
            return self.settings.multiplier * (benchmark_unit(features) @ weight.mT)
        return functional.linear(features, weight, self.bias)


class FinetuneLearner(Learner):
    """Scores are those of a new layer, tuned on the support set with a copy of the network.

    Args:
        backbone: as for `Learner`.
        settings: of the method.
    """

    needs_gradients = True

    def __init__(self, backbone: Backbone, settings: "BenchmarkFinetune") -> None:
        super().__init__(backbone, settings.batch_norm)
        self.settings = settings

    def forward(self, support: Tensor, labels: Tensor, query: Tensor, way: int) -> Tensor:
        settings = self.settings
        tuned = copy.deepcopy(self.backbone).requires_grad_(settings.layers == "all")
        moments = share_moments(tuned, settings.batch_norm)
        first = pool(tuned.maps(support), self.flattens).detach()
        layer = NewLayer(first.shape[1], way, settings).to(first)
        learning = [p for p in [*tuned.parameters(), *layer.parameters()] if p.requires_grad]
        adam = torch.optim.Adam(learning, lr=settings.rate)
        for _ in range(settings.steps):
            adam.zero_grad()
            alone = settings.layers == "head"
            features = first if alone else pool(tuned.maps(support), self.flattens)
            loss = functional.cross_entropy(layer(features), labels, reduction=settings.loss)
            torch.autograd.backward(loss)
            adam.step()
        with torch.no_grad(), moments.of(len(support), kept=False):
            features = pool(tuned.maps(torch.cat([support, query])), self.flattens)
            scores: Tensor = layer(features[len(support) :])
        return scores


@dataclass(frozen=True)
class BenchmarkFinetune(Method):
    """The benchmark's Finetune: a new layer and the whole network, tuned by Adam on the support.

    As published, it tunes with batch norm by the support batch and then normalises the queries
    by their own moments, which makes it transductive; losses are summed over the images, and the
    layer has weight norm and begins at random.

    Source: Triantafillou et al. 2020, best configurations (facts, sections 5.3 and 5.4).

    Attributes:
        layers: `all`, or `head`: the new layer alone.
        steps: of Adam, on the whole support set.
        rate: learning rate.
        loss: of the images of the support set: their `sum`, or their `mean`.
        classifier: `linear`, or `cosine`, without bias.
        weight_norm: whether length and direction of the layer's weights are tuned apart.
        multiplier: of the cosines.
    """

    name: ClassVar[str] = "benchmark_finetune"
    learns_from: ClassVar[Literal["episodes", "images"]] = "images"
    batch_norm: Rule = "transductive"
    layers: Literal["all", "head"] = "all"
    steps: int = 200
    rate: float = 0.01
    loss: Literal["sum", "mean"] = "sum"
    classifier: Literal["linear", "cosine"] = "linear"
    weight_norm: bool = True
    multiplier: float = 10.0

    def __post_init__(self) -> None:
        check_setting(self.steps >= 0, self, "steps is a count, from 0")
        check_setting(self.rate > 0, self, "rate is positive")
        check_setting(self.multiplier > 0, self, "multiplier is positive")

    @property
    def method(self) -> str:
        """`finetune`."""
        return "finetune"

    def learner(self, backbone: Backbone, image_size: int) -> Learner:
        return FinetuneLearner(backbone, self)
