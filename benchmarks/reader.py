"""How fast images are read, beside what the machine can do at best; prints Markdown tables.

    python benchmarks/reader.py --records DIR [--size 84] [--threads 2] [--images 600]

Every rate stands beside a baseline of the same run, on the same bytes with the same threads:
decoding and resizing bytes that lie in memory, copying memory, reading files from end to end.
Rates are the best of several rounds that alternate with their baseline, with warm file caches.
On a machine that does other work too, the ratio in CPU time is the one to trust; it does not see
threads that wait for each other.
The records must be indexed or writable; packs go to a temporary folder.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUNDS = 5
BATCH = 300  # images per call, about an episode's


def fastest(
    *jobs: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Seconds of each job: the least of several rounds, in which the jobs take turns."""
    best = [float("inf")] * len(jobs)
    for _ in range(ROUNDS):
        for number, job in enumerate(jobs):
            started = clock()
            job()
            best[number] = min(best[number], clock() - started)
    return best


def table(title: str, header: str, rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    names = header.split(" | ")
    print(f"\n### {title}\n")
    print("| " + " | ".join(names) + " |")
    print("|" + " --- |" + " ---: |" * (len(names) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


# ---- reading from records --------------------------------------------------------------------


@dataclass
class Sample:
    """Images of one split, as consecutive episodes ask for them."""

    reader: Any
    class_ids: Any
    images: Any
    encoded: list[bytes]


def draw_sample(records: Path, source: str, size: int, rule: str, images: int) -> Sample:
    """The first images that the test episodes of a source need."""
    import numpy as np

    from episodes import EpisodeReader

    episodes = EpisodeReader(records, source, "test", size=size, rule=rule)
    class_ids, numbers, index = np.empty(0, int), np.empty(0, int), 0
    while len(numbers) < images:
        plan = episodes.plan(index)
        class_ids = np.concatenate([class_ids, plan.support_class_ids, plan.query_class_ids])
        numbers = np.concatenate([numbers, plan.support_images, plan.query_images])
        index += 1
    class_ids, numbers = class_ids[:images], numbers[:images]
    read = episodes.images.encoded.read
    encoded = [read(int(k), np.asarray([i]))[0][0] for k, i in zip(class_ids, numbers, strict=True)]
    return Sample(episodes.images, class_ids, numbers, encoded)


def bare(sample: Sample, threads: int) -> None:
    """Decode and resize bytes that are in memory, in a loop per thread, and nothing else."""
    import numpy as np

    from episodes.images import IMAGE_RULES

    rule, size = IMAGE_RULES[sample.reader.rule], sample.reader.size

    def work(part: list[bytes]) -> None:
        out = np.empty((len(part), 3, size, size), rule.dtype)
        for image, place in zip(part, out, strict=True):
            rule.load(image, place)

    portions = [sample.encoded[k : k + 16] for k in range(0, len(sample.encoded), 16)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, portions))


def through_reader(sample: Sample) -> None:
    """The same images through the reader, from their files, a batch at a time."""
    for start in range(0, len(sample.images), BATCH):
        part = slice(start, start + BATCH)
        sample.reader.read(sample.class_ids[part], sample.images[part])


def measure_records(options: argparse.Namespace, sources: list[str]) -> None:
    """Images per second from records, under both rules."""
    import torch

    torch.set_num_threads(options.threads)
    for rule in ("official", "antialiased"):
        rows = []
        for source in sources:
            sample = draw_sample(options.records, source, options.size, rule, options.images)
            jobs = (
                lambda sample=sample: bare(sample, options.threads),
                lambda sample=sample: through_reader(sample),
            )
            best, ours = fastest(*jobs)
            best_cpu, our_cpu = fastest(*jobs, clock=time.process_time)
            count = len(sample.encoded)
            kilobytes = sum(map(len, sample.encoded)) / count / 1e3
            row = [source, f"{kilobytes:.1f}", f"{count / best:,.0f}", f"{count / ours:,.0f}"]
            row += [f"{best / ours:.2f}", f"{best_cpu / our_cpu:.2f}"]
            if rule == "antialiased":
                row += differences(sample)
            rows.append(row)
        header = "source | kB per image | bare decode + resize, images/s | reader, images/s"
        header += " | ratio | in CPU time"
        if rule == "antialiased":
            header += " | scaled decoding | mean difference | 99.9 % | max"
        table(f"From records, rule `{rule}`, {options.threads} threads", header, rows)
    print("\nDifference: scaled against full decoding under the same low-pass, in grey levels.")


def differences(sample: Sample) -> list[str]:
    """What the decoder's own scaling changes: share of images, mean, 99.9 % point, maximum."""
    import numpy as np
    import torch

    from episodes.images import IMAGE_RULES, SPARE, decode

    size, scaled, found = sample.reader.size, 0, []
    few = sample.encoded[:100]
    for image in few:
        kept = np.empty((3, size, size), np.uint8)
        IMAGE_RULES[sample.reader.rule].load(image, kept)
        pixels = decode(image)
        whole = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        full = torch.nn.functional.interpolate(
            whole, (size, size), mode="bilinear", align_corners=False, antialias=True
        )
        scaled += decode(image, SPARE * size).shape != pixels.shape
        found.append(np.abs(kept.astype(int) - full[0].numpy()))
    every = np.concatenate([one.ravel() for one in found])
    if not scaled:
        return ["0 %", "0", "0", "0"]
    point = np.percentile(every, 99.9)
    return [
        f"{100 * scaled / len(few):.0f} %",
        f"{every.mean():.2f}",
        f"{point:.0f}",
        f"{every.max()}",
    ]


# ---- reading from packs ----------------------------------------------------------------------


def measure_packs(options: argparse.Namespace, source: str) -> None:
    """Images per second and core from packs, beside copying the same bytes."""
    import google_crc32c
    import numpy as np
    import torch

    from episodes import ImageReader
    from episodes.images import IMAGE_RULES, to_unit_range
    from episodes.packing import pack_split
    from episodes.packs import pack_folder

    torch.set_num_threads(options.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for rule in IMAGE_RULES:
            reader = ImageReader(options.records, source, "test", options.size, rule, folder)
            started = time.perf_counter()
            done = pack_split(
                reader.encoded,
                reader.split,
                reader.rule,
                reader.size,
                pack_folder(reader.spec, folder),
                options.threads,
            )
            packing = done.images / (time.perf_counter() - started)
            reader = ImageReader(options.records, source, "test", options.size, rule, folder)
            counts = np.asarray(reader.spec.images_in_split(reader.split))
            rng = np.random.RandomState(0)
            relative = rng.choice(len(counts), BATCH)
            class_ids = relative + reader.spec.split_classes[reader.split].start
            images = rng.randint(counts[relative])
            pixels = reader.pack.read(class_ids, images)
            pixels.flags.writeable = False

            def checksums(pixels: Any = pixels) -> None:
                for image in pixels:
                    google_crc32c.value(image)

            def copy(pixels: Any = pixels) -> None:
                # what cannot be avoided: one copy, and the conversion of what is uint8
                to_unit_range(np.array(pixels))

            seconds = fastest(
                copy,
                lambda reader=reader, k=class_ids, i=images: reader.read(k, i),
                checksums,
                clock=time.thread_time,
            )
            best, ours, sums = seconds
            rows.append(
                [
                    rule,
                    f"{IMAGE_RULES[rule].image_bytes(options.size):,}",
                    f"{packing:,.0f}",
                    f"{BATCH / best:,.0f}",
                    f"{BATCH / ours:,.0f}",
                    f"{best / ours:.2f}",
                    f"{1e6 * sums / BATCH:.1f} µs ({100 * sums / ours:.0f} %)",
                ]
            )
    header = (
        "rule | bytes per image | packed, images/s | copy + convert, images/s | "
        "reader, images/s | ratio | of which checksums"
    )
    table(f"From packs ({source}), one core", header, rows)


# ---- opening and indexing --------------------------------------------------------------------


def open_everything(records: Path, sources: list[str], size: int, answer: Any) -> None:
    """In a new process: what opening costs, before and after the first tensor needs torch."""
    started = time.perf_counter()
    from episodes import EpisodeReader

    imported = time.perf_counter() - started
    readers = [EpisodeReader(records, source, "test", size=size) for source in sources]
    opened = time.perf_counter() - started
    memory, files = resident(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    started = time.perf_counter()
    import torch

    torch_imported, with_torch = time.perf_counter() - started, resident()
    torch.set_num_threads(2)
    firsts = []
    for reader in readers:
        started = time.perf_counter()
        episode = reader[0]
        firsts.append((time.perf_counter() - started, len(episode.support_images)))
    answer.put((imported, opened, memory, files, torch_imported, with_torch, firsts))


def resident() -> float:
    """Megabytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_opening(options: argparse.Namespace, sources: list[str]) -> None:
    """Seconds, memory and files of opening all sources, and each source's first episode."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    job = context.Process(
        target=open_everything, args=(options.records, sources, options.size, answer)
    )
    job.start()
    imported, opened, memory, files, torch_imported, with_torch, firsts = answer.get()
    job.join()
    rows = [
        ["import of `episodes`", f"{imported:.2f} s"],
        [f"import, and {len(sources)} sources open", f"{opened:.2f} s"],
        ["memory with all sources open", f"{memory:.0f} MB"],
        ["open files", str(files)],
        ["import of torch, by the first tensor", f"{torch_imported:.2f} s"],
        ["memory with torch", f"{with_torch:.0f} MB"],
    ]
    rows += [
        [f"first episode of {source} ({support} support images)", f"{seconds:.2f} s"]
        for source, (seconds, support) in zip(sources, firsts, strict=True)
    ]
    table("Opening, in a new process", "what | cost", rows)


def measure_indexing(options: argparse.Namespace, sources: list[str]) -> None:
    """Seconds per record of scanning headers, beside reading the files from end to end."""
    from episodes import load_spec
    from episodes.tfrecord import scan_offsets

    rows = []
    for source in sources:
        spec = load_spec(options.records / source)
        files = [spec.class_file(k) for k in range(len(spec.class_names))]
        records = sum(spec.images_per_class)
        size = sum(path.stat().st_size for path in files)

        def everywhere(job: Callable[[Path], Any], files: list[Path] = files) -> None:
            with ThreadPoolExecutor(options.threads) as pool:
                list(pool.map(job, files))

        whole, scan = fastest(
            lambda run=everywhere: run(Path.read_bytes), lambda run=everywhere: run(scan_offsets)
        )
        rows.append(
            [
                source,
                f"{records:,}",
                f"{size / records / 1e3:.1f}",
                f"{size / whole / 1e9:.1f}",
                f"{1e6 * scan / records:.2f}",
                f"{40_000 * scan / records:.2f}",
                f"{50e6 * scan / records:.0f}",
            ]
        )
    header = (
        "source | records | kB per record | whole files, GB/s | scan, µs per record | "
        "40 thousand records, s | 50 million records, s"
    )
    table(f"Indexing, {options.threads} threads, warm file cache", header, rows)


def main() -> None:
    """Measure everything that the options ask for."""
    from episodes.protocol import SOURCES

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--size", type=int, default=84)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=600, help="per source and round")
    parser.add_argument("--sources", nargs="*", default=list(SOURCES))
    options = parser.parse_args()
    sources = [name for name in options.sources if (options.records / name).is_dir()]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.records}")
    measure_opening(options, sources)
    measure_indexing(options, sources)
    measure_records(options, sources)
    measure_packs(options, "traffic_sign" if "traffic_sign" in sources else sources[-1])
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
