"""Do the baselines learn? All of them on the miniature's ImageNet-train and on all its sources.

    python benchmarks/reference_methods.py --output DIR [--pieces protonet/imagenet …]

A piece is one method trained on one set of sources and evaluated on the same episodes of all ten
sources. `baseline` comes first: it trains the classifier from which the others begin, as the
benchmark's do. Interrupted, the same command goes on; finished pieces are only read. Prints, as
Markdown: method × source with 95 % intervals, the chance level beside them, and the processor
time of all pieces, training, validation and evaluation together.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from episodes.protocol import SOURCES  # noqa: E402
from fewshot.results import RowStore  # noqa: E402
from fewshot.results.aggregate import mean_and_interval  # noqa: E402
from fewshot.results.file import ROWS_FILE  # noqa: E402
from run_meta_dataset import main  # noqa: E402

SETTINGS: dict[str, tuple[str, ...]] = {
    "baseline": (),
    "finetune": ("steps=20",),
    "protonet": (),
    "matchingnet": (),
    "relationnet": (),
    "maml": ("steps=5", "extra_steps=0"),
    "proto_maml": (),
    "anil": (),
    "ctx": (),
    "ctx:simclr=0.5": (),
    "simple_cnaps": (),
}
"""The methods, with what is not published of their settings here: fewer steps, for the time."""
CLASSIFIER = ("--steps", "400", "--batch-size", "64", "--learning-rate", "3e-3")
TRAINED_ON = {"imagenet": ("ilsvrc_2012",), "all": ("all",)}
CHECKPOINT = {"imagenet": "ilsvrc_2012", "all": "multi_domain"}
SHORT = ("ILSVRC", "Omniglot", "Aircraft", "Birds", "Textures", "QuickDraw", "Fungi", "Flower")
SHORT += ("Signs", "MSCOCO")


def piece(output: Path, method: str, where: str, episodes: int) -> Path:
    """Train and evaluate, or go on, or find that it is done; its folder, with its time."""
    name, *variant = method.split(":")
    classifies = name in ("baseline", "finetune")
    folder = output / ("baseline" if classifies else method.replace(":", "-")) / where
    settings = [*SETTINGS[method], *variant[0].split(",")] if variant else [*SETTINGS[method]]
    flags = ["baseline", name, "--output", str(folder), "--episodes", str(episodes)]
    flags += ["--train-sources", *TRAINED_ON[where], "--device", "cpu"]
    flags += ["--settings", *settings] if settings else []
    if classifies:
        flags += [*CLASSIFIER, "--validation-head", "knn"]
    else:
        trained = output / "baseline" / where / f"{CHECKPOINT[where]}.safetensors"
        flags += ["--init", str(trained)]
    seconds = folder / f"{method.replace(':', '-')}.seconds.json"
    spent = json.loads(seconds.read_text()) if seconds.exists() else []
    begun = time.process_time()
    try:
        if main(flags):
            sys.exit(2)
    finally:
        folder.mkdir(parents=True, exist_ok=True)
        seconds.write_text(json.dumps([*spent, time.process_time() - begun]))
    return folder


def read(folder: Path, method: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Accuracies and chance levels of the episodes of each source, of a finished piece."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    head = {"baseline": "benchmark_knn", "finetune": "benchmark_finetune"}
    name = head.get(method, f"learned_{method.partition(':')[0]}")
    with RowStore(folder / ROWS_FILE) as store:
        rows = [
            row
            for run in store.runs()
            for row in store.rows(run.id)
            if row.head.replace(":", " ").split()[0] == name
        ]
    for source in SOURCES:
        own = [row for row in rows if row.source == source]
        if own:
            accuracies = np.array([row.accuracy for row in own])
            found[source] = accuracies, np.array([1 / row.way for row in own])
    return found


def print_table(output: Path, where: str) -> None:
    """The finished pieces of one training set."""
    print(f"\nTrained on {where}:\n\n| Method | {' | '.join(SHORT)} | Mean |")
    print("| :--- |" + " ---: |" * (len(SHORT) + 1))
    chance: dict[str, np.ndarray] = {}
    for method in SETTINGS:
        classifies = method in ("baseline", "finetune")
        folder = output / ("baseline" if classifies else method.replace(":", "-")) / where
        if not (folder / ROWS_FILE).exists():
            continue
        found = read(folder, method)
        if len(found) < len(SOURCES):
            continue
        cells, means = [], []
        for source, (accuracies, by_chance) in found.items():
            mean, interval = mean_and_interval(accuracies.tolist())
            means.append(mean or 0.0)
            above = (mean or 0) - (interval or 0) > by_chance.mean()
            cells.append(
                f"{100 * (mean or 0):.1f} ± {100 * (interval or 0):.1f}{'' if above else ' °'}"
            )
            chance[source] = by_chance
        print(f"| {method} | {' | '.join(cells)} | {100 * np.mean(means):.1f} |")
    levels = [f"{100 * level.mean():.1f}" for level in chance.values()]
    overall = 100 * np.mean([level.mean() for level in chance.values()]) if chance else 0.0
    print(f"| chance | {' | '.join(levels)} | {overall:.1f} |")


def run() -> None:
    """Carry out the pieces; print what is finished."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = [f"{method}/{where}" for where in TRAINED_ON for method in SETTINGS]
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pieces", nargs="*", default=every, choices=every)
    parser.add_argument("--episodes", type=int, default=20)
    given = parser.parse_args()
    for name in given.pieces:
        method, where = name.split("/")
        piece(given.output, method, where, given.episodes)
    for where in TRAINED_ON:
        print_table(given.output, where)
    times = {
        path: sum(json.loads(path.read_text())) for path in given.output.rglob("*.seconds.json")
    }
    print(f"\n° not above chance by its interval. {given.episodes} episodes per source.\n")
    for path, seconds in sorted(times.items()):
        print(f"- {path.name.partition('.')[0]}, {path.parent.name}: {seconds:.0f} s")
    print(f"- together: {sum(times.values()) / 60:.1f} minutes of processor time")


if __name__ == "__main__":
    run()
