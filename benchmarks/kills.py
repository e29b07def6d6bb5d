"""Commands that are killed at random moments and started again, until they have finished."""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from episodes.miniature import draw_miniature
from episodes.tfrecord import read_examples, scan_offsets
from fewshot.results import RowStore

PROGRAM = Path(__file__).resolve().parents[1] / "run_meta_dataset.py"
KEPT = ("*.safetensors", "table.*", "*.pack", "*.tfrecords", "dataset_spec.json", "*.features")
BACKBONE = ("--backbone", "four_layer_convnet", "--image-size", 32, "--device", "cpu")
PATIENCE = 300
MESSAGE_LINES = 3
"""A traceback has more."""


# ---- commands --------------------------------------------------------------------------------


@dataclass
class Place:
    """Where commands find their data.

    Attributes:
        home: a folder of its own.
        records: of the miniature.
        images: a folder of class folders of images.
        checkpoint: of a network; none where a run trains it.
    """

    home: Path
    records: Path
    images: Path
    checkpoint: Path | None = None


def make_place(home: Path) -> Place:
    """Draw the miniature, and write the images of one source as files."""
    records = draw_miniature(home / "records")
    images = home / "images"
    for path in sorted((records / "dtd").glob("*.tfrecords")):
        folder = images / f"class{path.stem}"
        folder.mkdir(parents=True, exist_ok=True)
        spans = list(pairwise(scan_offsets(path)))
        for number, (image, _) in enumerate(read_examples(path, spans, range(len(spans)))):
            (folder / f"{number}.jpg").write_bytes(image)
    return Place(home, records, images)


def main_job(place: Place, output: Path, *more: object) -> list[str]:
    """Train a backbone, evaluate two heads on two sources."""
    flags = ["--records", place.records, *BACKBONE, "--sources", "dtd", "vgg_flower"]
    flags += ["--episodes", 20, "--heads", "prototypical", "finetune:steps=5", "--threads", 1]
    flags += ["--features", output / "features"]
    training = ["--source", "vgg_flower", "--epochs", 2, "--batch-size", 32]
    checkpoint = ["--checkpoint", place.checkpoint] if place.checkpoint else training
    return command(*flags, *checkpoint, "--output", output, *more)


def training(place: Place, output: Path) -> list[str]:
    """Train a backbone for 40 steps."""
    flags = ["--records", place.records, *BACKBONE, "--train-sources", "dtd", "--steps", 40]
    flags += ["--batch-size", 32, "--validate-every", 8, "--validation-episodes", 2]
    return command("train", *flags, "--output", output)


def packing(place: Place, output: Path) -> list[str]:
    """Decode the images of two sources."""
    flags = ["--records", place.records, "--sources", "dtd", "quickdraw", "--size", 126]
    return command("pack", *flags, "--out", output)


def converting(place: Place, output: Path) -> list[str]:
    """Make records of a folder of images."""
    return command("convert", f"mine={place.images}", "--records", output, "--jobs", 1)


def command(*flags: object) -> list[str]:
    """A command line of this program."""
    return [sys.executable, str(PROGRAM), *map(str, flags)]


# ---- what came of it -------------------------------------------------------------------------


def outcome(folder: Path) -> dict[str, str]:
    """What a command left: its rows, but for the time they took, and the hashes of its files."""
    found = {}
    for kind in KEPT:
        for path in sorted(folder.rglob(kind)):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = digest
    for path in folder.rglob("rows.sqlite"):
        with RowStore(path, read_only=True) as store:
            for row in store.rows():
                found[row.name] = repr(vars(row) | {"seconds": 0})
    return found


def differences(found: dict[str, str], wanted: dict[str, str]) -> str:
    """In words; empty if there are none."""
    odd = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    return f"{len(odd)} differ, e.g. {odd[0]}" if odd else ""


def carry_out(line: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        line, check=False, capture_output=True, text=True, timeout=PATIENCE, **options
    )


def expect(done: subprocess.CompletedProcess[str], status: int, text: str = "") -> str:
    """What is wrong with how a command ended: status, message, or a traceback."""
    lines = done.stderr.strip().splitlines()
    if done.returncode != status or "Traceback" in done.stderr:
        return f"exit status {done.returncode}: {' '.join(lines[-MESSAGE_LINES:])}"
    return "" if text in " ".join(done.stderr.split()) else f"no '{text}' in: {lines[-1]}"


