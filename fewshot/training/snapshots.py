"""The saved state of a training: the newest, and the one before it should the newest be damaged."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from episodes.faults import InputError
from fewshot.checkpoint import hash_weights, load_tensors, save_tensors

HASH = "hash"


class Snapshots:
    """Two files: the newest state and the one before.

    Args:
        path: of the newest.
    """

    def __init__(self, path: Path) -> None:
        self.newest = path
        self.before = path.with_name(path.name + ".before")

    def save(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write a state, atomically; the newest becomes the one before.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        if self.newest.exists():
            self.newest.replace(self.before)
        save_tensors(self.newest, tensors, {**metadata, HASH: hash_weights(tensors)})

    def load(
        self, say: Callable[[str], None] = lambda sentence: None
    ) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """The newest state that is whole, or None where there is none at all.

        Args:
            say: told when the newest is damaged and the one before is taken.

        Raises:
            InputError: all that is there is damaged.
        """
        faults: list[InputError] = []
        for path in (self.newest, self.before):
            if not path.exists():
                continue
            try:
                state, metadata = load_tensors(path)
                if metadata.get(HASH, "") not in ("", hash_weights(state)):
                    raise InputError("fails its checksum: it is damaged.", path)
            except InputError as error:
                faults.append(error)
                continue
            if faults:
                say(f"{faults[0]} Going on from the state before it.")
            return state, metadata
        if faults:
            remedy = "Remove it to train from the start."
            raise InputError(faults[0].what, self.newest, remedy) from faults[0]
        return None

    def exists(self) -> bool:
        """Whether there is a state, whole or not."""
        return self.newest.exists() or self.before.exists()

    def remove(self) -> None:
        """Remove both; for when the training is finished."""
        self.newest.unlink(missing_ok=True)
        self.before.unlink(missing_ok=True)
