"""What a network does to an image, as it happens: every tensor operation, in order.

A forward pass is recorded below autograd, where torchvision's, timm's and anybody's networks all
come down to the same few dozen operations. Nothing is traced symbolically, so a network need not
be traceable; what is recorded is what ran.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakTensorKeyDictionary

from episodes.faults import InputError
from fewshot.antialiasing.low_pass import LowPass

LOW_PASS = "low_pass"  # nosec B105: no password
MOST_CHANNELS = 16
"""Of an image."""

Watcher = Callable[[int, Any, tuple[Any, ...]], None]
"""Called with the number of an operation on the tape, the function or `LowPass` module, and its
arguments, after it has run."""


@dataclass(frozen=True)
class Call:
    """One operation on maps.

    Attributes:
        op: its name in PyTorch, without the underscore of in-place variants; "low_pass" stands
            for all that a `LowPass` module does.
        path: of the innermost module that it happened in.
        inputs, outputs: values, numbered; only those that depend on the image.
        shape, shape_out: of the first input and output.
        arguments: as PyTorch got them, tensors replaced by None.
        weight: of a convolution.
        flops: two per multiply-add, one per comparison of a pooling.
        number: its place on the tape.
    """

    op: str
    path: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shape: tuple[int, ...]
    shape_out: tuple[int, ...]
    arguments: tuple[Any, ...]
    weight: Tensor | None
    flops: int
    number: int


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module: the value of its first argument and of its result, if they are maps."""

    path: str
    input: int | None
    output: int | None


@dataclass
class Tape:
    """A recorded forward pass.

    Attributes:
        calls: the operations in order.
        modules: the calls of modules, in the order in which they ended.
        image: the value of the image.
        size: side of the image in pixels.
        output: shape of the network's result.
    """

    calls: list[Call] = field(default_factory=list)
    modules: list[ModuleCall] = field(default_factory=list)
    image: int = 0
    size: int = 0
    output: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._producer: dict[int, int] = {}
        self._consumers: dict[int, list[int]] = {}

    def add(self, call: Call) -> None:
        for value in call.outputs:
            self._producer[value] = len(self.calls)
        for value in dict.fromkeys(call.inputs):
            self._consumers.setdefault(value, []).append(len(self.calls))
        self.calls.append(call)

    def producer(self, value: int) -> Call | None:
        """The operation that a value is the result of; None for the image."""
        place = self._producer.get(value)
        return None if place is None else self.calls[place]

    def consumers(self, value: int) -> list[Call]:
        """The operations that read a value, in order."""
        return [self.calls[place] for place in self._consumers.get(value, ())]


