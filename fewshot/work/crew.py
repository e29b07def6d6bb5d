"""Who does the work: the interface of a crew, what its workers report, and a crew of one."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, Self

from fewshot.evaluation import Progress
from fewshot.results import EpisodeRow
from fewshot.work.bench import Bench
from fewshot.work.piece import Piece


class Joined(NamedTuple):
    """A worker is there and waits for a piece."""

    worker: int


class Rows(NamedTuple):
    """Rows of the piece that a worker has."""

    worker: int
    rows: list[EpisodeRow]


class Finished(NamedTuple):
    """A worker has done its piece, and waits for another."""

    worker: int


class Died(NamedTuple):
    """A worker is gone, with or without a piece; nothing is heard of it again."""

    worker: int
    why: str


Report = Joined | Rows | Finished | Died
Follow = Callable[[int, int, int], None]
"""Told by which worker how many images of its piece are embedded, and of how many."""


class Crew(Protocol):
    """Workers that may join and die at any time; each has one piece at a time or none.

    Attributes:
        size: for how many workers to divide the work.
    """

    size: int

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def give(self, worker: int, piece: Piece) -> None:
        """Give a waiting worker a piece."""
        ...

    def report(self, follow: Follow) -> Report:
        """The next report of any worker; waits for it, and tells meanwhile of its images.

        Raises:
            InputError: a worker met a fault of the user's, or none can be had.
        """
        ...


def reports(piece: Piece, bench: Bench, worker: int, tell: Progress) -> Iterator[Report]:
    """What a worker reports of a piece while it does it."""
    for rows in piece.work(bench, tell):
        yield Rows(worker, rows)
    yield Finished(worker)


class Here:
    """A crew of one: this process.

    Args:
        bench: what rows are made with.
    """

    size = 1

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._reports: Iterator[Report] = iter([Joined(0)])
        self._follow: Follow = lambda worker, done, total: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def give(self, worker: int, piece: Piece) -> None:
        self._reports = reports(piece, self.bench, worker, self._tell)

    def report(self, follow: Follow) -> Report:
        self._follow = follow
        return next(self._reports)

    def _tell(self, done: int, total: int) -> None:
        self._follow(0, done, total)
