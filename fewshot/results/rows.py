"""One row: what one head did in one episode, class by class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

OK, FAILED = "ok", "failed: "


def head_alone(label: str) -> str:
    """The head of a label, without the backbone that it works on: "sur" of "sur @ resnet18"."""
    return label.split(" @ ")[0]


class ClassCount(NamedTuple):
    """What one class of an episode had, and what the head got right.

    Attributes:
        class_id: of the class in its source.
        shot: support images.
        queries: query images.
        correct: query images predicted right.
    """

    class_id: int
    shot: int
    queries: int
    correct: int


@dataclass(frozen=True)
class EpisodeRow:
    """What one head did in one episode.

    Attributes:
        head: the head's label in the table.
        source: official name of the source, e.g. "cu_birds".
        split: "train", "valid" or "test".
        seed: seed of the episodes.
        index: the episode's number under that seed, 0 or more.
        accuracy: fraction of the query images predicted right; None when the episode failed.
        way: number of classes.
        support_size: support images of all classes together.
        query_count: query images of all classes together.
        correct: query images predicted right; 0 when the episode failed.
        plan_hash: hash of the episode's plan; rows of equal hash saw the same images.
        seconds: wall-clock time of the episode.
        status: "ok", or "failed: " and the reason. A failed episode has no accuracy, counts in
            no mean, and is computed again by the next run of the same command.
        classes: [way] the same by class, in the order of the labels; empty when not known.
        guesses: [query_count] the label guessed of each query image, in the order of the plan;
            empty when not kept (an evaluation keeps those of its first episodes).
        told: what the head told of itself beside the scores, by name.

    Raises:
        ValueError: the parts contradict each other.
    """

    head: str
    source: str
    split: str
    seed: int
    index: int
    accuracy: float | None
    way: int
    support_size: int
    query_count: int
    correct: int
    plan_hash: str
    seconds: float
    status: str = OK
    classes: tuple[ClassCount, ...] = ()
    guesses: tuple[int, ...] = ()
    told: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ok:
            expected = self.correct / self.query_count if self.query_count else math.nan
            found = math.nan if self.accuracy is None else self.accuracy
            # The tolerance admits an accuracy computed in single precision, and no NaN.
            if not (0 <= found <= 1 and abs(found - expected) < 1e-6):
                raise ValueError(
                    f"{self.name}: accuracy {self.accuracy} with {self.correct} of "
                    f"{self.query_count} query images right"
                )
        elif not self.status.startswith(FAILED) or self.accuracy is not None or self.correct:
            raise ValueError(
                f"{self.name}: status '{self.status}' with accuracy {self.accuracy} and "
                f"{self.correct} query images right"
            )
        if self.classes:
            found_counts = (
                len(self.classes),
                sum(c.shot for c in self.classes),
                sum(c.queries for c in self.classes),
                sum(c.correct for c in self.classes),
            )
            counts = (self.way, self.support_size, self.query_count, self.correct)
            if found_counts != counts or any(c.correct > c.queries for c in self.classes):
                raise ValueError(f"{self.name}: its classes add up to {found_counts}, not {counts}")
        if self.guesses:
            within = all(0 <= guess < self.way for guess in self.guesses)
            if len(self.guesses) != self.query_count or not within:
                raise ValueError(
                    f"{self.name}: {len(self.guesses)} guesses of {self.query_count} queries, from "
                    f"{min(self.guesses)} to {max(self.guesses)} in {self.way} classes"
                )
        if not all(math.isfinite(value) for values in self.told.values() for value in values):
            raise ValueError(f"{self.name}: what the head told is not finite: {self.told}")

    @property
    def ok(self) -> bool:
        """Whether the episode has an accuracy."""
        return self.status == OK

    @property
    def name(self) -> str:
        """The row's key, as messages call it."""
        return f"{self.head} on {self.source} ({self.split}, seed {self.seed}, #{self.index})"
