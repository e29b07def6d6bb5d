"""Commands that are killed at random moments and started again, until they have finished."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from episodes.miniature import draw_miniature
from episodes.tfrecord import read_examples, scan_offsets
from fewshot.results import RowStore

PROGRAM = Path(__file__).resolve().parents[1] / "run_meta_dataset.py"
KEPT = ("*.safetensors", "table.*", "*.pack", "*.tfrecords", "dataset_spec.json", "*.features")
BACKBONE = ("--backbone", "four_layer_convnet", "--image-size", 32, "--device", "cpu")
PATIENCE = 3600
MOST_VICTIMS = 2
"""Of one run: an episode that ends three workers is given up, and rightly so."""
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


def storing_features(place: Place, output: Path) -> list[str]:
    """Store the features after every stage of a network for the images of four sources."""
    flags = ["--records", place.records, *BACKBONE, "--checkpoint", place.checkpoint]
    flags += ["--sources", "dtd", "vgg_flower", "cu_birds", "quickdraw", "--episodes", 12]
    flags += ["--heads", "sur:steps=1", "--threads", 1, "--features", output / "features"]
    return command(*flags, "--output", output)


def packing(place: Place, output: Path) -> list[str]:
    """Decode the images of two sources."""
    flags = ["--records", place.records, "--sources", "dtd", "quickdraw", "--size", 126]
    return command("pack", *flags, "--out", output)


def converting(place: Place, output: Path) -> list[str]:
    """Make records of a folder of images, in two processes."""
    return command("convert", f"mine={place.images}", "--records", output, "--jobs", 2)


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
    for path in sorted(folder.rglob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[str(path.relative_to(folder))] = repr([untimed(line) for line in lines])
    for path in folder.rglob("rows.sqlite"):
        with RowStore(path, read_only=True) as store:
            for row in store.rows():
                found[row.name] = repr(vars(row) | {"seconds": 0})
    return found


def untimed(line: dict[str, object]) -> dict[str, object]:
    """A line of a training's log without what the clock said."""
    return {name: value for name, value in line.items() if "second" not in name}


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


@dataclass(frozen=True)
class Kill:
    """A way to end a command.

    Attributes:
        line: makes the command line.
        number: of the signal; an interruption goes to the whole group, as from a terminal.
        victim: part of the command line of the process that is hit; the command itself if
            empty. Then the command must go on by itself.
        trained: whether it is given a checkpoint.
        workers: whether two worker processes do the work.
        cluster: whether they are of a Ray cluster.
        files: moments are told by how much space these files take; by the clock if empty.
    """

    line: Callable[..., list[str]]
    number: signal.Signals = signal.SIGKILL
    victim: str = ""
    trained: bool = False
    workers: bool = False
    cluster: bool = False
    files: str = ""


WORKERS: dict[str, bool] = {"trained": True, "workers": True}
KILLS = {
    "main job": Kill(main_job),
    "main job, Ctrl-C": Kill(main_job, signal.SIGINT),
    "training": Kill(training),
    "training, Ctrl-C": Kill(training, signal.SIGINT),
    "packing": Kill(packing),
    "packing, Ctrl-C": Kill(packing, signal.SIGINT),
    "converting": Kill(converting),
    "converting, Ctrl-C": Kill(converting, signal.SIGINT),
    "feature store's writer": Kill(storing_features, trained=True, files="*.features"),
    "a worker": Kill(main_job, victim="multiprocessing.spawn", **WORKERS),
    "driver of workers": Kill(main_job, **WORKERS),
    "driver of workers, Ctrl-C": Kill(main_job, signal.SIGINT, **WORKERS),
    "a Ray worker": Kill(main_job, victim="ray::Worker", cluster=True, **WORKERS),
    "Ray's driver": Kill(main_job, cluster=True, **WORKERS),
}


