"""Rules of gradient descent on the numbers of many episodes at once.

Written out, since an optimiser of PyTorch has one learning rate where each episode may need its
own, and since a head's memory of a step must not outlive the fit. Each is tested against PyTorch.
On a CPU a step is compiled to one pass over memory, where PyTorch's operations are ten.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.images import compiled

Array = NDArray[np.floating[Any]]
Rate = float | Tensor
"""A learning rate: a number, or a tensor `[E, 1, …]` with one for each episode."""


class Rule(Protocol):
    """A rule of descent: turns the gradients of successive steps into changes."""

    def begin(self, parameter: Tensor, gradient: Tensor) -> Callable[[], None]:
        """Begin a descent of a parameter `[E, …]`.

        Args:
            parameter: changed in place; contiguous.
            gradient: where its gradient will be at every step; contiguous.

        Returns:
            What takes a step; it may overwrite the gradient.
        """
        ...


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015), without weight decay."""

    lr: Rate
    MEAN: ClassVar[float] = 0.9
    SQUARE: ClassVar[float] = 0.999
    EPSILON: ClassVar[float] = 1e-8

    def begin(self, parameter: Tensor, gradient: Tensor) -> Callable[[], None]:
        mean, square, steps = torch.zeros_like(gradient), torch.zeros_like(gradient), 0
        arrays = []
        if parameter.device.type == "cpu":
            decays = (self.MEAN, 1 - self.MEAN, self.SQUARE, 1 - self.SQUARE)
            constants = parameter.new_tensor([*decays, self.EPSILON])
            rates = rates_of(parameter, self.lr)
            arrays = flat(parameter, gradient, mean, square, rates, constants)

        def move() -> None:
            nonlocal steps
            steps += 1
            of_mean, of_root = 1 - self.MEAN**steps, math.sqrt(1 - self.SQUARE**steps)
            if arrays:
                adam_step(of_mean, of_root, *arrays)
                return
            mean.lerp_(gradient, 1 - self.MEAN)
            square.mul_(self.SQUARE).addcmul_(gradient, gradient, value=1 - self.SQUARE)
            spread = square.sqrt().div_(of_root).add_(self.EPSILON)
            parameter.sub_((mean / of_mean).div_(spread).mul_(self.lr))

        return move


@compiled
def adam_step(
    of_mean: float,
    of_root: float,
    parameter: Array,
    gradient: Array,
    means: Array,
    squares: Array,
    rates: Array,
    constants: Array,
) -> None:
    """Change a parameter `[n]`, and bring the means of its gradient up to date.

    Args:
        of_mean, of_root: what the mean and the root of the mean square are divided by.
        rates: one for each equal part of the parameter.
        constants: both decays and what they leave of 1, and epsilon.
    """
    decay, rest, square_decay, square_rest, epsilon = constants
    part = parameter.size // rates.size
    for e in range(rates.size):
        rate, widen = rates[e] / of_mean, 1 / of_root
        for i in range(e * part, (e + 1) * part):
            x = gradient[i]
            mean = decay * means[i] + rest * x
            square = square_decay * squares[i] + square_rest * (x * x)
            means[i], squares[i] = mean, square
            parameter[i] -= rate * mean / (widen * np.sqrt(square) + epsilon)


ADADELTA = 0.9, 1 - 0.9, 1e-6
"""Decay, what it leaves of 1, and epsilon, as SUR, URL and TSA use them."""


@dataclass(frozen=True)
class Adadelta:
    """Adadelta (Zeiler 2012), with the constants `ADADELTA`."""

    lr: Rate

    def begin(self, parameter: Tensor, gradient: Tensor) -> Callable[[], None]:
        squares, steps = torch.zeros_like(gradient), torch.zeros_like(gradient)
        decay, rest, epsilon = ADADELTA
        if parameter.device.type == "cpu":
            constants = parameter.new_tensor(ADADELTA)
            arrays = flat(
                parameter, gradient, squares, steps, rates_of(parameter, self.lr), constants
            )
            return lambda: adadelta_step(*arrays)

        def move() -> None:
            squares.mul_(decay).addcmul_(gradient, gradient, value=rest)
            step = (steps + epsilon).div_(squares + epsilon).sqrt_().mul_(gradient)
            steps.mul_(decay).addcmul_(step, step, value=rest)
            parameter.sub_(step.mul_(self.lr))

        return move


@compiled
def adadelta_step(
    parameter: Array, gradient: Array, squares: Array, steps: Array, rates: Array, constants: Array
) -> None:
    """Change a parameter `[n]`, and bring the mean squares of gradient and steps up to date.

    Args:
        rates: one for each equal part of the parameter.
        constants: `ADADELTA`.
    """
    decay, rest, epsilon = constants
    part = parameter.size // rates.size
    for e in range(rates.size):
        rate = rates[e]
        for i in range(e * part, (e + 1) * part):
            x = gradient[i]
            square = decay * squares[i] + rest * (x * x)
            step = x * np.sqrt((steps[i] + epsilon) / (square + epsilon))
            squares[i] = square
            steps[i] = decay * steps[i] + rest * (step * step)
            parameter[i] -= rate * step


def flat(*tensors: Tensor) -> list[Array]:
    """The numbers of contiguous tensors as arrays `[n]` in the same memory."""
    return [tensor.view(-1).numpy() for tensor in tensors]


def rates_of(parameter: Tensor, lr: Rate) -> Tensor:
    """Learning rates in the dtype of a parameter, each of an equal part of it."""
    return torch.as_tensor(lr, dtype=parameter.dtype)


def descend(
    start: Tensor, slope: Callable[[Tensor, Tensor], None], rule: Rule, steps: int
) -> Tensor:
    """Follow a gradient downhill from a starting point.

    Args:
        start: `[E, …]` the parameters of E episodes.
        slope: puts the gradient of each episode's loss for its own parameters, its first
            argument, into its second.
        rule: turns gradients into changes.
        steps: how many.

    Returns:
        The parameters after the last step.
    """
    parameter = start.clone(memory_format=torch.contiguous_format)
    gradient = torch.empty_like(parameter)
    move = rule.begin(parameter, gradient)
    for _ in range(steps):
        slope(parameter, gradient)
        move()
    return parameter
