"""FLUTE: only the scales and offsets of batch normalisation are tuned.

Source: Triantafillou et al. 2021, "Learning a Universal Template for Few-shot Dataset
Generalization", and its released code for the constants.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from episodes.faults import InputError
from fewshot.heads.base import ImagePredictor, check_setting
from fewshot.heads.geometry import class_means, cosines
from fewshot.heads.tuning import TuningHead, backward, embed_all, embedder

Norms = list[nn.BatchNorm2d]


@dataclass(frozen=True)
class Flute(TuningHead):
    """Scales and offsets tuned by Adam on the cross-entropy of plain cosines (temperature 1).

    FLUTE starts from a mixture of the scales and offsets of eight sources; with one backbone, from
    its own ("own"; the paper's variant that starts from ImageNet's) or from 1 and 0 ("scratch",
    published with `steps=4,lr=0.005`).

    Attributes:
        steps: of Adam, on the whole support set.
        lr: learning rate.
        start: the scales and offsets before the first step.
        statistics: what batch norm normalises by. "support": support images by the moments of
            their own batch, and queries by the same (the published way; queries do not meet, but
            memory grows with the support set). "stored": by those of training.
    """

    name: ClassVar[str] = "flute"
    steps: int = 2
    lr: float = 1e-3
    start: Literal["own", "scratch"] = "own"
    statistics: Literal["support", "stored"] = "support"

    def __post_init__(self) -> None:
        check_setting(self.steps >= 0, self, "steps is a count, 0 or more")
        check_setting(self.lr > 0, self, "lr is positive")

    def tune(
        self, network: nn.Module, images: Tensor, labels: Tensor, way: int, draw: torch.Generator
    ) -> ImagePredictor:
        norms: Norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
        if not norms:
            raise InputError("has no batch normalisation to tune.", type(network).__name__)
        network.requires_grad_(False)
        for norm in norms:
            norm.requires_grad_(True)
            if self.start == "scratch":
                nn.init.ones_(norm.weight)
                nn.init.zeros_(norm.bias)
        adam = torch.optim.Adam([p for norm in norms for p in norm.parameters()], lr=self.lr)

        def scores(items: Tensor, support: Tensor) -> Tensor:
            members = functional.one_hot(labels, way).to(support.dtype)
            return cosines(items, class_means(support, members))

        def loss(features: Tensor) -> Tensor:
            return functional.cross_entropy(scores(features, features), labels)

        for _ in range(self.steps):
            adam.zero_grad()
            if self.statistics == "stored":
                backward(network, images, loss)
            else:
                for norm in norms:
                    norm.train()
                loss(embedder(network)(images)).backward()
            adam.step()
        if self.statistics == "support":
            keep_moments(network, norms, images)
        support = embed_all(network, images)
        return lambda query: scores(embed_all(network, query), support)


def keep_moments(network: nn.Module, norms: Norms, images: Tensor) -> None:
    """Make the moments of these images, as one batch, the statistics that are stored."""

    def store(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
        norm.running_mean, norm.running_var = mean, variance

    hooks = []
    for norm in norms:
        norm.eval()
        hooks.append(norm.register_forward_pre_hook(store))
    with torch.no_grad():
        embedder(network)(images)
    for hook in hooks:
        hook.remove()
