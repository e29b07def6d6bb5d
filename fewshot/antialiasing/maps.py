"""The maps that a network is about to sub-sample, before and after the filter that stands there."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot.antialiasing.filters import parse_filter
from fewshot.antialiasing.low_pass import LowPass
from fewshot.antialiasing.operations import MAX_POOLS, fixed_filter, stride_of
from fewshot.antialiasing.steps import Step, filter_before, steps_on
from fewshot.antialiasing.tape import LOW_PASS, Call, record

Watch = Callable[[Step, Tensor, Tensor], None]


def watch_sub_sampling(network: nn.Module, images: Tensor, watch: Watch) -> tuple[Step, ...]:
    """Show the map that is about to be sub-sampled at every step of a network.

    Works alike on plain, anti-aliased and foreign networks. Where a filter stands before the
    sub-sampling, `unfiltered` is its input and `filtered` its result at stride 1, which is then
    sub-sampled. Where none does, both are the map whose every s-th sample is kept: the strided
    convolution or pooling computed at stride 1, before the activation.

    Args:
        network: in evaluation mode while it runs, and left as it was.
        images: float [n, channels, H, W], on the network's device.
        watch: called with (step, unfiltered, filtered), maps float [n, C, h, w]. It must not
            keep them if memory is scarce.

    Returns:
        The steps, in order.

    Raises:
        InputError: the network cannot be run on these images.
    """
    tape = record(network, images[:1])
    steps = steps_on(tape)
    at = {step.call: step for step in steps}
    before = {number: filter_before(tape, tape.calls[number]) for number in at}
    awaited = {call.number for call in before.values() if call is not None}
    unfiltered: dict[int, Tensor] = {}

    def look(number: int, func: Any, args: tuple[Any, ...]) -> None:
        if number in at:
            earlier = before[number]
            raw = None if earlier is None else unfiltered.pop(earlier.number, None)
            watch(at[number], *dense_maps(tape.calls[number], func, args, raw))
        elif number in awaited:
            unfiltered[number] = _cropped(args[0], tape.calls[number].shape_out)

    record(network, images, look)
    return steps


def dense_maps(
    call: Call, func: Any, args: tuple[Any, ...], raw: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The map before a sub-sampling, before and after the filter that stands there.

    Args:
        call: the sampling operation.
        func, args: what ran.
        raw: the input of a filter at stride 1 that its input comes from.
    """
    maps = args[0]
    if call.op == LOW_PASS:
        return maps, func.dense(maps)
    if call.op == "convolution":
        rest = (*args[1:3], [1, 1], *args[4:])
        dense = func(maps, *rest)
        if fixed_filter(call) is not None:
            return _cropped(maps, dense.shape), dense
        return (dense if raw is None else func(raw, *rest)), dense
    source = maps if raw is None else raw
    if call.op in MAX_POOLS:
        rest = (args[1], 1, *args[3:])
        dense = func(maps, *rest)
        dense = dense[0] if isinstance(dense, tuple) else dense
        return dense, dense
    if call.op == "avg_pool2d":
        dense = functional.avg_pool2d(maps, args[1], 1, *args[3:])
        return _cropped(source, dense.shape), dense
    stride = stride_of(call)
    if call.op == "adaptive_max_pool2d":
        dense = functional.max_pool2d(maps, stride, 1)
        return dense, dense
    if call.op == "_adaptive_avg_pool2d":
        dense = functional.avg_pool2d(maps, stride, 1)
        return _cropped(source, dense.shape), dense
    if call.op.endswith("_aa"):  # a triangle as wide as two strides
        row = [[*range(1, s), *range(s, 0, -1)] for s in stride]
        triangle = torch.outer(*(torch.tensor(r, dtype=torch.float64) for r in row))
        return source, LowPass(1, parse_filter(triangle)).to(maps.device)(maps)
    return source, maps


def _cropped(maps: Tensor, shape: Sequence[int]) -> Tensor:
    """The middle of a padded map."""
    for dim in (2, 3):
        extra = maps.shape[dim] - shape[dim]
        maps = maps.narrow(dim, max(0, extra // 2), min(shape[dim], maps.shape[dim]))
    return maps
