"""Where a number comes from: versions, commit, command, machine, time."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("run-meta-dataset", "torch", "torchvision", "numpy", "simplejpeg", "pillow")


def collect(device: str, command: Sequence[str] | None = None) -> dict[str, Any]:
    """The record kept beside the rows of a run; JSON values only.

    Args:
        device: what the numbers were computed on, in words.
        command: the command line, by default this process's.

    Returns:
        `versions` (name → version, None where not installed), `git` (`commit` and `dirty`, None
        when the project is not a git checkout), `command`, `folder` it was given in, `platform`,
        `cpus`, `device`, `time` (UTC, ISO 8601).
    """
    return {
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES},
        "git": git_state(PROJECT),
        "command": shlex.join(sys.orig_argv if command is None else command),
        "folder": str(Path.cwd()),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": device,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """`commit` (40 hex digits) and `dirty` (files differ from it) of the checkout at `folder`.

    None when `folder` is not the top of a git checkout (a package installed inside somebody
    else's checkout has no commit of its own), has no commit yet, or git does not answer.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != folder.resolve():
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain")
    return None if commit is None or changes is None else {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
