"""Where to compute, and how many processes read ahead."""

import os

import torch

from episodes.faults import InputError


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Where to compute; `auto` takes a GPU when there is one.

    Args:
        name: auto, cpu or cuda.
        local_rank: which of the processes of this machine asks; each takes a GPU of its own.

    Raises:
        InputError: a GPU is asked for and there is none, or not one for this process.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("PyTorch finds no CUDA GPU.", "--device cuda", "Use --device cpu.")
    if name == "cpu" or not available:
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise InputError(
            f"process {local_rank} of this machine has no GPU: there are only "
            f"{torch.cuda.device_count()}.",
            "torchrun --nproc-per-node",
            "Start one process per GPU, or use --device cpu.",
        )
    # The same numbers every time; must be set before CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda", local_rank) if local_rank else torch.device("cuda")


def choose_workers(asked: int | None, device: torch.device) -> int:
    """Processes that read ahead: none on a CPU, which is busy anyway; some beside a GPU."""
    if asked is not None:
        return asked
    return min(8, os.cpu_count() or 1) if device.type == "cuda" else 0


def describe_device(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"
