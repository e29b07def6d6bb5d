"""A part of the episodes of an experiment, for arrays of jobs that know nothing of each other."""

import re
from dataclasses import dataclass

from episodes.faults import InputError


@dataclass(frozen=True)
class Shard:
    """The `part`-th of `parts` parts: every `parts`-th episode (or experiment of a sweep).

    Which part an episode belongs to depends on its number only, so that an experiment can grow.

    Attributes:
        part: 1 to `parts`.
        parts: how many there are.
    """

    part: int = 1
    parts: int = 1

    @classmethod
    def parse(cls, text: str | None) -> "Shard":
        """From "i/n"; nothing is the whole.

        Raises:
            InputError: it is something else, or i is not from 1 to n.
        """
        if text is None:
            return cls()
        found = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", text)
        part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= part <= parts:
            remedy = "Give --shard 1/8 to --shard 8/8, for eight parts."
            raise InputError(f"--shard is '{text}': it must be i/n, i from 1 to n.", remedy=remedy)
        return cls(part, parts)

    def of(self, count: int) -> range:
        """Those of the numbers 0 to count − 1 that belong to this part."""
        return range(self.part - 1, count, self.parts)

    @property
    def is_whole(self) -> bool:
        """Whether there is no other part."""
        return self.parts == 1

    @property
    def folder(self) -> str:
        """Name of a folder for what this part finds."""
        return f"shard-{self.part}-of-{self.parts}"
