"""Tuning a copy of the backbone on the support images of one episode.

The backbone that is given stays as it is: a head works on a deep copy, in evaluation mode, and
drops it with the episode. Memory does not grow with the number of shots: the gradient of a loss
on all features is passed back through the network a few images at a time.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from episodes.faults import InputError
from fewshot.heads.base import Head, ImagePredictor, check_labels

CHUNK = 32
"""Images per forward pass: bounds the memory, changes nothing else."""

Embed = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TuningHead(Head):
    """A head that tunes a copy of the backbone for each episode."""

    @property
    def adapts_backbone(self) -> bool:
        return True

    def tune(
        self, network: nn.Module, images: Tensor, labels: Tensor, way: int, draw: torch.Generator
    ) -> ImagePredictor:
        """Tune a network that belongs to this episode; called with gradients enabled.

        Args:
            network: in evaluation mode; `embedder(network)` embeds images.
            images: `[N, 3, S, S]`.
            labels: int64 `[N]` in 0..way-1.
            way: number of classes.
            draw: the only source of randomness, on the CPU.
        """
        raise NotImplementedError

    def fit_backbone(
        self,
        backbone: nn.Module,
        images: Tensor,
        labels: Tensor,
        way: int,
        generator: torch.Generator,
    ) -> ImagePredictor:
        check_labels(labels, len(images), way)
        embedder(backbone)
        with torch.inference_mode(False), torch.enable_grad():
            network = copy.deepcopy(backbone).eval().requires_grad_(True)
            predict = self.tune(network, images.clone(), labels.long().clone(), way, generator)
        network.zero_grad(set_to_none=True)

        def scores(query: Tensor) -> Tensor:
            with torch.no_grad():
                return predict(query).to(query.dtype)

        return scores


def embedder(network: nn.Module) -> Embed:
    """The function of a backbone from images `[n, 3, S, S]` to features `[n, D]`.

    Raises:
        InputError: it has none.
    """
    if not callable(getattr(network, "embed", None)):
        raise InputError("the backbone has no `embed` method.", type(network).__name__)
    return cast(Embed, network.embed)


def embed_all(network: nn.Module, images: Tensor) -> Tensor:
    """Features of any number of images, without gradients."""
    embed = embedder(network)
    with torch.no_grad():
        return torch.cat([embed(part) for part in images.split(CHUNK)])


def backward(network: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor]) -> None:
    """Add the gradient of a loss on the features of all images to the parameters it depends on.

    Args:
        network: whose parameters may need gradients.
        images: `[N, 3, S, S]`; embedded once without and once with gradients if they are many.
        loss: from features `[N, D]` to a number.
    """
    embed = embedder(network)
    if len(images) <= CHUNK:
        loss(embed(images)).backward()
        return
    features = embed_all(network, images).requires_grad_(True)
    loss(features).backward()
    assert features.grad is not None
    for part, gradient in zip(images.split(CHUNK), features.grad.split(CHUNK), strict=True):
        embed(part).backward(gradient)
