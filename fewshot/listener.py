"""Who is told how far a piece of work is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Told how far a piece of work is."""

    def __call__(self, work: str, done: int, total: int, note: str) -> None: ...


@dataclass(frozen=True)
class Listener:
    """Who is told how far a run is.

    Attributes:
        say: gets a sentence worth keeping.
        progress: gets the name of a piece of work, how much is done, how much there is, and a
            note; the first call announces the piece, the last has both numbers equal.
    """

    say: Callable[[str], None] = lambda sentence: None
    progress: Progress = lambda work, done, total, note: None
