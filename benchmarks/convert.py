"""How fast raw data become records, beside doing no more than has to be done.

    python benchmarks/convert.py [--jobs 2] [--scale 1] [--folder DIR]

Raw data of the true sizes are made in a temporary folder (up to 900 MB at scale 1). Each source is
converted, and the bare work is done on the same files by as many processes: reading files and
writing their bytes where they are kept (a file per class, no framing, no checksums, no look at the
image), encoding where there are only drawings, decoding each image once and encoding its crops
where there are boxes. Both take turns; each rate is the best of several rounds, with warm caches.
The last column compares the work done in a second of processor time, which others on the machine
disturb less.
"""

import argparse
import io
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from episodes.convert import open_raw
from episodes.convert.conversion import convert
from episodes.convert.crops import crop_box
from episodes.convert.source import Options
from episodes.parallel import spread

ROUNDS = 3
OWN_SPLIT = "split.json"
LOAF = 16
"""Pieces of bare work for each process."""


def photograph(seed: int, width: int, height: int, quality: int) -> bytes:
    """A JPEG file about as large as a photograph of this size."""
    rng = np.random.default_rng(seed)
    stream, image = io.BytesIO(), np.zeros((height, width, 3))
    for cells in (4, 16, 64, 256):
        grey = rng.integers(0, 256, (cells * height // width + 1, cells, 3), dtype=np.uint8)
        image += np.asarray(Image.fromarray(grey).resize((width, height))) / cells**0.5
    pixels = (image * (255 / image.max())).astype(np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


# ---- raw data and the bare work on them ------------------------------------------------------


def own_split(raw: Path, names: list[str]) -> None:
    """Classes of which each is about as large as in the source, and so fewer than it has."""
    split = {"train": names, "valid": [], "test": []}
    (raw.parent / OWN_SPLIT).write_text(json.dumps(split))


def make_photographs(raw: Path, scale: float) -> list[object]:
    """Class folders of pictures as large as ImageNet's."""
    pool = [photograph(seed, 500, 375, 92) for seed in range(20)]
    tasks = []
    for name in range(40):
        folder = raw / f"class {name:02d}"
        folder.mkdir(parents=True)
        for number in range(max(2, int(100 * scale))):
            (folder / f"{number:04d}.jpg").write_bytes(pool[(name + number) % len(pool)])
        tasks.append((str(folder), str(raw.parent / "copies" / f"{name}.bin")))
    (raw.parent / "copies").mkdir(exist_ok=True)
    return tasks


def copy_photographs(task: tuple[str, str]) -> int:
    """Files read and written into one."""
    files = sorted(Path(task[0]).iterdir())
    with Path(task[1]).open("wb") as copy:
        for file in files:
            copy.write(file.read_bytes())
    return len(files)


def make_drawings(raw: Path, scale: float) -> list[object]:
    """A few large arrays of strokes."""
    raw.mkdir(parents=True)
    canvas = np.zeros((28, 28), np.uint8)
    for turn in np.linspace(0, 6, 60):
        canvas[int(14 + 9 * np.sin(turn)), int(14 + 11 * np.cos(2 * turn))] = 255
    drawings = np.stack([np.roll(canvas, (k % 5, k % 7), (0, 1)) for k in range(int(8000 * scale))])
    names = ["zigzag", *(f"thing {k}" for k in range(5))]
    own_split(raw, names)
    for name in names:
        np.save(raw / f"{name}.npy", drawings.reshape(-1, 784))
    return [str(raw / f"{name}.npy") for name in names]


def encode_drawings(path: str) -> int:
    """Every drawing in RGB, by Pillow's defaults."""
    drawings = np.load(path, mmap_mode="r").reshape(-1, 28, 28)
    for drawing in drawings:
        Image.fromarray(drawing).convert("RGB").save(io.BytesIO(), "JPEG")
    return len(drawings)


def make_aircraft(raw: Path, scale: float) -> list[object]:
    """A few variants of pictures with a box each."""
    data = raw / "data"
    (data / "images").mkdir(parents=True)
    pool = [photograph(seed, 1024, 695, 88) for seed in range(8)]
    labels, boxes, tasks = [], [], []
    names = [f"variant {k}" for k in range(10)]
    own_split(raw, names)
    for number in range(10 * max(1, int(40 * scale))):
        path, box = data / "images" / f"{number:07d}.jpg", (60, 170, 960, 520)
        path.write_bytes(pool[number % len(pool)])
        labels.append(f"{number:07d} {names[number % 10]}")
        boxes.append(f"{number:07d} {' '.join(map(str, box))}")
        tasks.append((str(path), [box]))
    (data / "variants.txt").write_text("\n".join(names))
    (data / "images_variant_trainval.txt").write_text("\n".join(labels[::2]))
    (data / "images_variant_test.txt").write_text("\n".join(labels[1::2]))
    (data / "images_box.txt").write_text("\n".join(boxes))
    return tasks


def make_objects(raw: Path, scale: float) -> list[object]:
    """Pictures of several objects, whose annotations are scattered."""
    (raw / "train2017").mkdir(parents=True)
    rng = np.random.default_rng(0)
    pool = [photograph(seed, 640, 480, 90) for seed in range(20)]
    annotations, tasks = [], []
    for image in range(int(4800 * scale)):
        path = raw / "train2017" / f"{image:012d}.jpg"
        path.write_bytes(pool[image % len(pool)])
        corners = rng.uniform(0, 400, (7, 2))
        sizes = np.minimum(rng.exponential(90, (7, 2)) + 4, 480 - corners)
        boxes = np.concatenate([corners, sizes], axis=1).round(2)
        tasks.append((str(path), [crop_box(box, 640, 480) for box in boxes]))
        annotations += [
            {"image_id": image, "category_id": int(rng.integers(80)), "bbox": box.tolist()}
            for box in boxes
        ]
    order = rng.permutation(len(annotations))
    categories = [{"id": k, "name": f"thing {k}"} for k in range(80)]
    lists = {"categories": categories, "annotations": [annotations[k] for k in order]}
    (raw / "instances_train2017.json").write_text(json.dumps(lists))
    return tasks


def encode_crops(task: tuple[str, list[tuple[int, int, int, int]]]) -> int:
    """An image decoded once, its crops encoded by Pillow's defaults."""
    image = Image.open(io.BytesIO(Path(task[0]).read_bytes())).convert("RGB")
    for box in task[1]:
        image.crop(box).save(io.BytesIO(), "JPEG")
    return len(task[1])


# ---- measuring -------------------------------------------------------------------------------


def do_all(work: tuple[Callable[..., int], list[object]]) -> int:
    """A piece of bare work."""
    function, tasks = work
    return sum(function(task) for task in tasks)


def bare(function: Callable[..., int], tasks: list[object], jobs: int) -> int:
    """The bare work by several processes; how many images it was."""
    pieces = [(function, tasks[k :: LOAF * jobs]) for k in range(LOAF * jobs)]
    return sum(count for _, count in spread(do_all, pieces, jobs))


def conversion(source: str, raw: Path, records: Path, jobs: int) -> int:
    """A whole conversion, specification included; how many images it was."""
    shutil.rmtree(records, ignore_errors=True)
    split = raw.parent / OWN_SPLIT
    opened = open_raw(source, raw, records, Options())
    return convert(opened, split if split.exists() else None, jobs=jobs).images


def timed(work: Callable[[], int]) -> tuple[float, float]:
    """Images per second of time, and of the time of processors."""
    used, started = processor_seconds(), time.perf_counter()
    images = work()
    return images / (time.perf_counter() - started), images / (processor_seconds() - used)


def processor_seconds() -> float:
    """Of this process and of all that it had started and that have ended."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


MEASURED = {
    "photographs, kept": ("own={}", make_photographs, copy_photographs, "reading and writing"),
    "quickdraw": ("quickdraw", make_drawings, encode_drawings, "encoding"),
    "aircraft": ("aircraft", make_aircraft, encode_crops, "decoding and encoding"),
    "mscoco": ("mscoco", make_objects, encode_crops, "decoding and encoding"),
}


def main() -> None:
    """Measure every kind of source."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, help="for raw data and records, on the disk meant")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.jobs} processes\n")
    print("| source | bare work | images/s | conversion, images/s | ratio | in processor time |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for title, (source, make, function, said) in MEASURED.items():
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            raw, records = Path(name) / "raw", Path(name) / "records"
            tasks, named = make(raw, options.scale), source.format(raw)
            works = (
                partial(bare, function, tasks, options.jobs),
                partial(conversion, named, raw, records, options.jobs),
            )
            rounds = np.array([[timed(work) for work in works] for _ in range(ROUNDS)])
        (rate, per_cpu), (ours, ours_per_cpu) = rounds.max(axis=0)
        ratios = f"{ours / rate:.2f} | {ours_per_cpu / per_cpu:.2f}"
        print(f"| {title} | {said} | {rate:,.0f} | {ours:,.0f} | {ratios} |", flush=True)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