class Recorder(TorchDispatchMode):
    """Writes a tape while it is entered.

    Args:
        watch: told of every operation.
    """

    def __init__(self, watch: Watcher | None) -> None:
        super().__init__()
        self.tape, self._watch = Tape(), watch
        self._values = WeakTensorKeyDictionary()
        self._count, self._paths, self._inside = 0, [""], 0

    def number(self, tensor: Tensor) -> int:
        """A fresh value for a tensor that was made or changed."""
        self._values[tensor] = self._count
        self._count += 1
        return self._count - 1

    def value(self, found: object) -> int | None:
        return self._values.get(found) if isinstance(found, Tensor) else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in _leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        maps = [tensor for tensor in tensors if tensor in self._values]
        # Before the call: in-place operations give their argument a new value.
        inputs = tuple(self._values[tensor] for tensor in maps)
        shape = tuple(maps[0].shape) if maps else ()
        result = func(*args, **kwargs)
        if maps and not self._inside:
            made = [leaf for leaf in _leaves(result) if isinstance(leaf, Tensor)]
            op = func.overloadpacket.__name__.rstrip("_")
            self._add(
                op,
                inputs,
                shape,
                made,
                tuple(None if isinstance(a, Tensor) else a for a in args),
                weight=args[1] if op == "convolution" else None,
                flops=_flops(func, args, kwargs, result),
            )
            if self._watch:
                self._watch(len(self.tape.calls) - 1, func, args)
        return result

    def _add(
        self,
        op: str,
        inputs: tuple[int, ...],
        shape: tuple[int, ...],
        made: Sequence[Tensor],
        arguments: tuple[Any, ...],
        weight: Tensor | None,
        flops: int,
    ) -> None:
        outputs = tuple(self.number(tensor) for tensor in made)
        shape_out = tuple(made[0].shape) if made else ()
        place = len(self.tape.calls)
        path = self._paths[-1]
        self.tape.add(
            Call(op, path, inputs, outputs, shape, shape_out, arguments, weight, flops, place)
        )

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Knows, while entered, which module of the network an operation happens in."""
        with ExitStack() as stack:
            for path, module in network.named_modules():
                stack.callback(module.register_forward_pre_hook(self._enter(path)).remove)
                stack.callback(module.register_forward_hook(self._leave(path)).remove)
            yield

    def _enter(self, path: str) -> Any:
        def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._paths.append(path)
            self._inside += isinstance(module, LowPass)

        return enter

    def _leave(self, path: str) -> Any:
        def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            first = inputs[0] if inputs else None
            if isinstance(module, LowPass) and first is not None:
                number = self.value(first)
                value = () if number is None else (number,)
                flops = 2 * module.taps.numel() * output.numel()
                self._add(LOW_PASS, value, tuple(first.shape), [output], (module,), None, flops)
                if self._watch:
                    self._watch(len(self.tape.calls) - 1, module, inputs)
                self._inside -= 1  # only now: what the watcher computes is not the network's
            self._paths.pop()
            self.tape.modules.append(ModuleCall(path, self.value(first), self.value(output)))

        return leave


def _flops(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """Of one operation; those that PyTorch's own counter counts, and pooling."""
    packet = func.overloadpacket
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=result))
    if packet.__name__ in ("max_pool2d_with_indices", "avg_pool2d"):
        out = result[0] if isinstance(result, tuple) else result
        return int(out.numel() * math.prod(pair(args[1])))
    return 0


def pair(setting: Sequence[int] | int) -> tuple[int, int]:
    """A setting of a convolution or pooling per dimension: PyTorch takes one number for both."""
    both = (setting, setting) if isinstance(setting, int) else tuple(setting)
    return both[0], both[-1]


def _leaves(nested: Any) -> Iterator[Any]:
    if isinstance(nested, list | tuple):
        for item in nested:
            yield from _leaves(item)
    elif isinstance(nested, dict):
        for item in nested.values():
            yield from _leaves(item)
    else:
        yield nested


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, every module's own mode restored afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def record(
    network: nn.Module,
    images: Tensor,
    watch: Watcher | None = None,
) -> Tape:
    """Run a network once, in evaluation mode and without gradients, and record it.

    Args:
        network: left as it was.
        images: float [n, channels, H, W], on the network's device.
        watch: told of every operation.

    Raises:
        InputError: the network cannot be run on these images.
    """
    recorder = Recorder(watch)
    # Nobody's counter of operations counts this pass.
    with (
        _disable_current_modes(),
        evaluating(network),
        torch.no_grad(),
        recorder.following(network),
    ):
        images = images.detach().clone()
        recorder.tape.image, recorder.tape.size = recorder.number(images), images.shape[-1]
        try:
            with recorder:
                output = network(images)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            first = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(
                f"cannot be run on images of shape {list(images.shape)} ({first[0]}).",
                type(network).__name__,
                "Give another image size.",
            ) from error
    tensors = [leaf for leaf in _leaves(output) if isinstance(leaf, Tensor)]
    recorder.tape.output = tuple(tensors[0].shape) if tensors else ()
    return recorder.tape


def probe_image(network: nn.Module, size: int) -> Tensor:
    """A black image [1, channels, size, size] of the type and on the device of the network."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            weight, channels = module.weight, module.in_channels
            if channels > MOST_CHANNELS:  # it reads blocks of pixels put into channels (TResNet)
                channels = 3
            return torch.zeros(1, channels, size, size, dtype=weight.dtype, device=weight.device)
    parameter = next(network.parameters(), torch.zeros(0))
    return torch.zeros(1, 3, size, size, dtype=parameter.dtype, device=parameter.device)
