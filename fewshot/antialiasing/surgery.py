"""Anti-aliasing as surgery: a fixed low-pass filter before each chosen sub-sampling.

The network is watched on a probe image (`steps.py`); no class of network is known here. A filter
hangs on a module that is there already, as a hook after or before it, so that parameters, their
names and published weights stay:

* max and average pooling: pool at stride 1, then filter and sub-sample;
* strided convolutions: convolve at stride 1, normalise, activate, then filter and sub-sample;
* strided 1×1 shortcuts: filter and sub-sample, then project (the order does not matter to a
  per-channel filter, and this one costs nothing).

Source: Vasconcelos et al. 2021, sections 3 and 4.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from episodes.faults import InputError, unknown_name
from fewshot.antialiasing import filters, placement
from fewshot.antialiasing.filters import Filter, parse_filter
from fewshot.antialiasing.low_pass import LowPass
from fewshot.antialiasing.operations import AVG_POOL, CONV, MAX_POOL
from fewshot.antialiasing.placement import Wish, choose, parse_placement
from fewshot.antialiasing.pool import FilteredMaxPool2d
from fewshot.antialiasing.steps import SKIP, Step, activated_value, rescaled_value, steps_on
from fewshot.antialiasing.tape import ModuleCall, Tape, pair, probe_image, record

SIZES = ((96, 113), (224, 251), (256, 288))
"""Sides of the probe images: two sizes, so that strides that depend on the image show; larger ones
for networks that need them (256: attention over a map of one size)."""
ACTIVATIONS: dict[str, Callable[[bool], nn.Module]] = {
    "silu": lambda inplace: nn.SiLU(inplace=inplace),
    "gelu": lambda inplace: nn.GELU(),
}
WITHOUT = "Name placements without '{}' (inspect says where each step is)."
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""They run or count their children, so none may be added to them."""

Undo = Callable[[], None]
Edit = Callable[[], list[Undo]]
"""Changes the network; says how to change it back."""


def antialias(
    network: nn.Module,
    placement: str | Sequence[str] = placement.DEFAULT,
    filter: str | Tensor | Sequence[float] | Filter = filters.DEFAULT,
    activation: str | None = None,
) -> nn.Module:
    """Filter sub-sampling steps of a network, in place.

    Parameters, their names and the shapes of all outputs stay as they are; filters are not in
    the state dict. Either every chosen step is filtered or nothing is changed.

    Args:
        network: any that runs on one image [1, channels, 96, 96] or [1, channels, 224, 224].
        placement: which steps: pool, conv, preconv, skip, stem, se, several of them
            ("skip,conv"), all, or critical: aliased steps with little spatial support.
        filter: "binomial3" and others by name (see `fewshot.antialiasing.filters`), or taps.
        activation: "silu" or "gelu" instead of every ReLU on a map.

    Returns:
        The network itself.

    Raises:
        InputError: there is no such step, or one that this surgery cannot filter.
    """
    names, low_pass = parse_placement(placement), parse_filter(filter)
    if activation is not None and activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    where = type(network).__name__
    undo: list[Undo] = []
    tapes = _probe(network)
    wishes = choose(_steady_steps(tapes, where), names, where)
    try:
        if activation is not None:
            _smooth(network, tapes[0], activation, undo)
        # A module that is used in several places is changed once.
        once = {wish.step.path: wish for wish in wishes}.values()
        edits = [edit for wish in once for edit in _plan(network, tapes[0], wish, low_pass)]
        for edit in edits:
            undo += edit()
        _verify(network, tapes, wishes, low_pass.name)
    except BaseException:
        for step_back in reversed(undo):
            step_back()
        raise
    return network


# ---- looking ---------------------------------------------------------------------------------


def _probe(network: nn.Module) -> list[Tape]:
    """Recorded passes over images of two sizes, or of one if the network takes no other."""
    for sizes in SIZES:
        try:
            tapes = [record(network, probe_image(network, sizes[0]))]
        except InputError as error:
            fault = error
            continue
        try:
            return [*tapes, record(network, probe_image(network, sizes[1]))]
        except InputError:
            return tapes
    raise fault


def _steady_steps(tapes: Sequence[Tape], where: str) -> tuple[Step, ...]:
    """The steps of a network, if they are the same for every image size."""
    first, *others = [steps_on(tape) for tape in tapes]
    for other in others:
        kinds = [
            [(s.path, s.kind, s.stride) for s in steps if s.kind in (CONV, MAX_POOL, AVG_POOL)]
            for steps in (first, other)
        ]
        if kinds[0] != kinds[1]:
            differing = [a for a, b in zip(*kinds, strict=False) if a != b] or kinds[0] or kinds[1]
            raise InputError(
                f"its stride depends on the size of the image (first at '{differing[0][0]}').",
                where,
                "Networks with a fixed stride can be anti-aliased.",
            )
    return first


