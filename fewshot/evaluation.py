"""Heads on episodes: one accuracy per episode. Knows no head and no source by name."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap

import numpy as np
import torch
from torch import Tensor

from episodes import EpisodePlan, EpisodeReader, InputError
from fewshot.backbones import Backbone
from fewshot.features import FeatureStore, Shelf
from fewshot.heads import Episode, EpisodeHead, Head
from fewshot.heads.batch import Size, batches
from fewshot.results.rows import FAILED, OK, ClassCount, EpisodeRow, head_alone
from fewshot.trial import TIME_LIMIT, Trial, try_alone, try_together, try_tuning

WINDOW = 25
"""Episodes whose images are embedded together, at most: the first window is one episode, so that
the first row comes soon and an early interruption loses little."""

KEPT = 10
"""Episodes of a source, the first, of which rows keep every guess; of all, they keep counts."""
MOST_TIMEOUTS = 3
"""Episodes of a source on which a head may exceed its time; the others then count as failed."""
CPU_BYTES, GPU_SHARE = 2 * 2**20, 0.25
"""Memory for the episodes that a head works on at once: what a processor's cache is good for, or
a share of the GPU's."""

Done = Callable[[str, EpisodePlan], bool]
Progress = Callable[[int, int], None]
"""Told how many images are embedded, and of how many."""


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

    @property
    def transductive(self) -> bool:
        """Whether its scores of a query depend on the others; the label says so."""
        return head_alone(self.label).endswith("(transductive)")


