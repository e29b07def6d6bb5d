"""One worker against two, the driver's own time, and what a full study takes.

    python benchmarks/scaling.py [images] [heads] [driver] [--records DIR] [--sources NAME ...]
    python benchmarks/scaling.py --study --records DIR

The first needs two free cores. It evaluates the same episodes with one and with two workers of
one thread each, from the moment when all have joined, and prints the ratio of the times: where
images are embedded (features are not kept), and where heads work on features that are there. It
also prints how busy the driver is per episode: it plans, gives out, stores rows and draws bars.

The second prints a table of hours from the episodes of the records (as `describe` counts them),
the operations of every network (counted), and ASSUMED speeds of a GPU: see `Speeds`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

from episodes import Split
from episodes.miniature import draw_miniature
from episodes.protocol import find_protocol
from episodes.sampling import EpisodeSampler
from episodes.source import find_spec
from episodes.workload import measure_workload
from fewshot.backbones import build_backbone
from fewshot.checkpoint import Card, save_checkpoint
from fewshot.experiment import Experiment
from fewshot.listener import Listener
from fewshot.run import carry_out
from fewshot.work.bench import Bench, Order
from fewshot.work.crew import Follow, Joined, Report
from fewshot.work.processes import Processes

# ---- one worker against two ------------------------------------------------------------------


DIVIDED_FOR = 2
"""Workers: the pieces are the same ones, whoever does them."""


class Timed(Processes):
    """A crew that begins when all its workers have joined.

    Attributes:
        work: seconds from then until the last report.
        waited: seconds of these that the driver waited for reports.
    """

    def __enter__(self) -> "Timed":
        super().__enter__()
        joined = [super(Timed, self).report(lambda *_: None) for _ in range(self.size)]
        assert all(isinstance(one, Joined) for one in joined)
        self._reports.extend(joined)
        self.size = DIVIDED_FOR
        self.work, self.waited, self._began = 0.0, 0.0, time.perf_counter()
        return self

    def report(self, follow: Follow) -> Report:
        asked = time.perf_counter()
        found = super().report(follow)
        now = time.perf_counter()
        self.waited += now - asked
        self.work = now - self._began
        return found


def measure(experiment: Experiment, output: Path) -> Timed:
    """Carry an experiment out by a timed crew."""
    crews: list[Timed] = []

    def muster(bench: Bench, order: Order, listener: Listener) -> Timed:
        crews.append(Timed(order, order.experiment.workers or 1))
        return crews[0]

    with patch("fewshot.run.muster", muster):
        carry_out(replace(experiment, output=output).check(), Listener())
    return crews[0]


def compare(folder: Path, experiment: Experiment, what: str) -> None:
    """Print how much faster two workers are than one, after a short run that warms up."""
    measure(replace(experiment, workers=2, episodes=2), folder / f"{what}, warming up")
    one, two = (measure(replace(experiment, workers=n), folder / f"{what}{n}").work for n in (1, 2))
    print(f"{what}: {one:.1f} s by one worker, {two:.1f} s by two: {one / two:.2f}", flush=True)


def watch_driver(folder: Path, experiment: Experiment) -> None:
    """Print how busy the driver is while two workers score a cheap head."""
    crew = measure(replace(experiment, workers=2), folder / "cheap")
    count = len(experiment.sources) * experiment.episodes
    busy = 1000 * (crew.work - crew.waited) / count
    print(f"driver: busy for {busy:.2f} ms per episode ({count} episodes, two workers)", flush=True)


def scale(folder: Path, records: Path, sources: Sequence[str], names: Sequence[str]) -> None:
    """Carry out the parts that are named."""
    name, path = "resnet18", folder / "weights.safetensors"
    card = Card(name, "none", "dtd", "train", ("a", "b"), 84, "official", "md-v1", 0)
    save_checkpoint(path, build_backbone(name, 2, 0), card)
    base = Experiment(
        backbone=(name,),
        heads=("prototypical",),
        episodes=60,
        records=records,
        sources=tuple(sources),
        checkpoint=(path,),
        device="cpu",
        threads=1,
        features=str(folder / "features"),
    )
    if set(names) - {"images"}:
        measure(replace(base, workers=2), folder / "embedding")
    if "images" in names:
        compare(folder, replace(base, episodes=12, features="none"), "images")
    if "heads" in names:
        compare(folder, replace(base, heads=("finetune", "url"), episodes=20), "heads")
    if "driver" in names:
        watch_driver(folder, replace(base, episodes=300))


# ---- a full study ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Speeds:
    """What is assumed of one GPU and of its machine; nothing of it is measured here.

    Attributes:
        operations: floating-point operations per second that a forward pass reaches: a third of
            the 19.5·10¹² that an A100 has in float32.
        images: per second that the CPU cores beside one GPU read and decode.
        head: seconds of a frozen head on one episode.
        start: seconds until a worker has opened everything, once per backbone and seed.
    """

    operations: float = 6.5e12
    images: float = 2000.0
    head: float = 0.05
    start: float = 20.0


STUDY = (("resnet18", 84), ("resnet18", 224), ("resnet34", 224), ("resnet50", 224))
FROZEN, TUNED_STEPS, SEEDS, EPISODES = 4, 40, 3, 600
BACKWARD = 3
"""Forward and backward pass together, in forward passes."""


def operations(name: str, size: int) -> float:
    """Of the forward pass of one image; a multiplication with its addition counts two."""
    backbone, counter = build_backbone(name, 2, 0).eval(), FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        backbone(torch.zeros(1, 3, size, size))
    return float(counter.get_total_flops())


def predict(records: Path, sources: Sequence[str], speeds: Speeds) -> None:
    """Print the hours of a study on 1, 8 and 64 GPUs."""
    unique = support = images = 0.0
    for source in sources:
        sampler = EpisodeSampler(find_spec(records, source), Split.TEST, find_protocol("md-v1"))
        load = measure_workload(sampler, 0, EPISODES, lambda class_id: 0.0)
        unique, images = unique + load.unique_images, images + load.images
        support += load.support.mean * EPISODES
    print(
        f"{len(sources)} sources × {EPISODES} episodes: {unique:,.0f} different images, "
        f"{support:,.0f} support images, {images:,.0f} images with repetition.\n"
    )
    print("| network | G operations an image | embed | frozen heads | tuned head, alone |")
    print("| --- | ---: | ---: | ---: | ---: |")
    episodes = EPISODES * len(sources)
    totals, longest = [0.0, 0.0], 0.0
    for name, size in STUDY:
        cost = operations(name, size)
        embed = unique * max(cost / speeds.operations, 1 / speeds.images)
        heads = episodes * FROZEN * speeds.head
        passes = TUNED_STEPS * BACKWARD * support + images
        tuned = max(passes * cost / speeds.operations, images / speeds.images)
        longest = max(longest, TUNED_STEPS * BACKWARD * 500 * cost / speeds.operations)
        hours = [f"{seconds / 3600:.2f} h" for seconds in (embed, heads, tuned)]
        print(f"| {name}, {size} px | {cost / 1e9:.2f} | {' | '.join(hours)} |")
        totals[0] += SEEDS * (speeds.start + embed + heads)
        totals[1] += SEEDS * tuned
    print(f"\n| {len(STUDY)} networks × {SEEDS} seeds | 1 GPU | 8 GPUs | 64 GPUs |")
    print("| --- | ---: | ---: | ---: |")
    rounds = SEEDS * len(STUDY)
    for what, seconds in {
        f"{FROZEN} heads on features": totals[0],
        f"and one that tunes the network, {TUNED_STEPS} steps": sum(totals),
    }.items():
        hours = [
            (seconds / gpus + (gpus > 1) * rounds * (speeds.start + longest / 2)) / 3600
            for gpus in (1, 8, 64)
        ]
        print(f"| {what} | {' | '.join(f'{one:,.1f} h' for one in hours)} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="images, heads, driver; all when none is named")
    parser.add_argument("--records", type=Path, help="the miniature when not given")
    parser.add_argument("--sources", nargs="+", default=["dtd", "vgg_flower", "cu_birds"])
    parser.add_argument("--study", action="store_true", help="the table of hours")
    options = parser.parse_args()
    if options.study:
        names = sorted(path.parent.name for path in options.records.glob("*/dataset_spec.json"))
        predict(options.records, names, Speeds())
        return 0
    names = options.parts or ["images", "heads", "driver"]
    with tempfile.TemporaryDirectory() as folder:
        records = options.records or draw_miniature(Path(folder) / "records")
        scale(Path(folder), records, options.sources, names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
