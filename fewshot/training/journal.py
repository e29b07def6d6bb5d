"""The log of a training: one JSON object a line, and TensorBoard's files where asked for."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from episodes.faults import InputError, writing
from episodes.tfrecord import replacing
from fewshot.training.loop import Score
from fewshot.training.meter import Report

ELSEWHERE = "name another --output"


class Journal:
    """Lines of a training, each with its step.

    A training that goes on from an earlier step repeats those behind it: their lines are
    removed first, so each step is told once.

    Args:
        path: of the JSON lines.
        step: the last step that is behind the training already.
        tensorboard: folder of TensorBoard's files, or None.

    Raises:
        InputError: the file cannot be written, or TensorBoard is not installed.
    """

    def __init__(self, path: Path, step: int = 0, tensorboard: Path | None = None) -> None:
        self.path = path
        self._writer = _open_tensorboard(tensorboard, step) if tensorboard else None
        with writing(path, ELSEWHERE):
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            kept = [line for line in lines if _step_of(line) <= step]
            with replacing(path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def report(self, report: Report) -> None:
        """Note where a training is."""
        content = {name: value for name, value in asdict(report).items() if value is not None}
        self._write(content, report.step)

    def score(self, score: Score, step: int) -> None:
        """Note a validation."""
        self._write({"step": step, "validation": score.value, **score.metrics}, step)

    def _write(self, content: Mapping[str, Any], step: int) -> None:
        with writing(self.path, ELSEWHERE), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")
        if self._writer is not None:
            for name, value in _scalars(content):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is not yet on the disk."""
        if self._writer is not None:
            self._writer.close()


def _scalars(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Numbers by name; of a mean with its interval, the mean."""
    found: list[tuple[str, float]] = []
    for name, value in content.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, list | tuple):
            found.append((prefix + name, float(value[0])))
        elif name not in ("step", "total"):
            found.append((prefix + name, float(value)))
    return found


def _step_of(line: str) -> int:
    """The step of a line; a line that was cut off when its process was killed is behind all."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**63


def _open_tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        remedy = "Install it: pip install tensorboard."
        raise InputError("TensorBoard is not installed.", "--tensorboard", remedy) from error
    return SummaryWriter(str(folder), purge_step=step + 1)
