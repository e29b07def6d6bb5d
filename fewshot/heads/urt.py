"""URT: a trained attention that weighs feature extractors by the support set.

Source: Liu et al. 2021, "A Universal Representation Transformer Layer for Few-Shot Image
Classification", and its released code for the constants.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from episodes.faults import InputError
from episodes.tfrecord import replacing
from fewshot.heads.base import check_support
from fewshot.heads.batch import (
    SELECTION,
    Episode,
    EpisodeHead,
    EpisodePredictor,
    Support,
    gather_queries,
    gather_support,
)
from fewshot.heads.geometry import COSINE_SCALE, class_means, cosines, unit

WIDTH = 1024
SPREAD = 1e-3
"""Deviation of the initial weights."""


class Attention(NamedTuple):
    """The parameters of `heads` attention heads over K extractors of D dimensions."""

    query_weight: Tensor  # [heads, width, K * D]
    query_bias: Tensor  # [heads, width]
    key_weight: Tensor  # [heads, width, D]
    key_bias: Tensor  # [heads, width]

    def weigh(self, prototypes: Tensor, classes: Tensor) -> Tensor:
        """How much each extractor counts: `[E, heads, K]`, summing to 1.

        Args:
            prototypes: `[E, W, K, D]` class means of unit features.
            classes: bool `[E, W]`: which classes are real.
        """
        asked = torch.einsum("hof,ewf->ehwo", self.query_weight, prototypes.flatten(2))
        asked = asked + self.query_bias[:, None]
        keys = torch.einsum("hod,ewkd->ehwko", self.key_weight, prototypes)
        keys = keys + self.key_bias[:, None, None]
        scores = torch.einsum("ehwo,ehwko->ehwk", asked, keys) / math.sqrt(prototypes.shape[3])
        real = classes[:, None, :, None]
        return (scores.softmax(dim=3) * real).sum(dim=2) / real.sum(dim=2)


def initial_attention(extractors: int, dim: int, heads: int, seed: int) -> Attention:
    """Attention before training, in float32.

    Args:
        extractors: K.
        dim: D of each.
        heads: attention heads.
        seed: of the weights.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(width: int) -> Tensor:
        return SPREAD * torch.randn(heads, WIDTH, width, generator=generator)

    def offsets(width: int) -> Tensor:
        bound = 1 / math.sqrt(width)  # PyTorch's own for a linear layer
        return bound * (2 * torch.rand(heads, WIDTH, generator=generator) - 1)

    joined = extractors * dim
    return Attention(draw(joined), offsets(joined), draw(dim), offsets(dim))


@dataclass(frozen=True)
class Urt(EpisodeHead):
    """Cosine prototypes of features mixed by trained attention.

    Needs a trained attention for these very extractors, in their order: the command `train-urt`
    makes one.

    Attributes:
        weights: path of the trained attention, a `.safetensors` file.
    """

    name: ClassVar[str] = "urt"
    extractors: ClassVar[Literal["one", "many"]] = "many"
    weights: str = "none"

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        means = unit_means(support)
        weights, prototypes = attend(load_attention(self.weights, means), means, support)
        support.told[SELECTION] = weights.mean(dim=1)
        return lambda queries: COSINE_SCALE * cosines(mix(weights, queries.features), prototypes)


def unit_means(support: Support) -> list[Tensor]:
    """Per extractor, class means `[E, W, D]` of unit features."""
    return [class_means(unit(part), support.members) for part in support.features]


def attend(
    attention: Attention, means: Sequence[Tensor], support: Support
) -> tuple[Tensor, Tensor]:
    """Weights of the extractors `[E, heads, K]`, and prototypes `[E, W, heads * D]`."""
    weights = attention.weigh(torch.stack([*means], dim=2), support.shots > 0)
    return weights, class_means(mix(weights, support.features), support.members)


def mix(weights: Tensor, features: Iterable[Tensor]) -> Tensor:
    """Per attention head the weighted sum of unit features; heads joined: `[E, N, heads * D]`."""
    units = torch.stack([unit(part) for part in features], dim=2)  # [E, N, K, D]
    return torch.einsum("ehk,enkd->enhd", weights, units).flatten(2)


