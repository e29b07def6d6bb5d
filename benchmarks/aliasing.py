"""What anti-aliasing does to a backbone: folded energy, views under shifts, accuracy by head.

    python benchmarks/aliasing.py --out runs/aliasing

trains a backbone plain and anti-aliased at the same budget, once per seed, evaluates the heads on
the ten sources (of the miniature, or of --records), measures aliasing, and writes the differences
with 95 % intervals. Stopped, the same command goes on. Everything is computed by the commands that
users have.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro
from rich.console import Console
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from episodes.faults import InputError
from fewshot.aliasing.report import mean_folded
from fewshot.grid import Grid
from fewshot.results.frames import load
from run_meta_dataset import main


@dataclass(frozen=True)
class Study:
    """Plain against anti-aliased, several seeds."""

    out: Path
    """Folder of all that is computed."""
    backbone: str = "resnet18"
    """The plain one; its aa_ variant is trained beside it."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of initial weights, batches and episodes."""
    heads: tuple[str, ...] = ("prototypical", "ridge", "finetune", "sur")
    """Evaluated on the same episodes."""
    epochs: int = 5
    """Training: passes over the images; the same for both."""
    image_size: int = 84
    """Pixels a side."""
    episodes: int = 60
    """Per source and seed."""
    images: int = 64
    """Per source, to measure aliasing on."""
    records: Path | None = None
    """Folder of records; the miniature when not given."""
    sources: tuple[str, ...] = ("all",)
    """Evaluated and measured on."""
    plots: tuple[str, ...] = ("png",)
    """Formats of the figures of each seed."""
    config: Path | None = None
    """YAML file with more settings of the main job, of its training above all."""

    def __post_init__(self) -> None:
        """Raises InputError without a seed."""
        if not self.seeds:
            raise InputError("--seeds is empty.", remedy="Name at least one.")

    @property
    def where(self) -> list[object]:
        """The flags that say what images are seen."""
        given = [] if self.records is None else ["--records", self.records]
        return [*given, "--sources", *self.sources]

    @property
    def names(self) -> tuple[str, str]:
        return self.backbone, f"aa_{self.backbone}"

    def run_folder(self, name: str, seed: int) -> Path:
        return self.out / f"{name}-seed{seed}"

    def measured_folder(self, seed: int) -> Path:
        return self.out / f"aliasing-seed{seed}"


def carry_out(study: Study) -> None:
    """Train, evaluate and measure what is not there yet."""
    for seed in study.seeds:
        for name in study.names:
            given = ["--backbone", name, "--seed", seed, "--image-size", study.image_size]
            given += ["--epochs", study.epochs, "--episodes", study.episodes]
            given += ["--heads", *study.heads, "--output", study.run_folder(name, seed)]
            given += [] if study.config is None else ["--config", study.config]
            call([*given, *study.where])
        weights = [study.run_folder(name, seed) / f"{name}.safetensors" for name in study.names]
        given = [
            "aliasing",
            "--checkpoint",
            *weights,
            "--images",
            study.images,
            "--plots",
            *study.plots,
        ]
        call([*given, "--output", study.measured_folder(seed), *study.where])


def call(arguments: Sequence[object]) -> None:
    if (status := main([str(argument) for argument in arguments])) != 0:
        sys.exit(status)


# ---- differences -----------------------------------------------------------------------------


def over_seeds(values: Sequence[float], digits: int = 1) -> str:
    """Mean and half-width of the 95 % interval over seeds, by Student's t."""
    mean = f"{np.mean(values):+.{digits}f}"
    if len(values) < 2:
        return mean
    spread = np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{mean} ± {stats.t.ppf(0.975, len(values) - 1) * spread:.{digits}f}"


