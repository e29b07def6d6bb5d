"""Results by key in one small JSON file, with what they were made of: resumed, never mixed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from episodes.faults import InputError
from fewshot.results.tables import write_text


@dataclass(frozen=True)
class KeptResults:
    """The file.

    Attributes:
        path: of the file.
        identity: JSON values that decide the results: weights, images, settings.
    """

    path: Path
    identity: Mapping[str, Any]

    def read(self) -> dict[str, Any]:
        """What is there, by key; nothing when there is no file yet.

        Raises:
            InputError: the file is damaged, or holds results of other makings.
        """
        if not self.path.exists():
            return {}
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            identity, results = dict(kept["identity"]), dict(kept["results"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            what = f"is not a file of results ({error!r})."
            raise InputError(what, self.path, "Remove it, or choose another --output.") from error
        wanted = json.loads(json.dumps(dict(self.identity)))
        every = sorted(identity.keys() | wanted.keys())
        names = [name for name in every if identity.get(name) != wanted.get(name)]
        if names:
            what = f"holds results of another {', '.join(names)}."
            raise InputError(what, self.path, "Choose another --output.")
        return results

    def write(self, results: Mapping[str, Any]) -> None:
        """Keep the results, atomically.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        content = {"identity": dict(self.identity), "results": dict(results)}
        write_text(self.path, json.dumps(content, indent=1) + "\n")
