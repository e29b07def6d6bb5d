"""Faults, with real processes and real files; prints a Markdown table of what came of them.

    python benchmarks/faults.py [--moments 20] [--seed 0] [--minutes 8] [--home DIR] [NAME ...]

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
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kills import (
    KILLS,
    PATIENCE,
    Place,
    carry_out,
    differences,
    expect,
    main_job,
    make_place,
    outcome,
    trained,
    try_kills,
)

from episodes.miniature.records import COMPLETE

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
    (records / COMPLETE).unlink()  # files of the miniature are never looked at again
    there = Place(place.home, records, place.images, trained(place))
    line = main_job(there, folder / "run")
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(line, text=True, **pipes)
    while process.poll() is None and "dtd" not in str(outcome(folder / "run")):
        time.sleep(0.01)
    for path in (records / "vgg_flower").glob("*.tfrecords"):
        os.utime(path)
    _, err = process.communicate(timeout=PATIENCE)
    if process.returncode != 2 or "has changed since this command began" not in err:
        return f"not noticed meanwhile: exit status {process.returncode}"
    done = carry_out(line)
    return expect(done, 0, "a new run") or expect(done, 0, "the source vgg_flower")


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
    "records change during a run": changed_records,
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
    parser.add_argument("--home", type=Path, help="folder that keeps the miniature between calls")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    names = options.names or [*KILLS, *CIRCUMSTANCES]
    if unknown := [name for name in names if name not in {*KILLS, *CIRCUMSTANCES}]:
        parser.error(f"unknown: {unknown}; there are {[*KILLS, *CIRCUMSTANCES]}")
    failed = False
    with tempfile.TemporaryDirectory(prefix="faults-") as home:
        os.environ["XDG_CACHE_HOME"] = f"{home}/cache"
        place = make_place(options.home or Path(home))
        place.home = Path(home)
        wanted: dict[str, str] = {}
        if set(names) & set(CIRCUMSTANCES):
            carry_out(main_job(place, place.home / "whole"))
            wanted = outcome(place.home / "whole")
        print("| fault | count | outcome |\n| --- | ---: | --- |", flush=True)
        for name in names:
            if name in KILLS:
                count, fault = try_kills(
                    place, name, options.moments, options.seed, options.minutes
                )
            else:
                folder = place.home / name.replace(" ", "-")
                folder.mkdir()
                count, fault = 1, CIRCUMSTANCES[name](place, folder, wanted)
            print(f"| {name} | {count} | {fault or 'identical'} |", flush=True)
            failed |= bool(fault)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
