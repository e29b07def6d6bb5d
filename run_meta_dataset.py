#!/usr/bin/env python3
"""Few-shot classification on Meta-Dataset: the command line.

run_meta_dataset.py --backbone aa_resnet18        evaluate heads, the main job
run_meta_dataset.py COMMAND --help                everything else
"""

import atexit
import os
import signal
import sys

INTERRUPTED = "\ninterrupted: what is finished is kept; the same command goes on."


def leave(*_: object) -> None:
    """End at once, in one line: while nothing is begun yet, or when all is done."""
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(130)


if __name__ == "__main__" or sys.argv[0].endswith("run-meta-dataset"):
    signal.signal(signal.SIGINT, leave)  # the imports below take a moment, too
    # Python puts the system's own handler back while it ends, which would end it without a word.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)

from importlib import import_module
from types import ModuleType
from typing import Any

import tyro
from rich.console import Console

from episodes.faults import InputError, unknown_name

PROGRAM = "run_meta_dataset.py"
WIDTH_OF_FILES = 240
COMMANDS: dict[str, str] = {
    "evaluate": "train or load backbones, evaluate heads, print the table (the default)",
    "sweep": "evaluate a grid of backbones, heads, settings and seeds; what fails stops no other",
    "convert": "make records from raw downloads, extracted or not",
    "data": "say what there is of every source, and where its raw data come from",
    "train": "train backbones: one per source, or one for all; on one process or many",
    "baseline": "train and evaluate a reference method: MAML, prototypical networks, …",
    "checkpoint": "bring in weights from elsewhere, or show what a checkpoint says of itself",
    "aliasing": "measure what folds at every sub-sampling step, and what shifts do",
    "check": "audit a folder of records: every fault of every source in one pass",
    "inspect": "list where a network sub-samples, what is filtered there, and the cost",
    "describe": "say what an evaluation will cost before it runs",
    "plan": "write the episodes of an evaluation to a file, with their hash",
    "table": "stored results as tables, alone or among the published ones",
    "report": "one page with tables, figures and provenance of stored runs",
    "leaderboard": "check submissions and build a leaderboard from their files",
    "results": "list, show, repeat, export, import and merge stored runs",
    "imagenet-c": "measure what common corruptions do to a backbone's classifier",
    "train-urt": "train the attention that the head urt needs",
    "compare-sampler": "compare the archived meta_dataset package's sampler with ours",
    "pack": "decode the images of whole splits once, to read them from memory",
}
"""Command → what it does. Its file in `commands/` has its name, with _ for -."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name.

    Returns:
        0; 2 after a user's mistake, which is explained; 130 after an interruption.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return dispatch(arguments)
    except InputError as error:
        return say_error(str(error))
    except OSError as error:  # what no one foresaw of files: permissions, a device that is gone
        if error.filename is None:
            raise
        return say_error(f"{error.filename}: {error.strerror}. Check the path and its permissions.")
    except (MemoryError, OverflowError):
        return say_error("not enough memory. Choose a smaller --image-size or --batch-size.")
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # PyTorch's, which is not imported here
            raise
        return say_error(f"{error} Choose a smaller --image-size or --batch-size.")
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130


def say_error(message: str) -> int:
    """Explain a user's mistake in one message; the exit status."""
    errors = Console(stderr=True)
    errors.print(f"error: {message}", style="red", highlight=False, markup=False, soft_wrap=True)
    return 2


def dispatch(arguments: list[str]) -> int:
    """Hand the arguments to the command that they name, or to the main job."""
    console = open_console()
    if arguments and arguments[0] in ("-h", "--help"):
        console.print(f"Commands of {PROGRAM} (COMMAND --help says more):", highlight=False)
        width = max(map(len, COMMANDS))
        for name, purpose in COMMANDS.items():
            console.print(f"  {name:<{width}} {purpose}", highlight=False)
    module, command = parse_command(arguments)
    status: int = module.run(command, console)
    return status


def open_console() -> Console:
    """Standard output; as wide as the terminal, and wide enough for any table in a file or pipe."""
    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=WIDTH_OF_FILES) if wide else Console()


def parse_command(arguments: list[str]) -> tuple[ModuleType, Any]:
    """The module of the command that the arguments name, and its parsed flags.

    Raises:
        InputError: there is no such command, or a setting is wrong.
        SystemExit: a flag is wrong (status 2, explained on the terminal) or help was asked for.
    """
    named = bool(arguments) and not arguments[0].startswith("-")
    name = arguments[0] if named else "evaluate"
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    module = import_module(f"commands.{name.replace('-', '_')}")
    prog = f"{PROGRAM} {name}" if named else PROGRAM
    flags = arguments[1:] if named else arguments
    if hasattr(module, "parse"):
        return module, module.parse(flags, prog)
    return module, tyro.cli(module.Command, prog=prog, args=flags)


def run() -> int:
    """The program: as `main`, and an interruption at any moment is told in one line."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        try:
            status = main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # who read the output has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    signal.signal(signal.SIGINT, leave)
    return status


if __name__ == "__main__":
    sys.exit(run())
