"""Memory and open files of a process that evaluates many episodes; prints a Markdown table.

    python benchmarks/long_run.py [--episodes 2000] [--warm-up 400] [--records DIR]

One source of the miniature, one head, a small network. What is planned is held from the start;
after the warm-up nothing may grow with the number of episodes. The exit status is 1 if memory grew
by more than 5 MB or a file stayed open.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from episodes.miniature import draw_miniature
from fewshot.backbones import build_backbone
from fewshot.checkpoint import Card, save_checkpoint
from fewshot.experiment import Experiment
from fewshot.listener import Listener
from fewshot.run import carry_out

MOST_GROWTH = 5.0
"""Megabytes."""


def resident() -> float:
    """Megabytes of memory that this process occupies."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """Descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a list, not paths


def watch(folder: Path, records: Path, episodes: int) -> list[tuple[int, float, int]]:
    """Episodes done, megabytes and open files, as an evaluation goes on."""
    name, path = "four_layer_convnet", folder / "weights.safetensors"
    card = Card(name, "none", "dtd", "train", ("a", "b"), 32, "official", "md-v1", 0)
    save_checkpoint(path, build_backbone(name, 2, 0), card)
    seen: list[tuple[int, float, int]] = []

    def progress(work: str, done: int, total: int, note: str) -> None:
        if work == "dtd" and (not seen or done > seen[-1][0]):
            seen.append((done, resident(), open_files()))

    experiment = Experiment(
        backbone=(name,),
        heads=("prototypical",),
        records=records,
        sources=("dtd",),
        episodes=episodes,
        image_size=32,
        checkpoint=(path,),
        device="cpu",
        threads=1,
        output=folder / "run",
        features=str(folder / "features"),
    )
    carry_out(experiment.check(), Listener(progress=progress))
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--warm-up", type=int, default=400)
    parser.add_argument("--records", type=Path, help="the miniature, if it is drawn already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        records = draw_miniature(options.records or Path(folder) / "records")
        seen = watch(Path(folder), records, options.episodes)
    print("| episodes | memory, MB | open files |\n| ---: | ---: | ---: |")
    for done, memory, files in seen[:: max(1, len(seen) // 12)]:
        print(f"| {done} | {memory:.1f} | {files} |")
    warm = [(memory, files) for done, memory, files in seen if done >= options.warm_up]
    growth, files = (max(column) - column[0] for column in zip(*warm, strict=True))
    print(
        f"\nAfter {options.warm_up} episodes memory grew by {growth:.1f} MB, open files by {files}."
    )
    return int(growth > MOST_GROWTH or files > 0)


if __name__ == "__main__":
    sys.exit(main())