def accuracies(study: Study) -> pd.DataFrame:
    """Accuracy of both networks, one row per head, source, seed, episode and its plan."""
    sides = []
    for name in study.names:
        folders = [study.run_folder(name, seed) for seed in study.seeds]
        rows = load(*folders).episodes.set_index(["head", "source", "seed", "index", "plan"])
        sides.append(rows["accuracy"].rename(name))
    return pd.concat(sides, axis=1, join="inner")


def differences(study: Study) -> list[tuple[str, ...]]:
    """Rows of the table: plain, anti-aliased, difference over episodes and over seeds."""
    rows, paired = [], accuracies(study)
    plain, filtered = study.names
    for head, of_head in paired.groupby("head"):
        change = of_head[filtered] - of_head[plain]
        by_source = change.groupby("source")
        means, counts = by_source.mean(), by_source.count()
        width = 1.96 * math.sqrt((by_source.var(ddof=0) / counts).sum()) / len(means)
        by_seed = change.groupby(["seed", "source"]).mean().groupby("seed").mean()
        levels = [of_head[name].groupby("source").mean().mean() for name in study.names]
        rows.append(
            (
                f"accuracy, {head}",
                *(f"{100 * level:.1f}" for level in levels),
                f"{100 * means.mean():+.1f} ± {100 * width:.1f}",
                over_seeds((100 * by_seed).tolist()),
            )
        )
    return rows


def measures(study: Study) -> list[tuple[str, ...]]:
    """Rows of folded energy and of views at random shifts: mean over sources, then over seeds."""
    rows = []
    kinds = ("energy that folds, mean of steps", "same guess, random shifts", "cosine of features")
    scales = (100.0, 100.0, 1.0)
    found = {name: [_read(study, name, seed) for seed in study.seeds] for name in study.names}
    for k, (kind, scale) in enumerate(zip(kinds, scales, strict=True)):
        plain, filtered = ([scale * one[k] for one in found[name]] for name in study.names)
        digits = 1 if scale > 1 else 3
        change = over_seeds([b - a for a, b in zip(plain, filtered, strict=True)], digits)
        levels = (f"{np.mean(side):.{digits}f}" for side in (plain, filtered))
        rows.append((kind, *levels, "", change))
    return rows


def _read(study: Study, name: str, seed: int) -> tuple[float, float, float]:
    text = (study.measured_folder(seed) / f"{name}.json").read_text(encoding="utf-8")
    by_source: Mapping[str, Any] = json.loads(text)["results"]
    every = list(by_source.values())
    return (
        float(np.mean([mean_folded(one["steps"]) for one in every])),
        float(np.mean([np.mean(one["random"]["same"]) for one in every])),
        float(np.mean([np.mean(one["random"]["cosine"]) for one in every])),
    )


def report(study: Study) -> Grid:
    """The table of differences, anti-aliased − plain."""
    plain, filtered = study.names
    header = ("Measure", plain, filtered, "difference, episodes", "difference, seeds")
    first, second = measures(study), differences(study)
    drawn = "miniature: drawn stand-ins of the sources; never comparable to published numbers."
    benchmark = "miniature" if study.records is None else str(study.records)
    sources = accuracies(study).index.unique("source")
    return Grid(
        title=f"{filtered} against {plain}, {benchmark}, {len(study.seeds)} seeds",
        header=header,
        sections=(tuple(first), tuple(second)),
        notes=(
            *([drawn] if study.records is None else []),
            f"{study.epochs} epochs at {study.image_size} px for both; {study.episodes} episodes "
            f"and {study.images} images per source and seed; means over {len(sources)} sources; "
            "in %, cosines apart.",
            "± 95 % intervals: over paired episodes of these networks (1.96 σ/√n), and over seeds "
            "(Student's t), which is what another training would give.",
        ),
        values=(header, *first, *second),
    )


if __name__ == "__main__":
    try:
        wanted = tyro.cli(Study)
        carry_out(wanted)
        grid = report(wanted)
        grid.write(wanted.out, "study")
    except InputError as error:
        sys.exit(str(error))
    Console().print(grid.console())
