"""Where a network sub-samples: every step, found in a recorded forward pass.

A step keeps every s-th sample of a map: a strided convolution, a pooling, a strided slice, a
shrinking interpolation, or the filter of an anti-aliased network, whoever built it. Global pooling
keeps no grid and is none.

The step is *filtered* if a fixed low-pass filter (taps that no training changes, gain 1 at rest)
stands right before the sub-sampling, and *aliased* otherwise.

Source: facts on anti-aliasing; Vasconcelos et al. 2021, sections 3 and 4.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from fewshot.antialiasing.operations import (
    ACTIVATIONS,
    ARITHMETIC,
    CONV,
    INTERPOLATE,
    KINDS,
    LEARNT,
    LINEAR,
    MAX_POOL,
    MAX_POOLS,
    MEANS,
    NONLINEAR,
    PADS,
    POINTWISE,
    SLICE,
    fixed_filter,
    kernel_of,
    stride_of,
)
from fewshot.antialiasing.tape import LOW_PASS, Call, Tape, pair, probe_image, record

STEM, MAIN, SKIP, POOL = "stem", "conv", "skip", "pool"
PROBE_SIZE = 96


@dataclass(frozen=True)
class Step:
    """A place where a map is sub-sampled.

    Attributes:
        path: the module whose result is sub-sampled: a strided convolution or pooling, or the
            one at stride 1 before a filter ("" for the network itself).
        sampler: the module that takes every s-th sample; `path` unless a filter does.
        kind: conv, max_pool, avg_pool, adaptive_max_pool, adaptive_avg_pool, slice, interpolate.
        place: stem (a convolution that reads the image), conv (any other on the main path),
            skip (a shortcut), pool.
        stride: per dimension.
        kernel: extent of the convolution or pooling, dilation included, per dimension.
        support: width in samples of the linear operations that end in the sub-sampling: what
            could have learnt a low-pass. 1 for a max pool, which is not linear.
        filter: name of the fixed low-pass filter before the sub-sampling; None if there is none.
        squeezed: whether squeeze-and-excitation reads the sub-sampled map.
        channels: of the sub-sampled map.
        size: height and width of the map at the moment of sub-sampling.
        sampled: height and width afterwards.
        flops: of the convolution or pooling and the filter, two per multiply-add, one image.
        plain_flops: of the same step with its stride and without the filter.
        call: number of the sampling operation on the tape.
    """

    path: str
    sampler: str
    kind: str
    place: str
    stride: tuple[int, int]
    kernel: tuple[int, int]
    support: int
    filter: str | None
    squeezed: bool
    channels: int
    size: tuple[int, int]
    sampled: tuple[int, int]
    flops: int
    plain_flops: int
    call: int

    @property
    def filtered(self) -> bool:
        """Whether a fixed low-pass filter stands before the sub-sampling."""
        return self.filter is not None


def sub_sampling_steps(network: nn.Module, image_size: int = PROBE_SIZE) -> tuple[Step, ...]:
    """Every sub-sampling step of a network, in the order in which an image meets them.

    Args:
        network: any; it is run once on a black image and left as it was.
        image_size: side of that image in pixels.

    Raises:
        InputError: the network cannot be run on an image of this size.
    """
    return steps_on(record(network, probe_image(network, image_size)))


def steps_on(tape: Tape) -> tuple[Step, ...]:
    """Every sub-sampling step of a recorded forward pass, in order."""
    strides = {call.number: stride_of(call) for call in tape.calls}
    samplers = {number: s for number, s in strides.items() if s != (1, 1)}
    _merge_slices(tape, samplers)
    found = [_describe(tape, tape.calls[number], s) for number, s in samplers.items()]
    return tuple(_tell_shortcuts(tape, found))


def _describe(tape: Tape, call: Call, stride: tuple[int, int]) -> tuple[Step, int | None]:
    """A step, and the addition that its branch ends in if that is a shortcut."""
    source, name = call, fixed_filter(call)
    if call.op in (LOW_PASS, "convolution") and name is not None:
        # A filter that sub-samples: the step is that of the operation before it, or of the
        # projection after it.
        source = _filtered_operation(tape, call) or _projection_after(tape, call) or call
    elif name is None and (earlier := filter_before(tape, call)) is not None:
        name = fixed_filter(earlier)
    kind = KINDS.get(source.op, CONV)
    flops, plain = _costs(tape, call, source)
    step = Step(
        path=source.path,
        sampler=call.path,
        kind=kind,
        place=_place(tape, call, source, kind),
        stride=stride,
        kernel=kernel_of(source),
        support=_support(tape, source, kind),
        filter=name,
        squeezed=_is_squeezed(tape, call),
        channels=call.shape_out[1],
        size=_size_before(call),
        sampled=_size_after(tape, call),
        flops=flops,
        plain_flops=plain,
        call=call.number,
    )
    return step, _joins(tape, call, source)


def _size_before(call: Call) -> tuple[int, int]:
    """Of the map at the moment of sub-sampling: of a convolution, its result at stride 1."""
    height, width = call.shape[2:]
    if call.op == "convolution":
        padding = pair(call.arguments[4])
    elif call.op in (*MAX_POOLS, "avg_pool2d"):
        padding = pair(call.arguments[3]) if len(call.arguments) > 3 else (0, 0)
    else:
        return height, width
    kernel = kernel_of(call)
    return height + 2 * padding[0] - kernel[0] + 1, width + 2 * padding[1] - kernel[1] + 1


def _size_after(tape: Tape, call: Call) -> tuple[int, int]:
    """Of the sub-sampled map; of two slices in a row, what the second leaves."""
    while call.op == "slice" and [one.op for one in tape.consumers(call.outputs[0])] == ["slice"]:
        (call,) = tape.consumers(call.outputs[0])
    return call.shape_out[2], call.shape_out[3]


def _costs(tape: Tape, call: Call, source: Call) -> tuple[int, int]:
    """FLOPs of a step, and of the same step with its stride and without the filter."""
    earlier = filter_before(tape, call)
    flops = call.flops + (earlier.flops if earlier else 0)
    if source is call:
        return flops, call.flops
    flops += source.flops
    if source.number > call.number:  # filter first, then project: the projection is as it was
        return flops, source.flops
    kept = math.prod(call.shape_out[2:]) / math.prod(source.shape_out[2:])
    return flops, round(source.flops * kept)


def _merge_slices(tape: Tape, samplers: dict[int, tuple[int, int]]) -> None:
    """Make one step of two slices, one per dimension; drop slices that keep every phase.

    `x[:, :, ::2, ::2]` is two operations. `x[:, :, 0::2]` beside `x[:, :, 1::2]` loses nothing.
    """
    slices = {n: stride for n, stride in samplers.items() if tape.calls[n].op == "slice"}
    starts: dict[tuple[int, int], set[int]] = {}
    for number in slices:
        starts.setdefault(_phase(tape, number), set()).add(tape.calls[number].arguments[2] or 0)
    for number, stride in slices.items():
        if len(starts[_phase(tape, number)]) >= max(stride):
            del samplers[number]
    for number in [n for n in slices if n in samplers]:
        earlier = tape.producer(tape.calls[number].inputs[0])
        if earlier is not None and earlier.number in samplers and earlier.op == "slice":
            first, second = samplers[earlier.number], samplers.pop(number)
            samplers[earlier.number] = (first[0] * second[0], first[1] * second[1])


def _phase(tape: Tape, number: int) -> tuple[int, int]:
    """The value that a slice is cut from in the end, and the dimension."""
    value = tape.calls[number].inputs[0]
    while (producer := tape.producer(value)) is not None and producer.op == "slice":
        value = producer.inputs[0]
    return value, tape.calls[number].arguments[1]


# ---- what comes before -----------------------------------------------------------------------


def filter_before(tape: Tape, call: Call) -> Call | None:
    """The fixed filter at stride 1 whose result a linear sub-sampling reads, if one does."""
    if call.op in MAX_POOLS or call.op == "adaptive_max_pool2d":
        return None  # a maximum makes new high frequencies
    producer = tape.producer(call.inputs[0])
    while producer is not None and producer.op in PADS:
        producer = tape.producer(producer.inputs[0])
    if producer is None or stride_of(producer) != (1, 1) or fixed_filter(producer) is None:
        return None
    return producer


def _filtered_operation(tape: Tape, call: Call) -> Call | None:
    """The convolution or pooling at stride 1 whose result, activated, a filter reads."""
    value, chain = call.inputs[0], {call.number}
    while all(reader.number in chain for reader in tape.consumers(value)):
        producer = tape.producer(value)
        if producer is None:
            return None
        if producer.op in ("convolution", *MAX_POOLS, "avg_pool2d"):
            same = stride_of(producer) == (1, 1)
            learns = fixed_filter(producer) is None or producer.op == "avg_pool2d"
            return producer if same and learns else None
        if producer.op not in POINTWISE | PADS:
            return None
        chain.add(producer.number)
        value = min(producer.inputs)
        for gate in set(producer.inputs) - {value}:  # x · sigmoid(x)
            steps = _pointwise_between(tape, value, gate)
            if steps is None:
                return None
            chain |= steps
    return None


def _pointwise_between(tape: Tape, start: int, end: int) -> set[int] | None:
    """Numbers of the operations that make one value of another, if each is pointwise."""
    numbers = set()
    while end != start:
        producer = tape.producer(end)
        if producer is None or producer.op not in POINTWISE or len(set(producer.inputs)) != 1:
            return None
        numbers.add(producer.number)
        end = producer.inputs[0]
    return numbers


def _support(tape: Tape, call: Call, kind: str) -> int:
    """Width of the linear operations that end in this one."""
    if kind == MAX_POOL or call.op == "adaptive_max_pool2d":
        return 1
    width = min(kernel_of(call))
    producer = tape.producer(call.inputs[0])
    while producer is not None:
        if producer.op in ("convolution", "avg_pool2d", LOW_PASS):
            if stride_of(producer) != (1, 1):
                break
            width += min(kernel_of(producer)) - 1
        elif producer.op not in LINEAR | PADS:
            break
        producer = tape.producer(producer.inputs[0])
    return width


def _reads_image(tape: Tape, call: Call) -> bool:
    """Whether nothing that is learnt comes between the image and this operation."""
    todo, seen = list(call.inputs), set()
    while todo:
        value = todo.pop()
        producer = tape.producer(value)
        if value in seen or producer is None:
            continue
        seen.add(value)
        if producer.op in LEARNT and fixed_filter(producer) is None:
            return False
        todo += producer.inputs
    return True


# ---- what comes after ------------------------------------------------------------------------


def activated_value(tape: Tape, call: Call) -> int:
    """The result of an operation once it is normalised and activated.

    The value after the first activation behind it or, if none follows, after the last pointwise
    operation; no other operation reads anything in between.
    """
    region, after_activation = {call.outputs[0]: call.number}, False
    best = call.outputs[0]
    for later in tape.calls[call.number + 1 :]:
        if later.op not in POINTWISE or not set(later.inputs) <= region.keys():
            continue
        inner = list(region)
        region[later.outputs[0]] = later.number
        after_activation |= later.op in ACTIVATIONS
        read = {reader.number for value in inner for reader in tape.consumers(value)}
        if read <= set(region.values()):
            best = later.outputs[0]
            if after_activation:
                break
    return best


def rescaled_value(tape: Tape, value: int) -> int | None:
    """What a value becomes when nothing is done to it but scaling and shifting its channels, which
    a filter may as well follow as precede; None if something else is."""
    readers = tape.consumers(value)
    if len(readers) != 1 or readers[0].op not in ARITHMETIC - NONLINEAR:
        return None
    (reader,) = readers
    return reader.outputs[0] if reader.inputs == (value,) else None


def _projection_after(tape: Tape, call: Call) -> Call | None:
    """The 1×1 convolution that reads the result of a filter, if nothing else does."""
    readers = tape.consumers(call.outputs[0])
    if len(readers) == 1 and readers[0].op == "convolution" and kernel_of(readers[0]) == (1, 1):
        return readers[0]
    return None


def _is_squeezed(tape: Tape, call: Call) -> bool:
    """Whether the result is averaged over the map, and scaled by what comes of it."""
    value = activated_value(tape, call)
    ops = {reader.op for reader in tape.consumers(value)}
    return "mul" in ops and bool(ops & MEANS)


def _joins(tape: Tape, call: Call, source: Call) -> int | None:
    """Number of the addition that a branch with nothing but this step ends in, if it is one.

    Such a branch starts where a value is read more than once.
    """
    first = min(call, source, key=lambda one: one.number)
    value = first.inputs[0]
    while len(tape.consumers(value)) < 2:
        producer = tape.producer(value)
        if producer is None or not (producer.op in PADS or fixed_filter(producer)):
            return None
        value = producer.inputs[0]
    value = max(call, source, key=lambda one: one.number).outputs[0]
    while len(readers := tape.consumers(value)) == 1:
        (reader,) = readers
        if reader.op == "add" and len(set(reader.inputs)) > 1:
            return reader.number
        projects = reader.op == "convolution" and kernel_of(reader) == (1, 1)
        if not (reader.op in LINEAR | PADS | {"slice"} or projects or fixed_filter(reader)):
            return None
        value = reader.outputs[0]
    return None


def _place(tape: Tape, call: Call, source: Call, kind: str) -> str:
    if kind != CONV and kind not in (SLICE, INTERPOLATE):
        return POOL
    return STEM if _reads_image(tape, source) else MAIN


def _tell_shortcuts(tape: Tape, found: Iterable[tuple[Step, int | None]]) -> list[Step]:
    """Mark shortcuts. Of branches that are added up, the one with the widest kernel is not one."""
    pairs = list(found)
    widest: dict[int, tuple[int, int]] = {}
    counts = Counter(join for _, join in pairs if join is not None)
    for step, join in pairs:
        if join is not None and counts[join] > 1:
            widest[join] = max(widest.get(join, (0, 0)), step.kernel)
    return [
        replace(step, place=SKIP)
        if join is not None and step.place != STEM and step.kernel != widest.get(join)
        else step
        for step, join in pairs
    ]