# ---- planning --------------------------------------------------------------------------------


def _plan(network: nn.Module, tape: Tape, wish: Wish, low_pass: Filter) -> list[Edit]:
    """What to do for one step. Changes nothing yet.

    Raises:
        InputError: the step cannot be filtered.
    """
    step, where = wish.step, f"{type(network).__name__}, step '{wish.step.path}'"
    module: Any = network.get_submodule(step.path)
    kinds: dict[str, Any] = {CONV: nn.Conv2d, MAX_POOL: nn.MaxPool2d, AVG_POOL: nn.AvgPool2d}
    wanted = kinds.get(step.kind)
    if wanted is None or not isinstance(module, wanted) or pair(module.stride) != step.stride:
        # A function in somebody's forward, or a stride that is worked out on the way.
        raise InputError(
            f"sub-samples by {step.kind.replace('_', ' ')} with stride {step.stride[0]} in "
            f"{type(module).__name__}, which this surgery does not understand: only Conv2d, "
            "MaxPool2d and AvgPool2d modules with a fixed stride can be filtered.",
            where,
            WITHOUT.format(step.place),
        )
    call = tape.calls[step.call]
    edits: list[Edit] = []
    if wish.before:
        edits.append(partial(_attach, module, LowPass(1, low_pass, factor=step.stride), True))
    if not wish.after:
        return edits
    if step.kind != CONV:
        reach = (0, 0)
        if module.ceil_mode:
            padding = pair(module.padding)
            reach = step.kernel[0] - 1 - padding[0], step.kernel[1] - 1 - padding[1]
            edits.append(partial(_attach_window, module))
        hosts = [(module, False)]
        blur = LowPass(step.stride, low_pass, reach=reach)
    else:
        blur = LowPass(step.stride, low_pass)
        projects = step.place == SKIP and step.kernel == (1, 1)
        if projects and pair(module.padding) == (0, 0):
            hosts = [(module, True)]
        else:
            value: int | None = activated_value(tape, call)
            hosts, readers = [], tape.consumers(activated_value(tape, call))
            while not hosts and value is not None:
                hosts = _hosts(network, tape, step, value)
                value = rescaled_value(tape, value)
    if not hosts:
        names = ", ".join(sorted({f"'{one.op}' in '{one.path}'" for one in readers}))
        raise InputError(
            f"its result is read by functions instead of modules ({names}): no filter can be put "
            "there.",
            where,
            WITHOUT.format(step.place),
        )
    edits.append(partial(_unstride, module))
    if type(module) is nn.MaxPool2d and not module.ceil_mode and not module.return_indices:
        edits.append(partial(_fuse, module, blur))
        return edits
    edits += [
        partial(_attach, host, blur if k == 0 else LowPass(step.stride, low_pass), before)
        for k, (host, before) in enumerate(hosts)
    ]
    return edits


def _hosts(network: nn.Module, tape: Tape, step: Step, value: int) -> list[tuple[nn.Module, bool]]:
    """Modules to hang a filter of a value on: after the one that makes it, or before all that
    read it. With each, whether the filter stands before it. None if there are no such modules."""
    counts = Counter(call.path for call in tape.modules)
    if counts[step.path] > 1:
        return []

    def fits(call: ModuleCall) -> bool:
        return counts[call.path] == 1 and not isinstance(
            network.get_submodule(call.path), CONTAINERS
        )

    readers = tape.consumers(value)
    for call in tape.modules:  # innermost first
        inside = any(_is_inside(reader.path, call.path) for reader in readers)
        if call.output == value and fits(call) and not inside:
            return [(network.get_submodule(call.path), False)]
    entered = [call for call in reversed(tape.modules) if call.input == value and fits(call)]
    chosen: list[str] = []
    for call in entered:  # outermost first
        if not any(_is_inside(call.path, path) for path in chosen):
            chosen.append(call.path)
    for reader in readers:
        if not any(_is_inside(reader.path, path) for path in chosen):
            return []
    return [(network.get_submodule(path), True) for path in chosen]


def _is_inside(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}." if outer else "")


# ---- changing --------------------------------------------------------------------------------


