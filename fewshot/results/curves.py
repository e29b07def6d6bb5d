"""Training curves of a run, from the logs that lie beside its checkpoints."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from fewshot.results.collection import StoredRun

LOG = ".jsonl"


@dataclass(frozen=True)
class Curve:
    """One training.

    Attributes:
        name: of the log.
        loss: (step, loss) of the reports, in order.
        validation: (step, value) of the validations, in order.
    """

    name: str
    loss: tuple[tuple[float, float], ...]
    validation: tuple[tuple[float, float], ...]


def find_curves(stored: StoredRun) -> list[Curve]:
    """The curves of the backbones of a run; none where nothing was logged."""
    folder = stored.path.absolute().parent
    logs = sorted(folder.glob(f"*{LOG}"))
    for call in stored.run.calls:
        start = Path(str(call.get("folder", ".")))
        given = call.get("experiment", {}).get("checkpoint") or []
        logs += [(start / str(path)).with_suffix(LOG) for path in given]
    curves = [read_curve(path) for path in dict.fromkeys(logs) if path.is_file()]
    return [curve for curve in curves if curve.loss or curve.validation]


def read_curve(path: Path) -> Curve:
    """A log of one JSON object a line; lines that say nothing of loss or validation are passed."""
    loss: list[tuple[float, float]] = []
    validation: list[tuple[float, float]] = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []  # a log is no result: its loss costs a figure and no number
    for line in lines:
        try:
            content = json.loads(line)
            step = float(content["step"])
            for name, points in (("loss", loss), ("validation", validation)):
                if name in content and math.isfinite(value := float(content[name])):
                    points.append((step, value))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return Curve(path.stem, tuple(loss), tuple(validation))
