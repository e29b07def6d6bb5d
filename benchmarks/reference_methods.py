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
    "proto_maml": ("steps=5", "extra_steps=0"),
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
    """Accuracies and chance levels of the episodes of each source, of a piece's last run."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    head = {"baseline": "benchmark_knn", "finetune": "benchmark_finetune"}
    name = head.get(method, f"learned_{method.partition(':')[0]}")
    with RowStore(folder / ROWS_FILE) as store:
        runs = [store.rows(run.id) for run in store.runs()]
    of_runs = ([r for r in rows if r.head.replace(":", " ").split()[0] == name] for rows in runs)
    rows = [own for own in of_runs if own][-1]  # those before are of other weights or settings
    for source in SOURCES:
        own = sorted((r for r in rows if r.source == source), key=lambda row: row.index)
        if own:
            accuracies = np.array([row.accuracy for row in own])
            found[source] = accuracies, np.array([1 / row.way for row in own])
    return found


def finished(output: Path, where: str) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """What `read` gives, of the methods that are evaluated on all sources."""
    pieces = {}
    for method in SETTINGS:
        classifies = method in ("baseline", "finetune")
        folder = output / ("baseline" if classifies else method.replace(":", "-")) / where
        if (folder / ROWS_FILE).exists() and len(found := read(folder, method)) == len(SOURCES):
            pieces[method] = found
    return pieces


def percent(accuracies: list[np.ndarray]) -> tuple[float, float]:
    """Mean over sources, and its interval over episodes, in %."""
    each = [mean_and_interval(one.tolist()) for one in accuracies]
    mean = np.mean([mean or 0.0 for mean, _ in each])
    interval = np.linalg.norm([interval or 0.0 for _, interval in each]) / len(each)
    return 100 * float(mean), 100 * float(interval)


def print_table(output: Path, where: str) -> None:
    """The finished pieces of one training set."""
    print(f"\nTrained on {where}:\n\n| Method | {' | '.join(SHORT)} | Mean | − protonet |")
    print("| :--- |" + " ---: |" * (len(SHORT) + 2))
    pieces = finished(output, where)
    beside = pieces.get("protonet")
    for method, found in pieces.items():
        cells = []
        for accuracies, by_chance in found.values():
            mean, interval = percent([accuracies])
            above = mean - interval > 100 * by_chance.mean()
            cells.append(f"{mean:.1f} ± {interval:.1f}{'' if above else ' °'}")
        cells.append("{:.1f} ± {:.1f}".format(*percent([one for one, _ in found.values()])))
        paired = [found[source][0] - beside[source][0] for source in found] if beside else []
        differs = any(difference.any() for difference in paired)
        cells.append("{:+.1f} ± {:.1f}".format(*percent(paired)) if differs else "")
        print(f"| {method} | {' | '.join(cells)} |")
    if pieces:
        levels = [100 * by_chance.mean() for _, by_chance in next(iter(pieces.values())).values()]
        print(f"| chance | {' | '.join(f'{x:.1f}' for x in [*levels, np.mean(levels)])} | |")


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
        print(f"- {path.name.removesuffix('.seconds.json')}, {path.parent.name}: {seconds:.0f} s")
    print(f"- together: {sum(times.values()) / 60:.1f} minutes of processor time")


if __name__ == "__main__":
    run()