@contextlib.contextmanager
def ray_cluster(home: Path) -> Iterator[tuple[str, int]]:
    """The address of a Ray cluster of this machine, and the process that holds it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    line += ["--port", str(port), "--num-cpus", "2", "--include-dashboard", "false"]
    # A cluster that is given by its address is told no token unless both sides are told to.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    line += ["--temp-dir", str(home / "ray"), "--object-store-memory", str(100 << 20)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(PATIENCE):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(1)
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def space(folder: Path, files: str) -> int:
    """Blocks that files below a folder take."""
    found = 0
    for path in folder.rglob(files):
        with contextlib.suppress(OSError):
            found += path.stat().st_blocks
    return found


class Campaign:
    """Kills of one kind at random moments.

    Args:
        place: data of the commands.
        name: of the kill.
        seed: of the moments.
        cluster: address of a Ray cluster and the process that holds it, where it takes one.
    """

    def __init__(self, place: Place, name: str, seed: int, cluster: tuple[str, int] | None) -> None:
        self.kill, self.draw = KILLS[name], random.Random(f"{name}/{seed}")
        self.home = place.home / name.replace(" ", "-").replace("'", "")
        checkpoint = trained(place)  # also warms up the caches
        given = checkpoint if self.kill.trained else None
        self.place = Place(place.home, place.records, place.images, given)
        self.more: tuple[object, ...] = ("--workers", 2) if self.kill.workers else ()
        self.parent = None
        if cluster:
            self.more += ("--ray", cluster[0])
            self.parent = cluster[1]

    def carry_out(self, moments: int, minutes: float) -> tuple[int, str]:
        """How many kills there were, and what was wrong; the minutes count from the first on."""
        began, whole = time.monotonic(), self.home / "whole"
        if fault := expect(carry_out(self.line(whole)), 0):
            return 0, f"uninterrupted: {fault}"
        self.seconds, wanted = time.monotonic() - began, outcome(whole)
        self.full = space(whole, self.kill.files) if self.kill.files else 0
        deadline = time.monotonic() + 60 * minutes
        count = attempts = 0
        while count < moments and time.monotonic() < deadline:
            folder, attempts = self.home / f"hit{attempts}", attempts + 1
            finished = False
            while not finished:
                more = count < moments and time.monotonic() < deadline
                hits, finished, fault = self.attempt(folder, moments - count if more else 0)
                count += hits
                if fault:
                    return count, fault
            if fault := differences(outcome(folder), wanted):
                return count, fault
            shutil.rmtree(folder)
        return count, "" if count else "never hit"

    def line(self, folder: Path) -> list[str]:
        """The command."""
        return self.kill.line(self.place, folder, *self.more)

    def attempt(self, folder: Path, left: int) -> tuple[int, bool, str]:
        """Start the command once: how often it was hit, whether it finished, what was wrong."""
        line = self.line(folder)
        process = subprocess.Popen(
            line,
            text=True,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        hits, most = 0, min(left, MOST_VICTIMS if self.kill.victim else 1)
        while hits < most and self.hit(process, self.moment(folder)):
            hits += 1
        out, err = process.communicate(timeout=PATIENCE)
        done = subprocess.CompletedProcess(line, process.returncode, out, err)
        if not hits or self.kill.victim or process.returncode == 0:
            return hits, True, expect(done, 0)
        if self.kill.number == signal.SIGINT:
            return hits, False, expect(done, 130, "interrupted")
        return hits, False, ""

    def moment(self, folder: Path) -> Callable[[], bool]:
        """A random moment; asks whether it has come. The clock runs from the first time on."""
        if self.kill.files:
            blocks = self.draw.uniform(space(folder, self.kill.files), self.full)
            return lambda: space(folder, self.kill.files) > blocks
        wait = self.draw.uniform(0, (0.6 if self.kill.victim else 1.05) * self.seconds)
        asked: list[float] = []

        def due() -> bool:
            asked.append(time.monotonic())
            return asked[-1] >= asked[0] + wait

        return due

    def hit(self, process: subprocess.Popen[str], due: Callable[[], bool]) -> bool:
        """Wait for a moment, and for somebody to hit; whether anybody was."""
        kill = self.kill
        while process.poll() is None:
            victims = [process.pid]
            if kill.victim:
                victims = below(self.parent or process.pid, kill.victim)
            if victims and due():
                send = os.killpg if kill.number == signal.SIGINT else os.kill
                with contextlib.suppress(ProcessLookupError):
                    send(self.draw.choice(victims), kill.number)
                    return True
            time.sleep(0.02 if kill.victim else 0.004)
        return False


def try_kills(place: Place, name: str, moments: int, seed: int, minutes: float) -> tuple[int, str]:
    """How many kills there were, and what was wrong."""
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(ray_cluster(place.home)) if KILLS[name].cluster else None
        return Campaign(place, name, seed, cluster).carry_out(moments, minutes)


def trained(place: Place) -> Path:
    """A checkpoint for runs that do not train."""
    if not list((place.home / "trained").glob("*.safetensors")):
        carry_out(training(place, place.home / "trained"))
    return next((place.home / "trained").glob("*.safetensors"))
