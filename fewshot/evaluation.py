"""Heads on episodes: one accuracy per episode. Knows no head and no source by name."""

import hashlib
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap

import numpy as np
import torch
from torch import Tensor

from episodes import EpisodePlan, EpisodeReader, InputError
from fewshot.backbones import Backbone
from fewshot.features import FeatureStore
from fewshot.heads import Head, file_of_head
from fewshot.results.rows import ClassCount, EpisodeRow

WINDOW = 25
"""Episodes whose images are embedded together, at most: the first window is one episode, so that
the first row comes soon and an early interruption loses little."""

Done = Callable[[str, EpisodePlan], bool]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Entry:
    """A row of the table: a head on the feature extractors it gets.

    Attributes:
        label: the row's name.
        head: the method.
        backbone: position of the one backbone it works on, or None for all extractors.
    """

    label: str
    head: Head
    backbone: int | None


def line_up(heads: Sequence[Head], backbones: Sequence[str]) -> list[Entry]:
    """Every head on its extractors: heads over one extractor once per backbone.

    A head over many extractors gets all the backbones or, if there is one, its stages.

    Raises:
        InputError: two entries would share a label.
    """
    entries = []
    for head in heads:
        label = f"{head} (transductive)" if head.transductive else str(head)
        if head.extractors == "many":
            entries.append(Entry(label, head, None))
        elif len(backbones) == 1:
            entries.append(Entry(label, head, 0))
        else:
            names = distinct_names(backbones)
            entries += [Entry(f"{label} @ {name}", head, i) for i, name in enumerate(names)]
    label, count = Counter(entry.label for entry in entries).most_common(1)[0]
    if count > 1:
        raise InputError(f"the head '{label}' is asked for {count} times.", "--heads")
    return entries


def distinct_names(backbones: Sequence[str]) -> list[str]:
    """Names of backbones, numbered where several share one."""
    counts = Counter(backbones)
    seen: Counter[str] = Counter()
    names = []
    for backbone in backbones:
        seen[backbone] += 1
        names.append(f"{backbone}#{seen[backbone]}" if counts[backbone] > 1 else backbone)
    return names


