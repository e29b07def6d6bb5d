"""How far the work on each source is, and what went wrong there."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from episodes import EpisodePlan, InputError
from fewshot.listener import Listener
from fewshot.results import EpisodeRow
from fewshot.work.piece import Embedding, Piece

MOST_TOLD = 3
"""Failures of one head on one source that are told one by one."""


class Tally:
    """How far one source is.

    Args:
        plans: its episodes.
        stored: by label, numbers of the episodes with a row.
        listener: told of progress and failures.
    """

    def __init__(
        self,
        source: str,
        plans: Sequence[EpisodePlan],
        stored: Mapping[str, Mapping[int, str]],
        listener: Listener,
    ) -> None:
        self.source, self.total, self.listener = source, len(plans), listener
        self.plans = {plan.index: plan for plan in plans}
        self.hashes = {plan.index: plan.hash for plan in plans}
        labels = {
            index: {label for label, rows in stored.items() if index not in rows}
            for index in self.plans
        }
        self.left = {index: missing for index, missing in labels.items() if missing}
        self.failures: Counter[str] = Counter()
        self._images: dict[Piece, tuple[int, int]] = {}

    @property
    def finished(self) -> int:
        """Episodes that every entry has a row of."""
        return self.total - len(self.left)

    def count(self, rows: Sequence[EpisodeRow]) -> list[EpisodeRow]:
        """Count rows, and return those that are new: a piece that was given again brings others.

        Raises:
            InputError: a worker evaluated another episode of that number.
        """
        for row in rows:
            if row.plan_hash != self.hashes[row.index]:
                what = f"a worker has other records: episode {row.index} has other images there."
                remedy = "Give all machines the same records."
                raise InputError(what, f"source {self.source}", remedy)
        new = [row for row in rows if row.head in self.left.get(row.index, ())]
        for row in new:
            self.left[row.index].discard(row.head)
            if not self.left[row.index]:
                del self.left[row.index]
            self.failures[row.head] += not row.ok
            if not row.ok and self.failures[row.head] <= MOST_TOLD:
                self.listener.say(f"{row.name}: {row.status}")
        if new and not self.left:
            for head, count in (+self.failures).items():
                what = f"failed on {count} of {self.total} episodes of {self.source}"
                self.listener.say(f"{head} {what}")
            self.plans.clear()
        return new

    def expect(self, pieces: Iterable[Embedding]) -> None:
        """Count the images of pieces that are to come."""
        self._images |= {piece: (0, len(piece.places)) for piece in pieces}

    def embed(self, piece: Piece, done: int, total: int) -> None:
        """Tell how many images of a piece are embedded, and of how many."""
        self._images[piece] = (done, total)
        counts = (sum(numbers) for numbers in zip(*self._images.values(), strict=True))
        self.tell("episodes ({}/{} images)".format(*counts))

    def tell(self, note: str = "episodes") -> None:
        """Tell how far it is."""
        self.listener.progress(self.source, self.finished, self.total, note)
