"""Small evaluations by the command line, and what their stores hold."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

from fewshot.backbones import build_backbone
from fewshot.checkpoint import Card, save_checkpoint
from fewshot.results import RowStore

PROJECT = Path(__file__).resolve().parents[3]
HEADS = ["prototypical", "finetune:steps=5", "sur:steps=3", "finetune:layers=all,steps=2"]


def write_backbone(path, name="resnet18", seed=0):
    """A checkpoint of a network as it is initialised."""
    card = Card(name, "none", "ilsvrc_2012", "train", ("a", "b"), 32, "official", "md-v1", seed, {})
    save_checkpoint(path, build_backbone(name, 2, seed), card)
    return path


def command(miniature, checkpoint, output, *more):
    """The command line of a small evaluation."""
    flags = ["--records", miniature, "--checkpoint", checkpoint, "--backbone", "resnet18"]
    flags += ["--image-size", 32, "--device", "cpu", "--episodes", 6, "--threads", 1]
    flags += ["--sources", "dtd", "vgg_flower", "--heads", *HEADS, "--output", output, *more]
    return [sys.executable, str(PROJECT / "run_meta_dataset.py"), *map(str, flags)]


def start(*arguments):
    """Start the command."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command(*arguments), text=True, **pipes)


def carry_out(*arguments):
    """Run the command; its output and errors."""
    process = start(*arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def wait_for(condition):
    """Wait until something is so; what it is."""
    deadline = time.monotonic() + 200
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def processes(parent, name):
    """Ids of the processes below one whose command line holds a name."""
    children = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(place.name))
    found, left = [], [parent]
    while left:
        below = children.get(left.pop(), [])
        left += below
        found += below
    return [pid for pid in found if name in Path(f"/proc/{pid}/cmdline").read_text()]


def rows(folder):
    """What a results file holds: its runs and every row, but for the time it took."""
    with RowStore(folder / "rows.sqlite", read_only=True) as store:
        found = [vars(row) | {"seconds": 0} for row in store.rows()]
        runs = [(run.id, run.ingredients) for run in store.runs()]
    return runs, found
