"""A stored run computed once more, from nothing but its row, and compared episode by episode."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from episodes.faults import InputError
from fewshot.backbone_name import BackboneName
from fewshot.checkpoint import load_checkpoint
from fewshot.experiment import Experiment, as_arguments
from fewshot.heads import Head, build_head
from fewshot.listener import Listener
from fewshot.results import EpisodeRow, RowStore, Run
from fewshot.results.collection import StoredRun
from fewshot.results.file import ROWS_FILE
from fewshot.run import carry_out


@dataclass(frozen=True)
class Comparison:
    """A run beside its repetition.

    Attributes:
        equal: rows of the same accuracy and the same plan.
        other_accuracy, other_plan: names of the rows that differ.
        missing: names of the stored rows that the repetition lacks.
        largest: the largest difference of an accuracy, a fraction.
        retrained: whether backbones were trained again.
    """

    equal: int
    other_accuracy: tuple[str, ...]
    other_plan: tuple[str, ...]
    missing: tuple[str, ...]
    largest: float
    retrained: bool

    @property
    def reproduced(self) -> bool:
        """Whether every stored row came out as it is."""
        return not (self.other_accuracy or self.other_plan or self.missing)


def repeat(
    stored: StoredRun,
    out: Path,
    retrain: bool,
    listener: Listener,
    build_head: Callable[[str], Head] = build_head,
) -> Comparison:
    """Compute a stored run again and compare.

    Args:
        stored: the run.
        out: run folder of the repetition.
        retrain: train backbones again, even where the run folder has their weights.
        listener: told how far it is.
        build_head: makes heads of their texts, as for `carry_out`.

    Raises:
        InputError: the run does not say how it was made, or what it was made of is gone.
    """
    out = out.absolute()
    experiment, folder = experiment_of(stored.run), folder_of(stored)
    weights = None if retrain else find_weights(experiment, stored)
    if weights:
        experiment = replace(experiment, checkpoint=weights)
    with contextlib.chdir(folder):  # its paths are relative to where it was started
        outcome = carry_out(replace(experiment, output=out).check(), listener, build_head)
    with RowStore(stored.path, read_only=True) as store:
        before = store.rows(stored.run.id)
    with RowStore(out / ROWS_FILE, read_only=True) as store:
        now = store.rows(outcome.run)
    return compare(before, now, retrained=not experiment.checkpoint)


def experiment_of(run: Run) -> Experiment:
    """The experiment that makes every row of a run: what its calls asked for, taken together.

    Raises:
        InputError: the run was imported without its calls, or made by an older program.
    """
    asked: list[Mapping[str, Any]] = [
        call["experiment"] for call in run.calls if "experiment" in call
    ]
    if not asked:
        what = f"run {run.id} does not say which command made it."
        raise InputError(what, remedy="Runs made by this version of the program do.")
    lists = {
        name: list(dict.fromkeys(value for settings in asked for value in settings[name]))
        for name in ("heads", "sources", "plans")
    }
    if "all" in lists["sources"]:
        lists["sources"] = ["all", *(name for name in lists["sources"] if "=" in name)][:1]
    together = {
        **asked[-1],
        **lists,
        "episodes": max(settings["episodes"] for settings in asked),
        **dict.fromkeys(("config", "shard", "workers")),  # how it was carried out, not what it is
    }
    known = {name: value for name, value in together.items() if value is not None}
    known.pop("output", None)
    arguments = as_arguments({k: v for k, v in known.items() if v != []}, Path(f"run {run.id}"))
    experiment: Experiment = tyro.cli(Experiment, args=arguments)
    return experiment


def folder_of(stored: StoredRun) -> Path:
    """The folder that the run's relative paths start from.

    Raises:
        InputError: it is gone.
    """
    folder = Path(stored.run.calls[-1].get("folder", "."))
    if not folder.is_dir():
        what = f"run {stored.run.id} was started in a folder that is not here."
        raise InputError(what, folder, "Repeat it on the machine that has its files.")
    return folder


def find_weights(experiment: Experiment, stored: StoredRun) -> tuple[Path, ...]:
    """The checkpoints that the run trained, where they still lie beside its rows, unchanged."""
    if experiment.checkpoint:
        return ()
    cards = stored.run.calls[-1].get("backbones", [])
    found = []
    for card in cards:
        path = (
            stored.path.absolute().parent
            / f"{BackboneName.parse(card['backbone']).file}.safetensors"
        )
        if path.exists() and load_checkpoint(path, card["backbone"])[1].weights == card["weights"]:
            found.append(path)
    return tuple(found) if len(found) == len(cards) else ()


def compare(before: Sequence[EpisodeRow], now: Sequence[EpisodeRow], retrained: bool) -> Comparison:
    """Compare the rows of two runs, by head, source, split, seed and index."""
    again = {row.name: row for row in now}
    equal, largest = 0, 0.0
    other_accuracy, other_plan, missing = [], [], []
    for row in before:
        found = again.get(row.name)
        if found is None:
            missing.append(row.name)
        elif found.plan_hash != row.plan_hash:
            other_plan.append(row.name)
        elif found.accuracy != row.accuracy:
            other_accuracy.append(row.name)
            largest = max(largest, abs((found.accuracy or 0.0) - (row.accuracy or 0.0)))
        else:
            equal += 1
    return Comparison(
        equal, tuple(other_accuracy), tuple(other_plan), tuple(missing), largest, retrained
    )