def filter_input(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The hook before a module: its first input, filtered."""
    return (getattr(module, name)(inputs[0]), *inputs[1:])


def filter_output(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """The hook after a module: its result, filtered."""
    filtered: Tensor = getattr(module, name)(output)
    return filtered


def _attach(host: nn.Module, low_pass: LowPass, before: bool) -> list[Undo]:
    """Hang a filter before or after a module."""
    name = free = "filter_before" if before else "filter_after"
    number = 1
    while hasattr(host, free):
        number += 1
        free = f"{name}_{number}"
    device = next((tensor.device for tensor in host.parameters()), None)
    low_pass.train(host.training)
    host.add_module(free, low_pass.to(device))
    hook = (
        host.register_forward_pre_hook(partial(filter_input, free))
        if before
        else host.register_forward_hook(partial(filter_output, free))
    )
    return [partial(delattr, host, free), hook.remove]


def _fuse(pool: nn.Module, low_pass: LowPass) -> list[Undo]:
    """Filter a pooling's result inside the pooling, which saves memory and time."""
    before = pool.__class__
    pool.__class__ = FilteredMaxPool2d
    low_pass.train(pool.training)
    pool.add_module("filter_after", low_pass)
    return [partial(delattr, pool, "filter_after"), partial(setattr, pool, "__class__", before)]


def fill_window(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The hook before a pooling in ceil mode at stride 1: a map smaller than its window is
    repeated at its end, where the window of the strided pooling was cut off."""
    maps, kernel, padding = inputs[0], pair(module.kernel_size), pair(module.padding)
    sizes = zip(kernel, padding, maps.shape[-2:], strict=True)
    height, width = (max(0, k - 2 * p - size) for k, p, size in sizes)
    if height or width:
        maps = functional.pad(maps, (0, width, 0, height), mode="replicate")
    return (maps, *inputs[1:])


def _attach_window(module: nn.Module) -> list[Undo]:
    return [module.register_forward_pre_hook(fill_window).remove]


def _unstride(module: Any) -> list[Undo]:
    """Let a convolution or pooling keep every sample."""
    stride = module.stride
    module.stride = 1 if isinstance(stride, int) else (1, 1)
    return [partial(setattr, module, "stride", stride)]


def _smooth(network: nn.Module, tape: Tape, activation: str, undo: list[Undo]) -> None:
    """Put a smooth activation in the place of every ReLU on a map."""
    paths = {
        call.path
        for call in tape.calls
        if call.op in ("relu", "clamp_min") and len(call.shape) == 4 and call.shape[2:] != (1, 1)
    }
    where = type(network).__name__
    if not paths:
        raise InputError("has no ReLU to make smooth.", where, "Leave its activation as it is.")
    for path in sorted(paths):
        if not isinstance(network.get_submodule(path), nn.ReLU):
            raise InputError(
                f"'{path}' applies ReLU as a function, which cannot be replaced.",
                where,
                "Leave its activation as it is.",
            )
    for name, parent in list(network.named_modules()):
        for child, module in list(parent.named_children()):
            if isinstance(module, nn.ReLU) and f"{name}.{child}".lstrip(".") in paths:
                undo.append(partial(setattr, parent, child, module))
                setattr(parent, child, ACTIVATIONS[activation](module.inplace))


def _verify(network: nn.Module, tapes: Sequence[Tape], wishes: Sequence[Wish], name: str) -> None:
    """Run the changed network on the probe images again: it must do what was asked.

    Raises:
        InputError: a step is not filtered, or the shape of a result has changed.
    """
    for before in tapes:
        try:
            after = record(network, probe_image(network, before.size))
        except InputError as error:
            paths = ", ".join(dict.fromkeys(f"'{wish.step.path}'" for wish in wishes))
            raise InputError(
                f"cannot be filtered at {paths}: it could not be run afterwards "
                f"({error.__cause__}).",
                type(network).__name__,
                "Name placements without the step at fault.",
            ) from error
        steps: dict[str, list[Step]] = {}
        for step in steps_on(after):
            steps.setdefault(step.path, []).append(step)
        for old in steps_on(before):
            new = steps[old.path].pop(0) if steps.get(old.path) else None
            asked = any(wish.step.path == old.path for wish in wishes)
            if new is None or new.sampled != old.sampled or (asked and new.filter != name):
                raise InputError(
                    f"step '{old.path}' ({old.kind}) cannot be filtered in this network.",
                    type(network).__name__,
                    "Choose a placement without this step.",
                )
        if after.output != before.output:
            raise InputError(
                f"its result would change from shape {before.output} to {after.output}.",
                type(network).__name__,
                "Choose another placement.",
            )
