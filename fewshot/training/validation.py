"""What is measured on the way: few-shot episodes of valid classes, top-1 on held-out images."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch

from episodes.faults import InputError
from episodes.loader import LabelledImages, load_batches
from episodes.reader import EpisodeReader
from fewshot.backbones import Backbone
from fewshot.evaluation import Evaluation, line_up
from fewshot.heads import Head
from fewshot.results.aggregate import mean_and_interval
from fewshot.training.loop import Score
from fewshot.training.processes import Place
from fewshot.training.recipe import Recipe

BATCH_SIZE = 64


class Validation:
    """Measures a backbone; every process takes a part of the episodes and images.

    Args:
        episodes: readers of the valid classes of some sources.
        held_out: images of the train classes that are not trained on, of each source.
        recipe: how many episodes, and what decides.
        head: what classifies the episodes.
        place: where this process computes.
        workers: processes that read ahead.
    """

    def __init__(
        self,
        episodes: Sequence[EpisodeReader],
        held_out: Sequence[LabelledImages],
        recipe: Recipe,
        head: Head,
        place: Place,
        workers: int = 0,
    ) -> None:
        self.episodes, self.held_out, self.recipe = episodes, held_out, recipe
        self.head, self.place, self.workers = head, place, workers

    def __call__(self, backbone: Backbone) -> Score:
        """The mean over sources of what decides, and everything that was measured.

        Raises:
            InputError: an image cannot be read, or the head fails.
        """
        few_shot = {
            reader.images.spec.name: self.few_shot(backbone, reader) for reader in self.episodes
        }
        top1 = self.top1(backbone) if self.held_out else {}
        metrics: dict[str, object] = {"few_shot": few_shot, "held_out": top1}
        if self.recipe.select == "held_out" or not few_shot:
            value = float(np.mean(list(top1.values())))
        else:
            value = float(np.mean([mean for mean, _ in few_shot.values()]))
        return Score(value, metrics)

    def few_shot(self, backbone: Backbone, reader: EpisodeReader) -> tuple[float, float]:
        """Mean accuracy over the episodes of a source, and its 95 % interval.

        Raises:
            InputError: an image cannot be read, or the head fails.
        """
        rank, ranks, count = self.place.rank, self.place.ranks, self.recipe.validation_episodes
        entries = line_up([self.head], [backbone.name])
        evaluation = Evaluation(reader, [backbone], entries, self.place.device, self.workers)
        accuracies = torch.zeros(count, dtype=torch.float64)
        together = evaluation.rows(count, lambda label, plan: plan.index % ranks != rank)
        for row in chain.from_iterable(together):
            if row.accuracy is None:
                what = f"validation episode {row.index} of {row.source}: {row.status}."
                raise InputError(what, f"head {self.head}", "Choose another --validation-head.")
            accuracies[row.index] = row.correct / row.query_count
        mean, interval = mean_and_interval(self.place.sum(accuracies).tolist())
        return mean or 0.0, interval or 0.0

    def top1(self, backbone: Backbone) -> dict[str, float]:
        """Share of the held-out images of each source whose best score is their class's."""
        device, first, found = self.place.device, 0, {}
        for images in self.held_out:
            classes = slice(first, first + len(images.class_names))
            first = classes.stop
            own = np.arange(self.place.rank, len(images), self.place.ranks)
            labels = torch.from_numpy(images.labels(own))
            batches = load_batches(images.reader, *images.locate(own), BATCH_SIZE, self.workers)
            targets = labels.split(BATCH_SIZE) if len(own) else ()
            right = 0
            with torch.inference_mode():
                for pixels, target in zip(batches, targets, strict=True):
                    here = pixels.to(device, memory_format=torch.channels_last)
                    best = backbone(here)[:, classes].argmax(dim=1).cpu()
                    right += int((best == target).sum())
            total = self.place.sum(torch.tensor(float(right), dtype=torch.float64))
            found[images.reader.spec.name] = float(total) / len(images)
        return found
