"""How fast training streams give images, beside reading the same images without a stream.

    python benchmarks/streams.py --records DIR [--size 84] [--batch 64] [--batches 8] [--workers 2]

Per source and augmentation the same images are read plainly (`ImageReader.read`, batch by batch),
through the stream in this process, and through the stream with workers; the three take turns and
each rate is the best of several rounds, with warm file caches. The clock starts when twice as many
batches as there are workers were taken, so that it sees them at work and not what they had ready.
Small images take more batches to measure; a machine that others use shows workers too slow.
Last comes a mixture of the sources, beside reading the plans of the same episodes.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

ROUNDS = 4
EPISODES = 6


def rate(images_of: Iterator[int], warm: int, counted: int) -> float:
    """Images per second of an iterator over the sizes of batches, after the first few."""
    sum(islice(images_of, warm))
    started = time.perf_counter()
    return sum(islice(images_of, counted)) / (time.perf_counter() - started)


def fastest(jobs: Sequence[Callable[[], float]]) -> list[float]:
    """The best rate of each job over several rounds, in which the jobs take turns."""
    rounds = [[job() for job in jobs] for _ in range(ROUNDS)]
    return [max(rates) for rates in zip(*rounds, strict=True)]


def compared(rates: list[float]) -> list[str]:
    """Table cells: the first rate, then each other with its ratio to the first."""
    cells = [f"{rates[0]:,.0f}"]
    for one in rates[1:]:
        cells += [f"{one:,.0f}", f"{one / rates[0]:.2f}"]
    return cells


def labelled(options: argparse.Namespace, source: str, augment: str | None) -> list[float]:
    """Rates of labelled batches: plain reading, the stream, the stream with workers."""
    from episodes.augmentation import find_augmentation
    from episodes.loader import LabelledImages
    from episodes.streams import LabelledStream

    images = LabelledImages(options.records, source, "train", options.size)
    augmentation = find_augmentation(augment, options.size) if augment else None

    def start() -> LabelledStream:
        return LabelledStream(images, options.batch, 0, "drop", augmentation=augmentation)

    def plain() -> Iterator[int]:
        share = start().share(0)
        for first in range(0, len(share), options.batch):
            yield len(images.reader.read(*images.locate(share[first : first + options.batch])))

    def stream(workers: int) -> Iterator[int]:
        return (len(batch.labels) for batch in start().batches(workers))

    ahead, counted = 2 * options.workers, options.batches
    return fastest(
        [
            lambda: rate(plain(), 1, counted),
            lambda: rate(stream(0), 1, counted),
            lambda: rate(stream(options.workers), 1 + ahead, counted),
        ]
    )


def mixed(options: argparse.Namespace, sources: list[str]) -> list[float]:
    """Rates of the episodes of a mixture: plain reading, the stream, the stream with workers."""
    from episodes import EpisodeReader
    from episodes.mixture import EpisodeMixture, EpisodeStream

    mixture = EpisodeMixture(
        [EpisodeReader(options.records, source, "train", size=options.size) for source in sources]
    )
    ahead = 2 * options.workers
    plans = [mixture.plan(index) for index in range(1 + ahead + EPISODES)]

    def plain() -> Iterator[int]:
        for plan in plans[1 + ahead :]:
            mixture.reader(plan.index).read(plan)
            yield len(plan.support_images) + len(plan.query_images)

    def stream(workers: int) -> Iterator[int]:
        taken = EpisodeStream(mixture)
        taken.next = 0 if workers else ahead
        return (len(e.support_labels) + len(e.query_labels) for e in taken.episodes(workers))

    return fastest(
        [
            lambda: rate(plain(), 0, EPISODES),
            lambda: rate(stream(0), 1, EPISODES),
            lambda: rate(stream(options.workers), 1 + ahead, EPISODES),
        ]
    )


def main() -> None:
    """Measure everything that the options ask for."""
    import torch

    from episodes.augmentation import AUGMENTATIONS

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--size", type=int, default=84)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=8, help="counted in each round")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of this process")
    parser.add_argument("--sources", nargs="*", default=["ilsvrc_2012", "omniglot", "vgg_flower"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.records}")
    print(f"batches of {options.batch}, {options.size} pixels, {options.threads} threads\n")
    workers = f"{options.workers} workers, images/s"
    print(f"| images | plain reading, images/s | stream, images/s | ratio | {workers} | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for source in options.sources:
        for augment in (None, *AUGMENTATIONS):
            cells = compared(labelled(options, source, augment))
            print(f"| {source}, {augment or 'as they are'} | {' | '.join(cells)} |", flush=True)
    cells = compared(mixed(options, options.sources))
    print(f"| episodes of all {len(options.sources)} | {' | '.join(cells)} |")
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
