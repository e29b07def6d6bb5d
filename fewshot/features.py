"""The features that heads work on: each image is embedded once, however many episodes use it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from episodes import EpisodePlan, ImageReader
from episodes.loader import load_batches
from episodes.plan import Integers
from fewshot.backbones import Backbone
from fewshot.experiment import short_hash
from fewshot.feature_file import FeatureFile

T = TypeVar("T")

BATCH_SIZE = 64
"""Images per forward pass. Every pass has this shape (the last is padded), so that an image's
features do not depend on which images share its pass."""
MAKING_VERSION = 1
"""Of the arithmetic between pixels and features; another version never reads these files."""


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


@dataclass(frozen=True)
class Shelf:
    """Where features are kept, and what tells them apart from others.

    Attributes:
        folder: None keeps them in files without a name, which vanish with the store.
        dtype: float32, or float16 for half the space; heads see what was stored.
        backbones: of each backbone, what its features depend on (name and hash of its weights).
        images: fingerprint of the images of each source, by its name.
        device: what computes, in words.
    """

    folder: Path | None = None
    dtype: str = "float32"
    backbones: Sequence[str] = ()
    images: dict[str, str] = field(default_factory=dict)
    device: str = ""

    def making(self, images: ImageReader, backbone: int, stage: int) -> dict[str, object]:
        """Everything that the features of a stage of a backbone depend on."""
        return {
            "version": MAKING_VERSION,
            "backbone": self.backbones[backbone] if self.backbones else str(backbone),
            "stage": stage,
            "source": images.spec.name,
            "split": images.split.value,
            "images": self.images.get(images.spec.name, ""),
            "rule": images.rule,
            "size": images.size,
            "device": self.device,
            "torch": torch.__version__,
        }


class Census(NamedTuple):
    """How many images some plans use."""

    in_episodes: int  # counted as often as they are used
    different: int
    missing: int  # without features yet


class FeatureStore:
    """Features of the images of one split of one source, on disk.

    Args:
        images: where they are read.
        backbones: in evaluation mode, on the device.
        stages: keep the features after every stage of each backbone, not only the last.
        device: where the backbones are.
        workers: processes that read images ahead.
        shelf: where features are kept.
    """

    def __init__(
        self,
        images: ImageReader,
        backbones: Sequence[Backbone],
        *,
        stages: bool,
        device: torch.device,
        workers: int = 0,
        shelf: Shelf | None = None,
    ) -> None:
        self.images, self.backbones, self.stages = images, backbones, stages
        self.device, self.workers = device, workers
        shelf = shelf or Shelf()
        sizes = images.spec.images_in_split(images.split)
        self._first_class = images.spec.split_classes[images.split].start
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self.files: list[list[FeatureFile]] = []
        for number, backbone in enumerate(backbones):
            files = []
            for stage in self._kept(range(len(backbone.stage_dims))):
                making = shelf.making(images, number, stage)
                dim = backbone.stage_dims[stage]
                key = short_hash(making | {"dim": dim, "dtype": shelf.dtype})
                name = f"{images.spec.name}-{images.split}-{key}.features"
                path = shelf.folder and shelf.folder / name
                count = int(self._starts[-1])
                files.append(FeatureFile(path, making, count, dim, shelf.dtype))
            self.files.append(files)
        self.dims = [dim for backbone in backbones for dim in self._kept(backbone.stage_dims)]

    def _kept(self, per_stage: Sequence[T]) -> Sequence[T]:
        return per_stage if self.stages else per_stage[-1:]

    def _places(self, class_ids: Integers, numbers: Integers) -> Integers:
        """Position of each image among all images of the split."""
        places: Integers = self._starts[class_ids - self._first_class] + numbers
        return places

    def _used(self, plans: Sequence[EpisodePlan]) -> Integers:
        """Places of the images of these plans, as often as they are used."""
        parts = [
            self._places(class_ids, numbers)
            for plan in plans
            for class_ids, numbers in (
                (plan.support_class_ids, plan.support_images),
                (plan.query_class_ids, plan.query_images),
            )
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def _absent(self, places: Integers) -> Integers:
        """Those of these places without all their features."""
        there = np.ones(len(places), dtype=bool)
        for files in self.files:
            for file in files:
                there &= file.has(places)
        absent: Integers = places[~there]
        return absent

    def census(self, plans: Sequence[EpisodePlan]) -> Census:
        """How many images these plans use, and how many of them have no features yet."""
        used = self._used(plans)
        different = np.unique(used)
        return Census(len(used), len(different), len(self._absent(different)))

    def missing(self, plans: Sequence[EpisodePlan]) -> Integers:
        """Places in the split of the images of these plans that have no features yet, sorted."""
        return self._absent(np.unique(self._used(plans)))

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
            InputError: an image cannot be read, or the disk is full.
        """
        self.embed_images(self.missing(plans), progress)

    def embed_images(
        self,
        places: Integers,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Embed those of the images at these places in the split that are still missing.

        Args:
            places: sorted.
            progress: called with images done and images to do.

        Raises:
            InputError: an image cannot be read, or the disk is full.
        """
        places, done = self._absent(places), 0
        classes = np.searchsorted(self._starts, places, side="right") - 1
        class_ids, numbers = classes + self._first_class, places - self._starts[classes]
        batches = load_batches(self.images, class_ids, numbers, BATCH_SIZE, self.workers)
        for batch in batches:
            rows = places[done : done + len(batch)]
            for files, backbone in zip(self.files, self.backbones, strict=True):
                features = self._kept(embed_batch(backbone, batch, self.device))
                for file, part in zip(files, features, strict=True):
                    file.write(rows, part.numpy())
            done += len(batch)
            progress(done, len(places))

    def look_up(
        self, class_ids: Integers, numbers: Integers, extractors: slice = slice(None)
    ) -> tuple[Tensor, ...]:
        """Features of images that have been embedded.

        Args:
            class_ids, numbers: of the images.
            extractors: which of the extractors below; all by default.

        Returns:
            One float32 [n, D] per extractor: the stages of the first backbone, then of the next;
            without `stages`, one per backbone.

        Raises:
            KeyError: an image has not been embedded.
        """
        places = self._places(class_ids, numbers)
        chosen = [file for files in self.files for file in files][extractors]
        return tuple(torch.from_numpy(file.read(places)) for file in chosen)

    def close(self) -> None:
        """Release the files."""
        for files in self.files:
            for file in files:
                file.close()
