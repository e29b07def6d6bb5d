"""The image sizes that a network runs at, found by running it."""

from torch import nn

from episodes.faults import InputError
from fewshot.antialiasing.tape import probe_image, record

CANDIDATES = (*range(32, 257, 32), 299, 331, 384)
"""Sizes to offer instead: those that networks are made for, and multiples of their last stride."""


def check_size(network: nn.Module, size: int, name: str) -> None:
    """Run a network on a black image; it is left as it was.

    Args:
        network: any, with its classifier.
        size: side of the image in pixels.
        name: what a message calls it.

    Raises:
        InputError: it cannot be run at this size; the nearest size that it runs at is named.
    """
    try:
        record(network, probe_image(network, size))
    except InputError as error:
        reason = str(error.__cause__).strip().splitlines() or ["it fails"]
        working = _nearest(network, size)
        raise InputError(
            f"cannot be run at {size} × {size} pixels ({reason[0]}).",
            name,
            f"Take another image size: {working} pixels work."
            if working
            else f"Nor at {CANDIDATES[0]} to {CANDIDATES[-1]} pixels: take another network.",
        ) from error


def _nearest(network: nn.Module, size: int) -> int | None:
    """The candidate next to a size that the network runs at; of two as near, the larger."""
    by_distance: list[int] = sorted(CANDIDATES, key=lambda one: (abs(one - size), -one))
    for candidate in by_distance:
        try:
            record(network, probe_image(network, candidate))
        except InputError:
            continue
        return candidate
    return None