@dataclass(frozen=True)
class UrtRecipe:
    """How attention is trained; the defaults are the published ones.

    Attributes:
        episodes: one step each.
        lr: of Adam at first, falling to 0 along a cosine.
        weight_decay: added to the gradient.
        heads: attention heads.
        diversity: weight of `||L^T L - I||^2`, L the weights `[K, heads]`.
        seed: of the initial weights.
    """

    episodes: int = 10_000
    lr: float = 1e-2
    weight_decay: float = 1e-5
    heads: int = 2
    diversity: float = 0.1
    seed: int = 0


def train_attention(
    episodes: Iterable[tuple[Episode, Tensor]],
    recipe: UrtRecipe,
    progress: Callable[[int, int, float], None] = lambda step, total, loss: None,
) -> Attention:
    """Train attention on episodes of training classes.

    Args:
        episodes: each with the labels `[Q]` of its queries; `recipe.episodes` of them.
        recipe: how.
        progress: called with steps done, steps in all and the loss.

    Raises:
        InputError: extractors of different dimensions, or an episode that breaks the contract.
    """
    attention: Attention | None = None
    temperature = torch.tensor(COSINE_SCALE, requires_grad=True)
    for step, (episode, truth) in enumerate(episodes):
        check_support(episode.support, episode.labels, episode.way, Urt())
        if attention is None:
            dims = same_dims(episode.support)
            made = initial_attention(len(dims), dims[0], recipe.heads, recipe.seed)
            device = episode.support[0].device
            attention = Attention(*(part.to(device).requires_grad_(True) for part in made))
            temperature = torch.tensor(COSINE_SCALE, device=device, requires_grad=True)
            adam = torch.optim.Adam(
                [*attention, temperature], lr=recipe.lr, weight_decay=recipe.weight_decay
            )
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, recipe.episodes)
        support = gather_support([episode], torch.float32)
        queries = gather_queries([episode.query], torch.float32)
        weights, prototypes = attend(attention, unit_means(support), support)
        scores = temperature * cosines(mix(weights, queries.features), prototypes)
        overlap = weights[0] @ weights[0].T - torch.eye(recipe.heads, device=weights.device)
        loss = torch.nn.functional.cross_entropy(scores[0], truth.long())
        loss = loss + recipe.diversity * overlap.square().sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        progress(step + 1, recipe.episodes, loss.item())
    if attention is None:
        raise InputError("there is no episode to train on.", "train-urt")
    return Attention(*(part.detach() for part in attention))


def same_dims(features: Iterable[Tensor]) -> list[int]:
    """The dimension of each extractor.

    Raises:
        InputError: they differ.
    """
    dims = [part.shape[-1] for part in features]
    if len(set(dims)) > 1:
        raise InputError(
            f"the extractors have {dims} dimensions, and attention mixes equal ones.",
            "head urt",
            "Give several backbones of one kind, or use sur.",
        )
    return dims


def save_attention(path: Path, attention: Attention) -> None:
    """Write attention to a `.safetensors` file, whole or not at all."""
    tensors = {name: part.contiguous().cpu() for name, part in attention._asdict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def load_attention(path: str, features: Sequence[Tensor]) -> Attention:
    """Read attention for these features, in their dtype and on their device.

    Raises:
        InputError: no file is named, it cannot be read, or it was trained for other extractors.
    """
    if path == "none":
        raise InputError(
            "needs a trained attention.",
            "head urt",
            "Train one with train-urt, and name it: urt:weights=FILE.",
        )
    dims = same_dims(features)
    try:
        with safe_open(path, framework="pt") as file:
            parts = [file.get_tensor(name) for name in Attention._fields]
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot be read: {error}.", path, "Train it again.") from error
    found = parts[0].shape[2] // parts[2].shape[2], parts[2].shape[2]
    if found != (len(dims), dims[0]):
        what = f"was trained for {found[0]} extractors of {found[1]} dimensions, not {dims}."
        raise InputError(what, path, "Give the extractors it was trained with, in their order.")
    return Attention(*(part.to(features[0]) for part in parts))
