"""A linear layer tuned on frozen features by a few steps of gradient descent."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fewshot.heads.base import check_setting
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Support
from fewshot.heads.cross_entropy import SupportLoss
from fewshot.heads.descent import Adam, descend
from fewshot.heads.geometry import COSINE_SCALE, class_means, cosines, unit


def with_bias(features: Tensor) -> Tensor:
    """Features `[..., N, D]` as a layer with bias sees them, `[..., N, D + 1]`: ones at the end."""
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)


def layer_gradient(weights: Tensor, inputs: Tensor, support: Support) -> Tensor:
    """Gradient `[E, D, W]` of the mean cross-entropy of the support items for a linear layer.

    In closed form, X^T (softmax(XW) - Y) / N: about five times faster than building a graph.

    Args:
        weights: `[E, D, W]`.
        inputs: `[E, N, D]`.
        support: whose labels these are.
    """
    return inputs.mT @ support.score_gradient(inputs @ weights)


def prototype_layer(prototypes: Tensor) -> Tensor:
    """The layer `[..., D + 1, W]` that scores like prototypes `[..., W, D]`: 2 c, bias -|c|^2.

    Source: Proto-MAML, Triantafillou et al. 2020, section 3.
    """
    bias = -prototypes.square().sum(dim=-1, keepdim=True)
    return torch.cat([2 * prototypes, bias], dim=-1).mT


@dataclass(frozen=True)
class FinetuneLinear(EpisodeHead):
    """A linear layer on unit features, tuned by SGD in shuffled mini-batches.

    All weights start at one and the bias at zero, so no class is preferred. Momentum 0.9, and a
    learning rate that falls to zero along a cosine, set anew at every step.

    Source: the "fc" head of CloserLookAgainFewShot (Luo et al. 2023) with a frozen backbone. It
    searches {10, 20, 30} epochs at {0.02, 0.1, 0.5}; on frozen features the most of both is best.

    Attributes:
        epochs: passes over the support set.
        lr: learning rate at the start.
        batch: support items per step.
    """

    name: ClassVar[str] = "finetune_linear"
    epochs: int = 30
    lr: float = 0.5
    batch: int = 100

    def __post_init__(self) -> None:
        check_setting(self.epochs >= 0 and self.batch >= 1, self, "epochs and batch are counts")
        check_setting(self.lr > 0, self, "lr is positive")

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        layers = [self.tune(support, episode) for episode in range(len(support.members))]
        weights = torch.stack(layers)
        return lambda queries: with_bias(unit(queries.features[0])) @ weights

    def tune(self, support: Support, episode: int) -> Tensor:
        """The layer `[D + 1, W]` of one episode, whose mini-batches are its own."""
        real = support.items[episode]
        inputs = with_bias(unit(support.features[0][episode, real]))
        members = support.members[episode, real]
        present = support.shots[episode] > 0
        count = len(inputs)
        steps = self.epochs * math.ceil(count / self.batch)
        weights = inputs.new_ones(inputs.shape[1], len(present))
        weights[-1] = 0
        momentum, step = torch.zeros_like(weights), 0
        for _ in range(self.epochs):
            order = torch.randperm(count, generator=support.generators[episode])
            for chosen in order.to(inputs.device).split(self.batch):
                scores = (inputs[chosen] @ weights).masked_fill(~present, -torch.inf)
                residual = scores.softmax(dim=1) - members[chosen]
                momentum = 0.9 * momentum + inputs[chosen].T @ residual / len(chosen)
                rate = 0.5 * self.lr * (1 + math.cos(math.pi * step / steps))
                weights = weights - rate * momentum
                step += 1
        return weights


@dataclass(frozen=True)
class FinetuneCosine(EpisodeHead):
    """Prototypes tuned by Adam on the cross-entropy of `temperature * cos(x, c)`.

    They start at the class means of the raw features.

    Source: the cosine classifier of Chen et al. 2019, "A Closer Look at Few-shot Classification",
    as easy-few-shot-learning fine-tunes it: 50 steps of 1e-4 at temperature 10.

    Attributes:
        steps: of Adam, on the whole support set.
        lr: learning rate.
        temperature: the factor on every cosine.
    """

    name: ClassVar[str] = "finetune_cosine"
    steps: int = 50
    lr: float = 1e-4
    temperature: float = COSINE_SCALE

    def __post_init__(self) -> None:
        check_setting(self.steps >= 0, self, "steps is a count, 0 or more")
        check_setting(self.lr > 0 and self.temperature > 0, self, "lr and temperature are positive")

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        loss = SupportLoss(unit(support.features[0]), support, self.temperature)

        def slope(prototypes: Tensor, gradient: Tensor) -> None:
            units = unit(prototypes)
            loss.slope(units, gradient)
            # The derivative of a unit vector is the part of the change across it, by its length.
            along = (gradient * units).sum(dim=2, keepdim=True)
            lengths = (prototypes * units).sum(dim=2, keepdim=True)
            gradient.sub_(along * units).div_(torch.where(lengths > 0, lengths, 1.0))

        means = class_means(support.features[0], support.members)
        prototypes = descend(means, slope, Adam(self.lr), self.steps)
        return lambda queries: self.temperature * cosines(queries.features[0], prototypes)


@dataclass(frozen=True)
class Anil(EpisodeHead):
    """MAML's inner loop on the last layer only: plain gradient descent on raw features.

    * "zero": the layer starts at zero.
    * "prototypes": it starts as Proto-MAML's, which scores like the prototypes.

    Source: Raghu et al. 2020, "Rapid Learning or Feature Reuse?"; 5 steps of 0.1 are those of
    learn2learn's example, whose initial layer is meta-learned for one number of ways.

    Attributes:
        steps: of gradient descent, on the whole support set.
        lr: learning rate.
        start: the layer before the first step.
    """

    name: ClassVar[str] = "anil"
    steps: int = 5
    lr: float = 0.1
    start: Literal["zero", "prototypes"] = "zero"

    def __post_init__(self) -> None:
        check_setting(self.steps >= 0, self, "steps is a count, 0 or more")
        check_setting(self.lr > 0, self, "lr is positive")

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        inputs = with_bias(support.features[0])
        weights = prototype_layer(class_means(support.features[0], support.members))
        if self.start == "zero":
            weights = torch.zeros_like(weights)
        for _ in range(self.steps):
            weights = weights - self.lr * layer_gradient(weights, inputs, support)
        return lambda queries: with_bias(queries.features[0]) @ weights