# ---- kills -----------------------------------------------------------------------------------


def below(parent: int, name: str) -> list[int]:
    """Processes below one whose command line holds a name."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(place.name))
    found, left = [], [parent]
    while left:
        part = children.get(left.pop(), [])
        left, found = left + part, found + part
    named = []
    for pid in found:
        with contextlib.suppress(OSError):
            if name in Path(f"/proc/{pid}/cmdline").read_text():
                named.append(pid)
    return named


@dataclass
class Kill:
    """A way to end a command.

    Attributes:
        line: makes the command line.
        number: of the signal.
        victim: part of the command line of the process below that is hit; the command itself
            if empty. Then the command must go on by itself.
        trained: whether it is given a checkpoint.
        more: flags.
    """

    line: Callable[..., list[str]]
    number: signal.Signals = signal.SIGKILL
    victim: str = ""
    trained: bool = False
    more: tuple[object, ...] = field(default=())


WORKERS = ("--workers", 2)
RAY = ("--ray", "local", "--workers", 2)
KILLS = {
    "main job": Kill(main_job),
    "main job, Ctrl-C": Kill(main_job, signal.SIGINT),
    "training": Kill(training),
    "training, Ctrl-C": Kill(training, signal.SIGINT),
    "packing": Kill(packing),
    "converting": Kill(converting),
    "converting, Ctrl-C": Kill(converting, signal.SIGINT),
    "feature store's writer": Kill(main_job, trained=True),
    "a worker": Kill(main_job, victim="multiprocessing.spawn", trained=True, more=WORKERS),
    "driver of workers": Kill(main_job, trained=True, more=WORKERS),
    "a Ray worker": Kill(main_job, victim="ray::Worker", trained=True, more=RAY),
    "Ray's driver": Kill(main_job, trained=True, more=RAY),
}


def hit(process: subprocess.Popen[str], kill: Kill, until: float) -> bool:
    """Wait for a moment, then send the signal; whether anybody got it."""
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.005)
    while process.poll() is None:
        victims = below(process.pid, kill.victim) if kill.victim else [process.pid]
        if victims:
            os.kill(random.choice(victims), kill.number)
            return True
        time.sleep(0.02)
    return False


def try_kills(place: Place, name: str, moments: int, seed: int, minutes: float) -> tuple[int, str]:
    """How many faults there were, and what was wrong; the minutes count from the first on."""
    kill, draw = KILLS[name], random.Random(f"{name}/{seed}")
    random.seed(f"{name}/{seed}")
    home = place.home / name.replace(" ", "-")
    run = Place(place.home, place.records, place.images, trained(place) if kill.trained else None)
    began = time.monotonic()
    if fault := expect(carry_out(kill.line(run, home / "whole", *kill.more)), 0):
        return 0, f"uninterrupted: {fault}"
    wanted, seconds = outcome(home / "whole"), time.monotonic() - began
    deadline = time.monotonic() + 60 * minutes
    count = attempts = 0
    while count < moments and time.monotonic() < deadline:
        folder, attempts = home / f"hit{attempts}", attempts + 1
        while True:
            line = kill.line(run, folder, *kill.more)
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = subprocess.Popen(line, text=True, **pipes)  # type: ignore[call-overload]
            was_hit = False
            if count < moments and time.monotonic() < deadline:
                was_hit = hit(process, kill, time.monotonic() + draw.uniform(0, 1.05 * seconds))
            out, err = process.communicate(timeout=PATIENCE)
            done = subprocess.CompletedProcess(line, process.returncode, out, err)
            count += was_hit
            if not was_hit or kill.victim or process.returncode == 0:
                if fault := expect(done, 0):
                    return count, fault
                break
            if kill.number == signal.SIGINT and (fault := expect(done, 130, "interrupted")):
                return count, fault
        if fault := differences(outcome(folder), wanted):
            return count, fault
        shutil.rmtree(folder)
    return count, "" if count else "never hit"


def trained(place: Place) -> Path:
    """A checkpoint for runs that do not train."""
    if not list((place.home / "trained").glob("*.safetensors")):
        carry_out(training(place, place.home / "trained"))
    return next((place.home / "trained").glob("*.safetensors"))
