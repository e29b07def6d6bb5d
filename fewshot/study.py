"""A study: many experiments, told as a grid in one YAML file, and the work list that it makes.

    base:                               settings of every cell; the keys are the flags
      records: /data/records
    variants:                           settings that go together, one variant after the other
      - {backbone: resnet18, checkpoint: plain.safetensors}
      - {backbone: aa_resnet18, checkpoint: antialiased.safetensors}
    grid:                               every value of a key with every value of the others
      heads: [prototypical, "url:steps=20"]
      seed: [0, 1, 2]

Imports no torch.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from episodes.faults import InputError, unknown_name
from episodes.yaml_file import read_yaml
from fewshot.experiment import Experiment, as_arguments, short_hash

PARTS = ("base", "variants", "grid")
NOT_HERE = ("config", "output", "shard")
"""Settings that the study decides."""
MOST_CELLS = 10_000
NAME_LENGTH = 120
EXAMPLE = "docs/scaling.md shows one."


@dataclass(frozen=True)
class Cell:
    """One head, under one choice of the other settings.

    Attributes:
        name: of the choice; also of its run folder.
        experiment: with the one head, and its run folder.
    """

    name: str
    experiment: Experiment

    @property
    def head(self) -> str:
        """The one head."""
        return self.experiment.heads[0]


@dataclass(frozen=True)
class Work:
    """Cells that are evaluated together, as they differ in the head only."""

    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """Of the run folder."""
        return self.cells[0].name

    @property
    def experiment(self) -> Experiment:
        """All their heads in one experiment."""
        return replace(self.cells[0].experiment, heads=tuple(cell.head for cell in self.cells))

    def alone(self) -> "list[Work]":
        """Each cell by itself."""
        return [Work((cell,)) for cell in self.cells]


def read_study(path: Path, output: Path, parse: Callable[[list[str]], Experiment]) -> list[Work]:
    """The work list of a study, in the order of the file: each run folder with all its heads.

    Args:
        path: the YAML file.
        output: folder for the run folders.
        parse: makes an experiment of the main job's flags.

    Raises:
        InputError: the file is missing or no YAML, a setting is unknown or wrong, or two cells
            are the same.
    """
    base, variants, grid = _read_parts(path)
    folders: dict[str, list[Cell]] = {}
    known: dict[str, Experiment] = {}
    sizes = [len(variants), *map(len, grid.values())]
    count = 1
    for size in sizes:
        count *= size
    if count > MOST_CELLS:
        raise InputError(f"asks for {count:,} cells; {MOST_CELLS:,} is the limit.", path)
    for variant, *values in product(variants, *grid.values()):
        chosen = variant | dict(zip(grid, values, strict=True))
        heads = chosen.pop("heads", base.get("heads", list(Experiment.heads)))
        name = name_of(chosen)
        if name not in known:
            settings = base | chosen | {"heads": "prototypical", "output": str(output / name)}
            known[name] = _experiment(settings, path, parse)
        for head in map(str, heads if isinstance(heads, list) else [heads]):
            cells = folders.setdefault(name, [])
            if any(cell.head == head for cell in cells):
                raise InputError(f"asks twice for {head} on {name}.", path)
            cells.append(Cell(name, replace(known[name], heads=(head,))))
    return [Work(tuple(cells)) for cells in folders.values()]


def name_of(chosen: Mapping[str, Any]) -> str:
    """What to call a choice of settings: readable, fit for a folder, another for another choice."""
    words = []
    for key, value in chosen.items():
        values = value if isinstance(value, list) else [value]
        text = "+".join(Path(str(v)).stem if key == "checkpoint" else str(v) for v in values)
        words.append(text if key == "backbone" else f"{key}={text}")
    plain = ",".join(words) or "study"
    name = re.sub(r"[^\w=,+-]+", "-", plain)[:NAME_LENGTH].strip("-") or "study"
    exact = name == plain and "checkpoint" not in chosen
    return name if exact else f"{name}-{short_hash(dict(chosen))}"


def _read_parts(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, list[Any]]]:
    """Base, variants and grid of a file, each of the right shape."""
    content = read_yaml(path)
    if not isinstance(content, dict) or not content:
        raise InputError("is not a mapping of base, variants and grid.", path, EXAMPLE)
    for name in content:
        if name not in PARTS:
            fault = unknown_name("part", str(name), PARTS)
            raise InputError(fault.what, path, fault.remedy)
    base = _mapping(content.get("base"), "base", path)
    variants = content.get("variants") or [{}]
    if not isinstance(variants, list):
        raise InputError("'variants' is not a list of mappings.", path, EXAMPLE)
    grid = _mapping(content.get("grid"), "grid", path)
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"'{key}' of the grid is not a list of values.", path, EXAMPLE)
    return base, [_mapping(one, "variants", path) for one in variants], grid


def _mapping(part: Any, name: str, path: Path) -> dict[str, Any]:
    """A part of the file as settings by their names."""
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise InputError(f"'{name}' is not a mapping of settings.", path, EXAMPLE)
    settings = {str(key).replace("-", "_"): value for key, value in part.items()}
    for key in settings:
        if key in NOT_HERE:
            raise InputError(f"'{key}' of '{name}' is decided by the sweep.", path)
    return settings


def _experiment(
    settings: Mapping[str, Any], path: Path, parse: Callable[[list[str]], Experiment]
) -> Experiment:
    """The experiment of settings; its faults are the file's."""
    try:
        return parse(as_arguments(settings, path))
    except SystemExit:
        raise InputError("has a value of the wrong type, as said above.", path) from None
    except InputError as error:
        if error.where is not None:
            raise
        raise InputError(error.what, path, error.remedy) from error


def count_cells(works: Sequence[Work]) -> int:
    """Cells of a work list."""
    return sum(len(work.cells) for work in works)
