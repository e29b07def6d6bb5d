"""The features that heads work on: each image is embedded once, however many episodes use it."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from episodes import EpisodePlan, ImageReader
from episodes.loader import load_batches
from episodes.plan import Integers
from fewshot.backbones import Backbone

BATCH_SIZE = 64
"""Images per forward pass. Every pass has this shape (the last is padded), so that an image's
features do not depend on which images share its pass."""


def embed_batch(backbone: Backbone, images: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """Features of at most `BATCH_SIZE` images after each stage, on the CPU.

    Args:
        images: float32 [n, 3, size, size] in [−1, 1].

    Returns:
        Per stage, float32 [n, D_stage].
    """
    padded = images.new_zeros(BATCH_SIZE, *images.shape[1:])
    padded[: len(images)] = images
    padded = padded.to(device, memory_format=torch.channels_last)
    with torch.inference_mode():
        return tuple(stage[: len(images)].float().cpu() for stage in backbone.stages(padded))


class FeatureStore:
    """Features of the images of one split of one source.

    Args:
        images: where they are read.
        backbones: in evaluation mode, on the device.
        stages: keep the features after every stage of each backbone, not only the last.
        device: where the backbones are.
        workers: processes that read images ahead.
    """

    def __init__(
        self,
        images: ImageReader,
        backbones: Sequence[Backbone],
        *,
        stages: bool,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self.images, self.backbones, self.stages = images, backbones, stages
        self.device, self.workers = device, workers
        self.dims = [dim for backbone in backbones for dim in self._kept(backbone.stage_dims)]
        sizes = images.spec.images_in_split(images.split)
        self._first_class = images.spec.split_classes[images.split].start
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._row = np.full(int(self._starts[-1]), -1, dtype=np.int32)
        self._features = np.empty((0, sum(self.dims)), dtype=np.float32)
        self._used = 0

    def _kept(self, per_stage: Sequence[Tensor] | Sequence[int]) -> Sequence[Tensor | int]:
        return per_stage if self.stages else per_stage[-1:]

    def _places(self, class_ids: Integers, numbers: Integers) -> Integers:
        """Position of each image among all images of the split."""
        places: Integers = self._starts[class_ids - self._first_class] + numbers
        return places

    def _wanted(self, plans: Sequence[EpisodePlan]) -> Integers:
        """Places of the images of these plans, sorted, each once."""
        parts = [
            self._places(class_ids, numbers)
            for plan in plans
            for class_ids, numbers in (
                (plan.support_class_ids, plan.support_images),
                (plan.query_class_ids, plan.query_images),
            )
        ]
        return np.unique(np.concatenate([np.empty(0, np.int64), *parts]))

    def missing(self, plans: Sequence[EpisodePlan]) -> tuple[Integers, Integers]:
        """Class ids and numbers of the images of these plans that have no features yet, sorted."""
        wanted = self._wanted(plans)
        wanted = wanted[self._row[wanted] < 0]
        classes = np.searchsorted(self._starts, wanted, side="right") - 1
        return classes + self._first_class, wanted - self._starts[classes]

    def keep_only(self, plans: Sequence[EpisodePlan]) -> None:
        """Forget the images that these plans do not use, once they are half of what is held.

        A source of millions of images hardly meets one of them twice; its features need not
        outlive the episode.
        """
        if not self._used:
            return
        wanted = self._wanted(plans)
        kept = wanted[self._row[wanted] >= 0]
        if len(kept) > self._used / 2:
            return
        self._features = self._features[self._row[kept]]
        self._row.fill(-1)
        self._row[kept] = np.arange(len(kept))
        self._used = len(kept)

    def embed(
        self,
        plans: Sequence[EpisodePlan],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Embed every image of these plans that is still missing.

        Args:
            plans: episodes of this split.
            progress: called with images done and images to do.

        Raises:
            InputError: an image cannot be read.
        """
        class_ids, numbers = self.missing(plans)
        total = len(numbers)
        self._reserve(total)
        places, done = self._places(class_ids, numbers), 0
        batches = load_batches(self.images, class_ids, numbers, BATCH_SIZE, self.workers)
        for batch in batches:
            rows = slice(self._used, self._used + len(batch))
            np.concatenate(list(self._embed(batch)), axis=1, out=self._features[rows])
            self._row[places[done : done + len(batch)]] = np.arange(rows.start, rows.stop)
            self._used, done = rows.stop, done + len(batch)
            progress(done, total)

    def _embed(self, batch: Tensor) -> Iterator[np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
        for backbone in self.backbones:
            for features in self._kept(embed_batch(backbone, batch, self.device)):
                yield features.numpy()  # type: ignore[union-attr]

    def _reserve(self, extra: int) -> None:
        needed = self._used + extra
        if needed > len(self._features):
            grown = np.empty((max(needed, self._used * 5 // 4), sum(self.dims)), dtype=np.float32)
            grown[: self._used] = self._features[: self._used]
            self._features = grown

    def look_up(self, class_ids: Integers, numbers: Integers) -> tuple[Tensor, ...]:
        """Features of images that have been embedded.

        Returns:
            One float32 [n, D] per extractor: the stages of the first backbone, then of the next;
            without `stages`, one per backbone.

        Raises:
            KeyError: an image has not been embedded.
        """
        rows = self._row[self._places(class_ids, numbers)]
        if (rows < 0).any():
            raise KeyError("embed the plan first")
        parts: tuple[Tensor, ...] = torch.from_numpy(self._features[rows]).split(self.dims, dim=1)
        return parts
