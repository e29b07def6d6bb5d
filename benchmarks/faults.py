"""Faults, with real processes and real files; prints a Markdown table of what came of them.

    python benchmarks/faults.py [--moments 20] [--seed 0] [--minutes 8] [NAME ...]

KILLS end a process by SIGKILL (or interrupt it as Ctrl-C does) at moments drawn uniformly over the
time that an uninterrupted run takes, start the same command again, and so on until it has
finished; then what is in its folder is compared with an uninterrupted run: rows but for the
seconds they took, every other file byte by byte. A command that finishes before its next fault
begins anew elsewhere, until there were as many faults as asked for or the minutes are over.

CIRCUMSTANCES carry out the main job where something is not as it should be (docs/faults.md).
Those with small disks and read-only folders mount file systems, so that they need root.

The exit status is 1 if anything came out otherwise than it should.
"""

import argparse
import contextlib
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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
        folder.mkdir(parents=True)
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


def try_kills(place: Place, name: str, moments: int, seed: int, deadline: float) -> tuple[int, str]:
    """How many faults there were, and what was wrong."""
    kill, draw = KILLS[name], random.Random(f"{name}/{seed}")
    random.seed(f"{name}/{seed}")
    home = place.home / name.replace(" ", "-")
    run = Place(place.home, place.records, place.images, trained(place) if kill.trained else None)
    began = time.monotonic()
    if fault := expect(carry_out(kill.line(run, home / "whole", *kill.more)), 0):
        return 0, f"uninterrupted: {fault}"
    wanted, seconds = outcome(home / "whole"), time.monotonic() - began
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
    return count, ""


def trained(place: Place) -> Path:
    """A checkpoint for runs that do not train."""
    if not list((place.home / "trained").glob("*.safetensors")):
        carry_out(training(place, place.home / "trained"))
    return next((place.home / "trained").glob("*.safetensors"))


# ---- circumstances ---------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A file system in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def limited(kind: int, size: int) -> dict[str, object]:
    """Options of a process that has a limit."""
    return {"preexec_fn": lambda: resource.setrlimit(kind, (size, size))}


def patched(folder: Path, code: str) -> dict[str, object]:
    """Options of a process whose standard library behaves otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    return {"env": {**os.environ, "PYTHONPATH": str(folder)}}


CLOCK = """
import random, time
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + random.choice([-1, 0, 1]) * 3e7
time.time_ns = lambda: real_ns() + random.choice([-1, 0, 1]) * 30_000_000_000_000_000
"""
NFS = """
import errno, fcntl, os, random
real, draw = os.replace, random.Random(os.getpid())
def replace(*names, **more):
    real(*names, **more)
    if draw.random() < 0.3:  # done, but the answer was lost, and the second request finds nothing
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(names[0]))
def flock(handle, how):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
os.replace = os.rename = replace
fcntl.flock = flock
"""


def disk_full(place: Place, folder: Path, wanted: dict[str, str]) -> str:
    with mounted(folder, "-o", "size=1m") as small:
        line = main_job(place, small / "run")
        if fault := expect(carry_out(line), 2, "disk is full"):
            return fault
        subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
        return expect(carry_out(line), 0) or differences(outcome(small / "run"), wanted)


def read_only(place: Place, folder: Path, wanted: dict[str, str]) -> str:
    with mounted(folder / "output"), mounted(folder / "records"):
        records = Path(shutil.copytree(place.records, folder / "records" / "mini"))
        for one in ("output", "records"):
            subprocess.run(["mount", "-o", "remount,ro", str(folder / one)], check=True)
        there = Place(place.home, records, place.images)
        if fault := expect(carry_out(main_job(there, folder / "output" / "run")), 2):
            return fault
        line = main_job(there, folder / "run")
        return expect(carry_out(line), 0) or differences(outcome(folder / "run"), wanted)


def changed_records(place: Place, folder: Path, wanted: dict[str, str]) -> str:
    records = Path(shutil.copytree(place.records, folder / "records"))
    (records / ".miniature").unlink(missing_ok=True)
    for marker in records.glob("*.json"):
        marker.unlink()  # no longer the miniature, whose files are never looked at again
    there = Place(place.home, records, place.images, trained(place))
    line = main_job(there, folder / "run")
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((folder / "run").glob("rows.sqlite")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    shutil.copy(records / "dtd" / "1.tfrecords", records / "dtd" / "0.tfrecords")
    done = carry_out(line)
    text = " ".join(done.stderr.split())
    if done.returncode == 0 and "a new run" in text and "dtd" in text:
        return ""
    return expect(done, 2, "dtd")


def clock_jumps(place: Place, folder: Path, wanted: dict[str, str]) -> str:
    done = carry_out(main_job(place, folder / "run"), **patched(folder / "patch", CLOCK))
    return expect(done, 0) or differences(outcome(folder / "run"), wanted)


def two_runs(place: Place, folder: Path, wanted: dict[str, str]) -> str:
    line = main_job(place, folder / "run")
    both = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=PATIENCE)
        if process.returncode:
            return err
    return differences(outcome(folder / "run"), wanted)


def renames(place: Place, folder: Path, wanted: dict[str, str]) -> str:
    line, options = main_job(place, folder / "run"), patched(folder / "patch", NFS)
    for _ in range(20):
        done = carry_out(line, **options)
        if done.returncode == 0:
            return differences(outcome(folder / "run"), wanted)
        if fault := expect(done, 2):
            return fault
    return "twenty times not finished"


def few_descriptors(place: Place, folder: Path, wanted: dict[str, str]) -> str:
    done = carry_out(main_job(place, folder / "run"), **limited(resource.RLIMIT_NOFILE, 128))
    return expect(done, 0) or differences(outcome(folder / "run"), wanted)


def little_memory(place: Place, folder: Path, wanted: dict[str, str]) -> str:
    done = carry_out(main_job(place, folder / "run"), **limited(resource.RLIMIT_DATA, 2 << 30))
    return expect(done, 0) or differences(outcome(folder / "run"), wanted)


CIRCUMSTANCES = {
    "disk full, then not": disk_full,
    "read-only output, read-only records": read_only,
    "records changed between two starts": changed_records,
    "clock jumps by years": clock_jumps,
    "two runs in one folder": two_runs,
    "renames whose answer is lost, no locks": renames,
    "128 open files": few_descriptors,
    "2 GB of memory (data)": little_memory,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="faults; all when none is named")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=8)
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    names = options.names or [*KILLS, *CIRCUMSTANCES]
    failed = False
    with tempfile.TemporaryDirectory(prefix="faults-") as home:
        os.environ["XDG_CACHE_HOME"] = f"{home}/cache"
        place = make_place(Path(home))
        wanted: dict[str, str] = {}
        if set(names) & set(CIRCUMSTANCES):
            carry_out(main_job(place, place.home / "whole"))
            wanted = outcome(place.home / "whole")
        print("| fault | count | outcome |\n| --- | ---: | --- |", flush=True)
        for name in names:
            if name in KILLS:
                count, fault = try_kills(place, name, options.moments, options.seed, deadline)
            else:
                folder = place.home / name.replace(" ", "-")
                folder.mkdir()
                count, fault = 1, CIRCUMSTANCES[name](place, folder, wanted)
            print(f"| {name} | {count} | {fault or 'identical'} |", flush=True)
            failed |= bool(fault)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