def head_generator(plan: EpisodePlan, label: str) -> torch.Generator:
    """The randomness of one head on one episode: a function of both and nothing else."""
    digest = hashlib.sha256(f"{plan.hash}/{label}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class Evaluation:
    """Entries evaluated on one split of one source.

    Args:
        reader: the episodes.
        backbones: in evaluation mode, on the device.
        entries: from `line_up`.
        device: where backbones and heads compute.
        workers: processes that read images ahead; they do not change any number.
    """

    def __init__(
        self,
        reader: EpisodeReader,
        backbones: Sequence[Backbone],
        entries: Sequence[Entry],
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self.reader, self.backbones, self.entries = reader, backbones, entries
        self.device = device
        self.stages = len(backbones) == 1 and any(entry.backbone is None for entry in entries)
        self.store = FeatureStore(
            reader.images, backbones, stages=self.stages, device=device, workers=workers
        )

    def rows(
        self,
        episodes: int,
        done: Done = lambda label, plan: False,
        progress: Progress = lambda what, finished, total: None,
    ) -> Iterator[list[EpisodeRow]]:
        """Accuracies of the entries on episodes 0, 1, …, as each episode is finished.

        Args:
            episodes: how many.
            done: tells of an entry's label and a plan whether the row exists already; such
                rows are not computed again.
            progress: called with "images" or "episodes", how many are finished, of how many.

        Yields:
            The new rows of one episode.

        Raises:
            InputError: an image cannot be read, or a head's scores are not finite.
        """
        plans = [self.reader.plan(index) for index in range(episodes)]
        start, size = 0, 1
        while start < episodes:
            window, later = plans[start : start + size], plans[start + size :]
            start, size = start + size, min(2 * size, WINDOW)
            todo = {
                plan.index: [entry for entry in self.entries if not done(entry.label, plan)]
                for plan in window
            }
            frozen = [
                plan
                for plan in window
                if any(not entry.head.adapts_backbone for entry in todo[plan.index])
            ]
            self.store.embed(frozen, lambda n, total: progress("images", n, total))
            for plan in window:
                rows = [self.row(entry, plan) for entry in todo[plan.index]]
                progress("episodes", plan.index + 1, episodes)
                if rows:
                    yield rows
            self.store.keep_only(later)

    def row(self, entry: Entry, plan: EpisodePlan) -> EpisodeRow:
        """One entry on one episode whose images have been embedded."""
        began = time.perf_counter()
        scores = self._checked_scores(entry, plan).float().cpu().numpy()
        if not np.isfinite(scores).all():
            raise InputError(
                f"the scores of {plan.source} episode {plan.index} are not finite.",
                f"head {entry.label}",
                "Check the head's settings and the checkpoint.",
            )
        # numpy's argmax takes the lowest label of a tie, as the benchmark does.
        right = plan.query_labels[scores.argmax(axis=1) == plan.query_labels]
        correct, way = len(right), plan.way
        by_class = (
            plan.class_ids,
            plan.shots,
            np.bincount(plan.query_labels, minlength=way),
            np.bincount(right, minlength=way),
        )
        return EpisodeRow(
            head=entry.label,
            source=plan.source,
            split=plan.split.value,
            seed=plan.seed,
            index=plan.index,
            accuracy=correct / len(plan.query_labels),
            way=way,
            support_size=len(plan.support_labels),
            query_count=len(plan.query_labels),
            correct=correct,
            plan_hash=plan.hash,
            seconds=time.perf_counter() - began,
            classes=tuple(starmap(ClassCount, np.stack(by_class, axis=1).tolist())),
        )

    def _checked_scores(self, entry: Entry, plan: EpisodePlan) -> Tensor:
        """[query, way] scores, of a user's own head too."""
        where, episode = f"head {entry.label}", f"{plan.source} episode {plan.index}"
        try:
            scores = self._scores(entry, plan)
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            if (file := file_of_head(entry.head)) is None:
                raise  # a fault of ours
            lines = [
                f.lineno
                for f in traceback.extract_tb(error.__traceback__)
                if f.filename == str(file)
            ]
            place = f"{file}, line {lines[-1]}" if lines else str(file)
            what = f"fails on {episode}: {type(error).__name__}: {error}."
            raise InputError(what, where, f"See {place}.") from error
        wanted = (len(plan.query_labels), plan.way)
        if not isinstance(scores, Tensor) or scores.shape != wanted or scores.is_complex():
            found = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            what = f"gives scores {found} for {episode}, not real numbers {list(wanted)}."
            raise InputError(what, where, "Give one score per query and class.")
        return scores.detach()

    def _scores(self, entry: Entry, plan: EpisodePlan) -> Tensor:
        """[query, way] scores."""
        # a copy: a head that writes to its labels must not change the plan
        labels = torch.tensor(plan.support_labels, device=self.device)
        generator = head_generator(plan, entry.label)
        if entry.head.adapts_backbone:
            backbone = self.backbones[entry.backbone or 0]
            episode = self.reader.read(plan)
            support = episode.support_images.to(self.device)
            predict = entry.head.fit_backbone(backbone, support, labels, plan.way, generator)
            return predict(episode.query_images.to(self.device))
        features = self._features(entry, plan.support_class_ids, plan.support_images)
        fitted = entry.head.fit(features, labels, plan.way, generator)
        return fitted(self._features(entry, plan.query_class_ids, plan.query_images))

    def _features(self, entry: Entry, class_ids: np.ndarray, numbers: np.ndarray) -> list[Tensor]:
        """The features this entry works on: all extractors, or the last stage of its backbone."""
        features = self.store.look_up(class_ids, numbers)
        if entry.backbone is None:
            chosen = list(features)
        else:
            chosen = [features[-1] if self.stages else features[entry.backbone]]
        return [part.to(self.device) for part in chosen]
