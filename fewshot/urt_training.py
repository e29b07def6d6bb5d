"""Training URT's attention on episodes of training classes, from stored features.

Half of the episodes are ImageNet's where it is among the sources, the others are drawn from the
rest alike, as published; which source an episode is from is drawn by its number.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from episodes import EpisodePlan, EpisodeReader
from episodes.mixture import EpisodeMixture
from fewshot.backbones import Backbone
from fewshot.features import FeatureStore, Shelf
from fewshot.heads import Episode
from fewshot.heads.urt import Attention, UrtRecipe, train_attention

WINDOW = 100
"""Episodes whose images are embedded together."""
LARGEST = "ilsvrc_2012"
"""The source of half of the episodes."""


def mix_sources(readers: Sequence[EpisodeReader], seed: int) -> EpisodeMixture:
    """The published mixture of these sources."""
    others = [reader.images.spec.name != LARGEST for reader in readers]
    weights = [1.0 if other else float(max(1, sum(others))) for other in others]
    return EpisodeMixture(readers, weights, seed)


def train_urt(
    readers: Sequence[EpisodeReader],
    backbones: Sequence[Backbone],
    recipe: UrtRecipe,
    device: torch.device,
    shelf: Shelf,
    workers: int = 0,
    progress: Callable[[int, int, float], None] = lambda step, total, loss: None,
) -> Attention:
    """Attention over these backbones, trained on episodes of these sources.

    Args:
        readers: of training classes.
        backbones: the extractors, in evaluation mode, on the device.
        recipe: how.
        device: where everything is computed.
        shelf: where features are kept.
        workers: processes that read images ahead.
        progress: called with steps done, steps in all and the loss.

    Raises:
        InputError: an image cannot be read, or the extractors do not go together.
    """
    mixture = mix_sources(readers, recipe.seed)
    stores = {
        reader.images.spec.name: FeatureStore(
            reader.images, backbones, stages=False, device=device, workers=workers, shelf=shelf
        )
        for reader in readers
    }

    def episode(plan: EpisodePlan) -> tuple[Episode, Tensor]:
        store = stores[plan.source]
        support = store.look_up(plan.support_class_ids, plan.support_images)
        query = store.look_up(plan.query_class_ids, plan.query_images)
        labels, truth = (
            torch.tensor(part, device=device) for part in (plan.support_labels, plan.query_labels)
        )
        parts = [[part.to(device) for part in group] for group in (support, query)]
        return Episode(parts[0], labels, plan.way, parts[1], torch.Generator()), truth

    def episodes() -> Iterator[tuple[Episode, Tensor]]:
        for start in range(0, recipe.episodes, WINDOW):
            stop = min(start + WINDOW, recipe.episodes)
            plans = [mixture.plan(number) for number in range(start, stop)]
            for name, store in stores.items():
                store.embed([plan for plan in plans if plan.source == name])
            yield from map(episode, plans)

    try:
        return train_attention(episodes(), recipe, progress)
    finally:
        for store in stores.values():
            store.close()