def line_up(
    heads: Sequence[Head], backbones: Sequence[str], peeking: Sequence[str] = ()
) -> list[Entry]:
    """Every head on its extractors: heads over one extractor once per backbone.

    A head over many extractors gets all the backbones or, if there is one, its stages.

    Args:
        heads: in the order of the table.
        backbones: their names.
        peeking: heads (as text) that were found to look at the other queries without saying so.

    Raises:
        InputError: two entries would share a label.
    """
    entries = []
    for head in heads:
        peeks = head.transductive or str(head) in peeking
        label = f"{head} (transductive)" if peeks else str(head)
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
        workers: processes that read images ahead; they move no number.
        shelf: where features are kept; by default only as long as this evaluation.
        max_bytes: memory for the episodes that a head works on at once; moves no number.
        time_limit: seconds that a head of the user's may take for one episode.

    Attributes:
        timeouts: by label, episodes on which a head exceeded its time.
    """

    def __init__(
        self,
        reader: EpisodeReader,
        backbones: Sequence[Backbone],
        entries: Sequence[Entry],
        device: torch.device,
        workers: int = 0,
        shelf: Shelf | None = None,
        max_bytes: int | None = None,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self.reader, self.backbones, self.entries = reader, backbones, entries
        self.device, self.time_limit = device, time_limit
        self.stages = len(backbones) == 1 and any(entry.backbone is None for entry in entries)
        self.store = FeatureStore(
            reader.images,
            backbones,
            stages=self.stages,
            device=device,
            workers=workers,
            shelf=shelf,
        )
        self.max_bytes = _memory(device) if max_bytes is None else max_bytes
        self.timeouts: Counter[str] = Counter()
        self._plans: dict[int, EpisodePlan] = {}

    def plans(self, episodes: int | Sequence[int]) -> list[EpisodePlan]:
        """The plans of the first so many episodes, or of those of these numbers.

        Raises:
            InputError: an episode has a single class, or no query.
        """
        indices = range(episodes) if isinstance(episodes, int) else episodes
        new = {index: self.reader.plan(index) for index in indices if index not in self._plans}
        for plan in new.values():
            lack = "one class" if plan.way < 2 else "no query image"
            if plan.way < 2 or not len(plan.query_labels):
                raise InputError(
                    f"episode {plan.index} has {lack}: there is nothing to tell apart.",
                    f"source {plan.source}",
                    "Choose another --protocol, or other classes.",
                )
        self._plans |= new
        return [self._plans[index] for index in indices]

    def rows(
        self,
        episodes: int | Sequence[int],
        done: Done = lambda label, plan: False,
        progress: Progress = lambda finished, total: None,
    ) -> Iterator[list[EpisodeRow]]:
        """Accuracies of the entries on some episodes, as soon as they are known.

        A head that fails on an episode, or takes too long, has a failed row; the others go on.

        Args:
            episodes: the first so many, or those of these numbers.
            done: tells of an entry's label and a plan whether the row exists already; such
                rows are not computed again.
            progress: told how many images are embedded, and of how many.

        Yields:
            New rows: of a head on features those of a window, of one that tunes the backbone
            a single one.

        Raises:
            InputError: an image cannot be read, an episode has nothing to tell apart, or a head
                of this project cannot work on what it is given.
        """
        plans = self.plans(episodes)
        start, size = 0, 1
        while start < len(plans):
            window = plans[start : start + size]
            start, size = start + size, min(2 * size, WINDOW)
            todo = {
                entry: [plan for plan in window if not done(entry.label, plan)]
                for entry in self.entries
            }
            frozen = [entry for entry in todo if not entry.head.adapts_backbone]
            images_of = [plan for entry in frozen for plan in todo[entry]]
            self.store.embed(images_of, progress)
            for entry, missing in todo.items():
                rows = (
                    make_row(entry, plan, trial) for plan, trial in self._trials(entry, missing)
                )
                if entry.head.adapts_backbone:
                    yield from ([row] for row in rows)
                elif together := list(rows):
                    yield together

    def _trials(
        self, entry: Entry, plans: Sequence[EpisodePlan]
    ) -> Iterator[tuple[EpisodePlan, Trial]]:
        """One entry on episodes whose images have been embedded, in any order."""
        for together in self._batches(entry, plans):
            if self.timeouts[entry.label] >= MOST_TIMEOUTS:
                failure = f"not tried after {MOST_TIMEOUTS} that took too long"
                trials = [Trial(failure=failure)] * len(together)
            else:
                trials = self._try(entry, together)
            self.timeouts[entry.label] += sum(trial.timed_out for trial in trials)
            yield from zip(together, trials, strict=True)

    def _batches(
        self, entry: Entry, plans: Sequence[EpisodePlan]
    ) -> Iterator[Sequence[EpisodePlan]]:
        """The episodes that an entry works on at once."""
        if not isinstance(entry.head, EpisodeHead) or entry.head.adapts_backbone:
            yield from ([plan] for plan in plans)
            return
        dims = self._dims(entry)
        sizes = [Size(len(p.support_labels), len(p.query_labels), p.way, dims) for p in plans]
        for batch in batches(entry.head, sizes, self.max_bytes):
            yield [plans[position] for position in batch]

    def _try(self, entry: Entry, plans: Sequence[EpisodePlan]) -> list[Trial]:
        """One entry on the episodes of a batch."""
        head, limit = entry.head, self.time_limit
        if not head.adapts_backbone:
            episodes = [self._episode(entry, plan) for plan in plans]
            if isinstance(head, EpisodeHead):
                return try_together(head, episodes, limit)
            return [try_alone(head, episode, limit) for episode in episodes]
        return [self._try_tuning(entry, plan) for plan in plans]

    def _try_tuning(self, entry: Entry, plan: EpisodePlan) -> Trial:
        images = self.reader.read(plan)
        return try_tuning(
            entry.head,
            self.backbones[entry.backbone or 0],
            images.support_images.to(self.device),
            self._labels(plan),
            plan.way,
            images.query_images.to(self.device),
            head_generator(plan, entry.label),
            self.time_limit,
        )

    def _labels(self, plan: EpisodePlan) -> Tensor:
        # a copy: a head that writes to its labels must not change the plan
        return torch.tensor(plan.support_labels, device=self.device)

    def _episode(self, entry: Entry, plan: EpisodePlan) -> Episode:
        """An episode as the features that this entry works on."""
        return Episode(
            self._features(entry, plan.support_class_ids, plan.support_images),
            self._labels(plan),
            plan.way,
            self._features(entry, plan.query_class_ids, plan.query_images),
            head_generator(plan, entry.label),
        )

    def _extractors(self, entry: Entry) -> slice:
        """Which features this entry works on: all, or the last stage of its backbone."""
        if entry.backbone is None:
            return slice(None)
        last = len(self.store.dims) - 1 if self.stages else entry.backbone
        return slice(last, last + 1)

    def _dims(self, entry: Entry) -> tuple[int, ...]:
        return tuple(self.store.dims[self._extractors(entry)])

    def _features(self, entry: Entry, class_ids: np.ndarray, numbers: np.ndarray) -> list[Tensor]:
        features = self.store.look_up(class_ids, numbers, self._extractors(entry))
        return [part.to(self.device) for part in features]


def _memory(device: torch.device) -> int:
    if device.type != "cuda":
        return CPU_BYTES
    return int(GPU_SHARE * torch.cuda.get_device_properties(device).total_memory)


def make_row(entry: Entry, plan: EpisodePlan, trial: Trial) -> EpisodeRow:
    """What a trial comes to."""
    correct, accuracy, by_class, guesses = 0, None, None, np.empty(0, int)
    if trial.scores is not None:
        # numpy's argmax takes the lowest label of a tie, as the benchmark does.
        guesses = trial.scores.argmax(axis=1)
        right = plan.query_labels[guesses == plan.query_labels]
        correct, accuracy = len(right), len(right) / len(plan.query_labels)
        queries, hits = (np.bincount(x, minlength=plan.way) for x in (plan.query_labels, right))
        by_class = np.stack([plan.class_ids, plan.shots, queries, hits], axis=1)
    return EpisodeRow(
        head=entry.label,
        source=plan.source,
        split=plan.split.value,
        seed=plan.seed,
        index=plan.index,
        accuracy=accuracy,
        way=plan.way,
        support_size=len(plan.support_labels),
        query_count=len(plan.query_labels),
        correct=correct,
        plan_hash=plan.hash,
        seconds=trial.seconds,
        status=OK if by_class is not None else FAILED + trial.failure,
        classes=() if by_class is None else tuple(starmap(ClassCount, by_class.tolist())),
        guesses=tuple(guesses.tolist()) if plan.index < KEPT else (),
        told=trial.told,
    )
