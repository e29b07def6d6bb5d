"""Fine-tuning: a new linear layer on frozen features, or the layer and the whole backbone."""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from episodes.faults import InputError
from fewshot.heads.base import (
    Features,
    Head,
    ImagePredictor,
    Predictor,
    check_labels,
    check_setting,
    check_support,
)
from fewshot.heads.prototypical import COSINE_SCALE, at_least_float32, unit

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's own defaults, used by all sources below
CHUNK = 32  # images per forward pass: bounds the memory, changes nothing else


@dataclass(frozen=True)
class Finetune(Head):
    """A linear classifier with bias, tuned by Adam on the cross-entropy of the support set.

    Full-batch steps, no weight decay, no augmentation. The layer starts at zero, so the result
    depends on neither a seed nor the numbering of the classes.

    * "head" tunes the layer on frozen features.
    * "all" tunes every backbone weight with it. Batch norm keeps its stored statistics, so each
      query is scored by itself. The benchmark's own Finetune normalises query images by the
      statistics of the query batch, which makes it transductive; this one is inductive.

    Source: the frozen-feature Finetune of pytorch-meta-dataset (Adam 0.01, 99 steps counted as
    100, unit features, logits times 10), with a plain layer with bias where it has weight norm:
    a plain layer can start at zero. The benchmark's own baseline (Triantafillou et al. 2020)
    tunes all layers, on raw features, with Adam 0.01 and 200 steps. `backbone_lr` is instead
    the smallest rate P>M>F (Hu et al. 2022) searches for tuning all weights with Adam and
    stored statistics, since 0.01 relies on batch statistics that re-scale every layer.

    Attributes:
        layers: what is tuned.
        steps: Adam steps.
        lr: learning rate of the linear layer.
        backbone_lr: learning rate of the backbone; no effect with layers=head.
        normalise: whether features are scaled to length 10 before the layer, or left raw.
    """

    name: ClassVar[str] = "finetune"
    layers: Literal["head", "all"] = "head"
    steps: int = 100
    lr: float = 0.01
    backbone_lr: float = 1e-4
    normalise: bool = True

    def __post_init__(self) -> None:
        check_setting(self.steps >= 1, self, "steps is a count, 1 or more")
        check_setting(self.lr > 0 and self.backbone_lr > 0, self, "learning rates are positive")

    @property
    def adapts_backbone(self) -> bool:
        return self.layers == "all"

    def fit(
        self, support: Features, labels: Tensor, way: int, generator: torch.Generator
    ) -> Predictor:
        if self.adapts_backbone:
            return super().fit(support, labels, way, generator)
        check_support(support, labels, way, self)
        weights = self.tune_layer(self.layer_input(support[0]), labels, way)

        def predict(query: Features) -> Tensor:
            return (self.layer_input(query[0]) @ weights).to(query[0].dtype)

        return predict

    def fit_backbone(
        self,
        backbone: nn.Module,
        images: Tensor,
        labels: Tensor,
        way: int,
        generator: torch.Generator,
    ) -> ImagePredictor:
        if not self.adapts_backbone:
            return super().fit_backbone(backbone, images, labels, way, generator)
        check_labels(labels, len(images), way)
        if not callable(getattr(backbone, "embed", None)):
            raise InputError("the backbone has no `embed` method.", type(backbone).__name__)
        with torch.inference_mode(False), torch.enable_grad():
            tuned = copy.deepcopy(backbone).eval().requires_grad_(True)
            embed = cast(Callable[[Tensor], Tensor], tuned.embed)
            weights = self.tune_all(tuned.parameters(), embed, images.clone(), labels.clone(), way)
        tuned.zero_grad(set_to_none=True)

        def predict(query: Tensor) -> Tensor:
            with torch.no_grad():
                scores = [self.layer_input(embed(part)) @ weights for part in query.split(CHUNK)]
            return torch.cat(scores).to(query.dtype)

        return predict

    def layer_input(self, features: Tensor) -> Tensor:
        """Features `[N, D]` as the layer sees them, `[N, D + 1]`: the last column is the bias."""
        features = at_least_float32(features)
        features = COSINE_SCALE * unit(features) if self.normalise else features
        return torch.cat([features, features.new_ones(len(features), 1)], dim=1)

    def tune_layer(self, inputs: Tensor, labels: Tensor, way: int) -> Tensor:
        """The linear layer `[D + 1, way]` tuned on layer inputs `[N, D + 1]`.

        Adam on the gradient in closed form, X^T (softmax(XW) - Y) / N: about five times faster
        than building a graph for one layer.
        """
        targets = functional.one_hot(labels.long(), way).to(inputs.dtype)
        weights = inputs.new_zeros(inputs.shape[1], way)
        mean, square = torch.zeros_like(weights), torch.zeros_like(weights)
        for step in range(1, self.steps + 1):
            residual = (inputs @ weights).softmax(dim=1) - targets
            gradient = inputs.T @ residual / len(inputs)
            mean.lerp_(gradient, 1 - BETA1)
            square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            spread = (square.sqrt() / math.sqrt(1 - BETA2**step)).add_(EPSILON)
            weights.addcdiv_(mean, spread, value=-self.lr / (1 - BETA1**step))
        return weights

    def tune_all(
        self,
        parameters: Iterable[nn.Parameter],
        embed: Callable[[Tensor], Tensor],
        images: Tensor,
        labels: Tensor,
        way: int,
    ) -> Tensor:
        """Tune the parameters in place, and a linear layer `[D + 1, way]`, which is returned.

        The gradient of the whole support set is summed over chunks, so memory does not grow
        with the number of shots.
        """
        with torch.no_grad():
            width = self.layer_input(embed(images[:1]))
        weights = width.new_zeros(width.shape[1], way, requires_grad=True)
        groups = [
            {"params": list(parameters), "lr": self.backbone_lr},
            {"params": [weights], "lr": self.lr},
        ]
        adam = torch.optim.Adam(groups, betas=(BETA1, BETA2), eps=EPSILON)
        for _ in range(self.steps):
            adam.zero_grad(set_to_none=True)
            for part, target in zip(images.split(CHUNK), labels.long().split(CHUNK), strict=True):
                scores = self.layer_input(embed(part)) @ weights
                loss = functional.cross_entropy(scores, target, reduction="sum") / len(images)
                torch.autograd.backward(loss)
            adam.step()
        return weights.detach()
