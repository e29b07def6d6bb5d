"""Fine-tuning: a new linear layer on frozen features, or the layer and the whole backbone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot.heads.base import Features, Head, ImagePredictor, Predictor, check_setting
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Support
from fewshot.heads.cross_entropy import SupportLoss
from fewshot.heads.descent import Adam, descend
from fewshot.heads.geometry import COSINE_SCALE, class_means, unit
from fewshot.heads.layer import prototype_layer, with_bias
from fewshot.heads.tuning import CHUNK, TuningHead, embed_all, embedder


@dataclass(frozen=True)
class Finetune(TuningHead, EpisodeHead):
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
        fit = Head.fit if self.adapts_backbone else EpisodeHead.fit
        return fit(self, support, labels, way, generator)

    def fit_backbone(
        self,
        backbone: nn.Module,
        images: Tensor,
        labels: Tensor,
        way: int,
        generator: torch.Generator,
    ) -> ImagePredictor:
        fit = TuningHead.fit_backbone if self.adapts_backbone else Head.fit_backbone
        return fit(self, backbone, images, labels, way, generator)

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        inputs = self.layer_input(support.features[0])
        start = inputs.new_zeros(len(inputs), support.members.shape[2], inputs.shape[2])
        loss = SupportLoss(inputs, support)
        weights = descend(start, loss.slope, Adam(self.lr), self.steps)
        return lambda queries: self.layer_input(queries.features[0]) @ weights.mT

    def tune(
        self, network: nn.Module, images: Tensor, labels: Tensor, way: int, draw: torch.Generator
    ) -> ImagePredictor:
        width = self.layer_input(embed_all(network, images[:1]))
        layer = width.new_zeros(width.shape[1], way, requires_grad=True)
        groups = [
            {"params": list(network.parameters()), "lr": self.backbone_lr},
            {"params": [layer], "lr": self.lr},
        ]
        adam = torch.optim.Adam(groups)
        for _ in range(self.steps):
            adam.zero_grad()
            backward_through_layer(network, images, labels, self.layer_input, layer)
            adam.step()
        return lambda query: self.layer_input(embed_all(network, query)) @ layer

    def layer_input(self, features: Tensor) -> Tensor:
        """Features `[..., D]` as the layer sees them, `[..., D + 1]`, the last being the bias."""
        return with_bias(COSINE_SCALE * unit(features) if self.normalise else features)


@dataclass(frozen=True)
class ProtoMaml(TuningHead):
    """Plain gradient descent on all layers, from a linear layer that scores like prototypes.

    The layer starts as 2 c and -|c|^2 (class means of raw features); every weight but the scales
    and offsets of batch norm is tuned with it, at one rate, first order. Batch norm keeps its
    stored statistics, where the benchmark normalises by the moments of the support set.

    Source: fo-Proto-MAML of Triantafillou et al. 2020; rate and steps of its ImageNet
    configuration. There the initial weights are meta-learned.

    Attributes:
        steps: of gradient descent, on the whole support set.
        lr: learning rate.
    """

    name: ClassVar[str] = "proto_maml"
    steps: int = 6
    lr: float = 5.435e-3

    def __post_init__(self) -> None:
        check_setting(self.steps >= 0, self, "steps is a count, 0 or more")
        check_setting(self.lr > 0, self, "lr is positive")

    def tune(
        self, network: nn.Module, images: Tensor, labels: Tensor, way: int, draw: torch.Generator
    ) -> ImagePredictor:
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.requires_grad_(False)
        features = embed_all(network, images)
        prototypes = class_means(features, functional.one_hot(labels, way).to(features.dtype))
        layer = prototype_layer(prototypes).requires_grad_(True)
        tuned = [p for p in network.parameters() if p.requires_grad]
        descent = torch.optim.SGD([*tuned, layer], lr=self.lr)
        for _ in range(self.steps):
            descent.zero_grad()
            backward_through_layer(network, images, labels, with_bias, layer)
            descent.step()
        return lambda query: with_bias(embed_all(network, query)) @ layer


def backward_through_layer(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    layer_input: Callable[[Tensor], Tensor],
    layer: Tensor,
) -> None:
    """Add the gradient of the mean cross-entropy of a layer's scores to all it depends on.

    Each image counts by itself, so the gradients of a few images at a time are summed.
    """
    embed = embedder(network)
    for part, target in zip(images.split(CHUNK), labels.split(CHUNK), strict=True):
        scores = layer_input(embed(part)) @ layer
        loss = functional.cross_entropy(scores, target, reduction="sum") / len(images)
        loss.backward()
