"""How fast results are stored, tabled and reported: ten heads, ten sources, five seeds.

    python benchmarks/results.py [--episodes 600]

300 thousand rows as an evaluation writes them, plans of 5 to 50 classes, counts by class. Prints
seconds and megabytes beside what they should not exceed; the exit status is 1 if one does.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from episodes.protocol import SOURCES, find_protocol
from fewshot.results import ClassCount, EpisodeRow, RowStore
from run_meta_dataset import main

HEADS, SEEDS = 10, 5
LIMITS = {"table, s": 3.0, "report, s": 20.0, "store, MB": 100.0}


def draw_plan(source: str, seed: int, index: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Class ids, shots and a hash, as wide as Meta-Dataset's."""
    draw = np.random.default_rng([seed, index, *source.encode()])
    way = int(draw.integers(5, 51))
    digest = draw.bytes(8).hex()
    return draw.permutation(200)[:way], draw.integers(1, 30, way), digest


def fill(folder: Path, episodes: int) -> float:
    """Write the rows, a batch per episode number; the seconds it took."""
    protocol = find_protocol("md-v1")
    began = time.perf_counter()
    with RowStore(folder / "rows.sqlite") as store:
        store._db.execute("PRAGMA synchronous = OFF")  # the disk's speed is not the question
        for seed in range(SEEDS):
            heads = [f"head{number}" for number in range(HEADS)]
            card = {"backbone": "resnet18", "source": "ilsvrc_2012", "split": "train"}
            call = {
                "benchmark": "Meta-Dataset, md-v1",
                "protocol": {"name": "md-v1", "version": 1, "hash": protocol.hash},
                "image": {"size": 84, "rule": "official"},
                "backbones": [card | {"classes": [str(i) for i in range(712)], "weights": "w"}],
                "heads": {head: {"transductive": False, "settings": {}} for head in heads},
            }
            run = store.begin({"seed": seed, "split": "test"}, {}, call).run
            for source in SOURCES:
                for index in range(episodes):
                    ids, shots, digest = draw_plan(source, seed, index)
                    rows = [
                        make_row(head, skill, source, seed, index, (ids, shots, digest))
                        for skill, head in enumerate(heads)
                    ]
                    store.add(run, rows)
    return time.perf_counter() - began


def make_row(
    head: str,
    skill: int,
    source: str,
    seed: int,
    index: int,
    plan: tuple[np.ndarray, np.ndarray, str],
) -> EpisodeRow:
    """A row of a head that is the better the higher its number."""
    ids, shots, digest = plan
    draw = np.random.default_rng([seed, index, skill])
    right = draw.binomial(10, 0.4 + 0.03 * skill, len(ids))
    total, way = int(right.sum()), len(ids)
    counts = zip(ids.tolist(), shots.tolist(), [10] * way, right.tolist(), strict=True)
    classes = tuple(ClassCount(*values) for values in counts)
    sizes = (way, int(shots.sum()), 10 * way, total)
    accuracy = total / (10 * way)
    return EpisodeRow(
        head, source, "test", seed, index, accuracy, *sizes, digest, 0.01, classes=classes
    )


def timed(*arguments: object) -> float:
    """Seconds of a command."""
    began = time.perf_counter()
    if main([*map(str, arguments)]):
        sys.exit("a command failed")
    return time.perf_counter() - began


def benchmark() -> int:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=600)
    episodes = parser.parse_args().episodes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "runs"
        written = fill(folder, episodes)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        table = timed("table", folder, "--published", "imagenet", "--out", Path(name) / "t.md",
                      "--format", "markdown")  # fmt: skip
        report = timed("report", folder, "--out", Path(name) / "report.html")
    rows = HEADS * len(SOURCES) * SEEDS * episodes
    print(f"{rows} rows written in {written:.1f} s, {written / rows * 1e6:.0f} µs a row")
    found = {"table, s": table, "report, s": report, "store, MB": size}
    for what, value in found.items():
        print(f"{what:<12} {value:8.2f}  of at most {LIMITS[what]:g}")
    return int(any(value > LIMITS[what] for what, value in found.items()))


if __name__ == "__main__":
    sys.exit(benchmark())
