"""Does training learn? Eight single-domain networks, MDL and URL on the miniature, compared.

    python benchmarks/training.py --output DIR [--episodes 60]

Trains by configs/training/miniature.yaml one network per source, then one for all (MDL), then one
taught by the eight (URL); evaluates all ten on the same episodes of every source by nearest
centroids, and SUR over the eight. Interrupted, the same command goes on. Prints, as Markdown:
backbone × source with 95 % intervals, and SUR minus the best single network, paired; and the
processor time of each part.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from episodes.protocol import find_protocol  # noqa: E402
from fewshot.results import RowStore  # noqa: E402
from fewshot.results.aggregate import mean_and_interval  # noqa: E402
from fewshot.results.file import ROWS_FILE  # noqa: E402
from run_meta_dataset import main  # noqa: E402

CONFIG = PROJECT / "configs" / "training" / "miniature.yaml"
JOINT = ["--batch-size", "64", "--steps", "200", "--learning-rate", "0.02"]
BACKBONE, SIZE = "resnet18", "48"
HEAD = "prototypical:distance=cosine"
SOURCES = find_protocol("md-v1").train_sources


def timed(output: Path, name: str, end: Path, arguments: list[str]) -> None:
    """Run one command of the program, unless it has ended; add up its time over interruptions."""
    file = output / "seconds.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    ended, status = end.exists(), 2
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        status = main(arguments)
    finally:
        if not ended:
            before = known.get(name, [0.0, 0.0])
            spent = [time.perf_counter() - wall, time.process_time() - cpu]
            known[name] = [one + more for one, more in zip(before, spent, strict=True)]
            output.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(known))
    if status:
        sys.exit(status)


def train_all(output: Path) -> dict[str, Path]:
    """The checkpoints of all ten networks."""
    common = ["train", "--config", str(CONFIG), "--output", str(output), "--device", "cpu"]
    single = {source: output / f"{source}.safetensors" for source in SOURCES}
    for source in SOURCES:
        # ImageNet has four times the classes of the others, and learns little in as few steps.
        longer = ["--steps", "800"] if source == "ilsvrc_2012" else []
        timed(output, source, single[source], [*common, *longer, "--train-sources", source])
    joint = [*common, *JOINT, "--train-sources", *SOURCES]
    taught = ["--teachers", *map(str, single.values())]
    for method, more in (("multi_domain", []), ("distillation", taught)):
        end = output / f"{method}.safetensors"
        timed(output, method, end, [*joint, "--method", method, *more])
    return single | {n: output / f"{n}.safetensors" for n in ("multi_domain", "distillation")}


def evaluate(output: Path, name: str, paths: list[Path], heads: list[str], episodes: int) -> dict:
    """Accuracies by (head, source) of heads on checkpoints."""
    folder = output / name
    flags = ["--backbone", BACKBONE, "--image-size", SIZE, "--episodes", str(episodes)]
    flags += ["--checkpoint", *map(str, paths), "--heads", *heads, "--output", str(folder)]
    timed(output, name, folder / "table.md", [*flags, "--device", "cpu"])
    with RowStore(folder / ROWS_FILE) as store:
        (run,) = store.runs()
        return store.accuracies(run.id)


def cell(accuracies: np.ndarray, bold: bool = False) -> str:
    mean, interval = mean_and_interval(accuracies)
    mark = "**" if bold else ""
    return f"{mark}{100 * mean:.1f}{mark} ± {100 * interval:.1f}"


def report(single: dict, joint: dict, sources: tuple[str, ...]) -> None:
    """Print both tables."""
    rows = {f"{s} alone": f"{HEAD} @ {BACKBONE}#{k}" for k, s in enumerate(SOURCES, 1)}
    found = {
        **{name: {s: single[label, s] for s in sources} for name, label in rows.items()},
        "MDL": {s: joint[f"{HEAD} @ {BACKBONE}#1", s] for s in sources},
        "URL, distilled": {s: joint[f"{HEAD} @ {BACKBONE}#2", s] for s in sources},
        "SUR over the eight": {s: single["sur", s] for s in sources},
    }
    print("| network | " + " | ".join(sources) + " |")
    print("|---|" + "---:|" * len(sources))
    for name, accuracies in found.items():
        best = {s: max(one[s].mean() for one in found.values()) for s in sources}
        cells = [cell(a, bold=a.mean() == best[s]) for s, a in accuracies.items()]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| source | best single network | own minus best other, paired | SUR minus best |")
    print("|---|---|---:|---:|")
    for source in sources:
        alone = {name: found[name][source] for name in rows}
        best = max(alone, key=lambda name: alone[name].mean())
        own = alone.pop(f"{source} alone", None)
        other = max(alone, key=lambda name: alone[name].mean())
        versus = "" if own is None else difference(own, alone[other])
        if own is not None:
            alone[f"{source} alone"] = own
        sur = difference(found["SUR over the eight"][source], alone[best])
        print(f"| {source} | {best} | {versus} | {sur} |")


def difference(first: np.ndarray, second: np.ndarray) -> str:
    """Mean of the paired differences and its 95 % interval, in points."""
    gap = first - second
    return f"{100 * gap.mean():+.1f} ± {196 * gap.std() / math.sqrt(len(gap)):.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=60)
    options = parser.parse_args()
    paths = train_all(options.output)
    eight = [paths[source] for source in SOURCES]
    alone = evaluate(options.output, "eight", eight, [HEAD, "sur"], options.episodes)
    both = [paths["multi_domain"], paths["distillation"]]
    together = evaluate(options.output, "joint", both, [HEAD], options.episodes)
    report(alone, together, find_protocol("md-v1").test_sources)
    seconds = json.loads((options.output / "seconds.json").read_text())
    print("\n" + ", ".join(f"{n} {cpu:.0f} s" for n, (_, cpu) in seconds.items()) + " of CPU")
