"""The stages of a network: the maps at its last four sizes, found by running it once."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from episodes.faults import InputError
from fewshot.antialiasing.operations import LEARNT, MAP, MAX_POOLS
from fewshot.antialiasing.tape import Tape, probe_image, record

STAGES = 4
PROBE_SIZES = (160, 224, 256)
"""Sides of the probe images: large enough that the last map is wider than one sample."""


class _ReachedError(Exception):
    """The last stage was reached: the classifier need not be run."""


def find_stages(network: nn.Module, paths: Sequence[str] | None = None) -> dict[str, int]:
    """Path of the module whose result is the map of each stage → its number of channels.

    A stage is a run of maps of one size; its map is the last of them that is not inside a block
    which itself sub-samples, nor a map of scores, behind all that is learnt (SqueezeNet).

    Args:
        network: run once on a black image, and left as it was.
        paths: the modules, where they are known.

    Raises:
        InputError: the network does not make maps of several sizes, or cannot be run.
    """
    for size in PROBE_SIZES:
        try:
            tape = record(network, probe_image(network, size))
        except InputError as error:
            fault = error
            continue
        return _stages_on(network, tape, paths)
    raise fault


def _stages_on(network: nn.Module, tape: Tape, paths: Sequence[str] | None) -> dict[str, int]:
    learnt = LEARNT - set(MAX_POOLS)
    scores = max((call.number for call in tape.calls if call.op in learnt), default=0)

    def map_of(value: int | None) -> tuple[int, ...] | None:
        producer = None if value is None else tape.producer(value)
        shape = producer.shape_out if producer and producer.number < scores else ()
        return shape if len(shape) == MAP and shape[2] == shape[3] > 1 else None

    if paths is not None:
        made = {call.path: map_of(call.output) for call in tape.modules}
        return {path: shape[1] for path in paths if (shape := made[path])}
    blocks = set()  # modules that take a map of one size and make one of another
    for call in tape.modules:
        before, after = map_of(call.input), map_of(call.output)
        module = network.get_submodule(call.path)
        changes = before and (not after or before[2] != after[2])
        if call.path and changes and not isinstance(module, nn.Sequential):
            blocks.add(call.path)
    last: dict[int, tuple[str, int]] = {}
    for call in tape.modules:
        shape = map_of(call.output)
        if shape and not any(call.path.startswith(f"{block}.") for block in blocks):
            last[shape[2]] = call.path, shape[1]
    stages = [last[size] for size in sorted(last, reverse=True)][-STAGES:]
    if len(stages) < 2:
        raise InputError(
            "makes no maps of several sizes.",
            type(network).__name__,
            "Choose a convolutional network.",
        )
    return dict(stages)


def stage_maps(network: nn.Module, paths: Sequence[str], images: Tensor) -> list[Tensor]:
    """The maps [n, D_stage, h, w] after each stage, for images [n, 3, S, S]."""
    maps: dict[str, Tensor] = {}

    def keep(path: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            maps[path] = output
            if path == paths[-1]:
                raise _ReachedError

        return hook

    handles = [network.get_submodule(path).register_forward_hook(keep(path)) for path in paths]
    try:
        network(images)
    except _ReachedError:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return [maps[path] for path in paths]
