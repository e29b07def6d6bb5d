"""Rules of gradient descent on the numbers of many episodes at once.

Written out, since an optimiser of PyTorch has one learning rate where each episode may need its
own, and since a head's memory of a step must not outlive the fit. Each is tested against PyTorch.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.images import compiled

Array = NDArray[np.floating[Any]]


class Rule(Protocol):
    """A rule of descent: turns the gradients of successive steps into changes."""

    def change(self, gradient: Tensor) -> Tensor:
        """What to add to the parameter after seeing this gradient, which may be overwritten."""
        ...


class Gradient:
    """Plain gradient descent.

    Args:
        lr: learning rate, a number or a tensor that broadcasts to the parameter.
    """

    def __init__(self, lr: float | Tensor) -> None:
        self.lr = lr

    def change(self, gradient: Tensor) -> Tensor:
        return -self.lr * gradient


class Adam:
    """Adam (Kingma and Ba 2015), without weight decay; compiled as Adadelta is.

    Args:
        lr: learning rate, a number or a tensor that broadcasts to the parameter.
    """

    MEAN, SQUARE, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, lr: float | Tensor) -> None:
        self.lr, self.step = lr, 0
        self.mean = self.square = torch.zeros(())

    def change(self, gradient: Tensor) -> Tensor:
        step = gradient.contiguous()
        if self.step == 0:
            self.mean, self.square = torch.zeros_like(step), torch.zeros_like(step)
        self.step += 1
        of_mean = 1 / (1 - self.MEAN**self.step)
        of_root = 1 / math.sqrt(1 - self.SQUARE**self.step)
        if step.device.type == "cpu":
            constants = [
                1 - self.MEAN,
                self.SQUARE,
                1 - self.SQUARE,
                of_mean,
                of_root,
                self.EPSILON,
            ]
            known = torch.tensor(constants, dtype=step.dtype)
            arrays = (step, self.mean, self.square, known)
            adam_step(*(array.view(-1).numpy() for array in arrays))
        else:
            self.mean.lerp_(step, 1 - self.MEAN)
            self.square.mul_(self.SQUARE).addcmul_(step, step, value=1 - self.SQUARE)
            spread = self.square.sqrt().mul_(of_root).add_(self.EPSILON)
            step = (self.mean * of_mean).div_(spread)
        return step.mul_(-self.lr)


@compiled
def adam_step(step: Array, means: Array, squares: Array, constants: Array) -> None:
    """Turn a gradient `[n]` into the step, and bring its means up to date."""
    new, decay, rest, of_mean, of_root, epsilon = constants
    for i in range(step.size):
        x = step[i]
        mean = means[i] + new * (x - means[i])
        square = decay * squares[i] + rest * (x * x)
        means[i], squares[i] = mean, square
        step[i] = of_mean * mean / (of_root * np.sqrt(square) + epsilon)


ADADELTA = 0.9, 1 - 0.9, 1e-6
"""Decay, what it leaves of 1, and epsilon, as SUR, URL and TSA use them."""


class Adadelta:
    """Adadelta (Zeiler 2012), with the constants `ADADELTA`.

    On a CPU compiled to one pass over memory, where PyTorch's operations are ten.

    Args:
        lr: learning rate, a number or a tensor that broadcasts to the parameter.
    """

    def __init__(self, lr: float | Tensor) -> None:
        self.lr = lr
        self.gradients = self.steps = torch.zeros(())

    def change(self, gradient: Tensor) -> Tensor:
        step = gradient.contiguous()
        if self.steps.ndim == 0:
            self.gradients, self.steps = torch.zeros_like(step), torch.zeros_like(step)
        if step.device.type == "cpu":
            constants = torch.tensor(ADADELTA, dtype=step.dtype)
            arrays = (step, self.gradients, self.steps, constants)
            adadelta_step(*(array.view(-1).numpy() for array in arrays))
        else:
            decay, rest, epsilon = ADADELTA
            self.gradients.mul_(decay).addcmul_(step, step, value=rest)
            step = (self.steps + epsilon).div_(self.gradients + epsilon).sqrt_().mul_(step)
            self.steps.mul_(decay).addcmul_(step, step, value=rest)
        return step.mul_(-self.lr)


@compiled
def adadelta_step(step: Array, gradients: Array, steps: Array, constants: Array) -> None:
    """Turn a gradient `[n]` into the step, and bring the mean squares of both up to date."""
    decay, rest, epsilon = constants
    for i in range(step.size):
        x = step[i]
        mean = decay * gradients[i] + rest * (x * x)
        x *= np.sqrt((steps[i] + epsilon) / (mean + epsilon))
        gradients[i] = mean
        steps[i] = decay * steps[i] + rest * (x * x)
        step[i] = x


def descend(start: Tensor, slope: Callable[[Tensor], Tensor], rule: Rule, steps: int) -> Tensor:
    """Follow a gradient downhill from a starting point.

    Args:
        start: `[E, ...]` the parameters of E episodes.
        slope: from the parameters to the gradient of each episode's loss for its own.
        rule: turns gradients into changes.
        steps: how many.

    Returns:
        The parameters after the last step.
    """
    parameter = start.clone()
    for _ in range(steps):
        parameter += rule.change(slope(parameter))
    return parameter
