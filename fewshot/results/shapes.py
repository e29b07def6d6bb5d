"""What runs and rows from a foreign file must look like, so that no reader of them stumbles."""

from collections.abc import Mapping
from typing import Any

from fewshot.results.rows import EpisodeRow
from fewshot.results.store import Run

ANY = object()
"""The name of a part that may have any name."""
CARD = {
    **dict.fromkeys(("backbone", "source", "split", "weights", "method", "origin"), str),
    **{"classes": [str], "seen": [str], "training": dict, "image_size": int, "learner": dict},
}
CALL: dict[object, Any] = {
    **dict.fromkeys(("benchmark", "split", "device", "time", "command", "folder"), str),
    "protocol": {"name": str, "version": int, "hash": str},
    "image": {"size": int, "rule": str},
    "seed": int,
    "backbones": [CARD],
    "heads": {ANY: {"name": str, "transductive": bool, "tuning": str, "settings": dict}},
    "experiment": {
        **{name: [str] for name in ("backbone", "heads", "sources", "checkpoint", "plans")},
        **dict.fromkeys(("episodes", "seed", "image_size"), int),
    },
    "versions": {ANY: str},
    "git": {"commit": str, "dirty": bool},
}
"""Of the record of a call; a part may be absent or null, and may have entries beside these."""
SETTINGS: dict[object, Any] = {
    **dict.fromkeys(("split", "protocol", "image_rule", "device", "records"), str),
    **dict.fromkeys(("seed", "image_size"), int),
    "backbone": [str],
    "weights": [str],
}
TEXTS = ("head", "source", "split", "plan_hash", "status")
COUNTS = ("index", "way", "support_size", "query_count", "correct")
MOST = 2**31 - 1
"""Of anything that is counted in an episode; the store keeps such numbers in 32 bits."""
MOST_HITS = 2**16 - 1
"""Right guesses of one class, and labels; the store keeps them in 16 bits."""


def check_run(run: Run) -> None:
    """Raises TypeError where a run is not what it must be."""
    _expect(run.id, str, "id")
    _expect(run.settings, SETTINGS, "settings")
    _expect(run.ingredients, {ANY: str}, "ingredients")
    for call in run.calls:
        _expect(call, CALL, "call")


def _expect(value: Any, shape: Any, name: str) -> None:
    """Raises TypeError where a value has not a shape: a type, a list of one, a mapping of some."""
    kind: Any = shape if isinstance(shape, type) else type(shape)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{name} is {value!r:.60}")
    if isinstance(shape, list):
        for part in value:
            _expect(part, shape[0], f"a part of {name}")
    elif isinstance(shape, dict):
        for key, part in value.items():
            wanted = shape.get(key, shape.get(ANY))
            if part is not None and wanted is not None:
                _expect(part, wanted, f"{key} of {name}")
    elif kind is int and abs(value) >= 2**63:
        raise TypeError(f"{name} is out of range")


def check_row(row: EpisodeRow) -> None:
    """Raises TypeError or ValueError where a row is not what it must be."""
    for name in TEXTS:
        _expect(getattr(row, name), str, name)
    for name in COUNTS:
        _expect(getattr(row, name), int, name)
        if not 0 <= getattr(row, name) <= MOST:
            raise ValueError(f"{name} is {getattr(row, name)}")
    _expect(row.seed, int, "seed")
    if type(row.accuracy) not in (int, float, type(None)):
        raise TypeError(f"accuracy is {row.accuracy!r:.60}")
    if type(row.seconds) not in (int, float) or not abs(row.seconds) < MOST:
        raise TypeError(f"seconds are {row.seconds!r:.60}")
    for counts in row.classes:
        if not (all(0 <= n <= MOST for n in counts) and counts.correct <= MOST_HITS):
            raise ValueError(f"counts of a class are {counts}")
    if any(guess > MOST_HITS for guess in row.guesses):
        raise ValueError("a guess is out of range")


def check_told(told: Any) -> Mapping[str, Any]:
    """What a head told, if it is numbers by name.

    Raises:
        TypeError: it is not.
    """
    _expect(told, {ANY: list}, "told")
    for name, values in told.items():
        if values is None or not all(type(value) in (int, float) for value in values):
            raise TypeError(f"{name} of told is {values!r:.60}")
    return dict(told)
