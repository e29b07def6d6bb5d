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
    """Adam (Kingma and Ba 2015), without weight decay.

    Args:
        lr: learning rate, a number or a tensor that broadcasts to the parameter.
    """

    MEAN, SQUARE, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, lr: float | Tensor) -> None:
        self.lr, self.step = lr, 0
        self.mean = self.square = torch.zeros(())

    def change(self, gradient: Tensor) -> Tensor:
        if self.step == 0:
            self.mean, self.square = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self.step += 1
        self.mean.lerp_(gradient, 1 - self.MEAN)
        self.square.mul_(self.SQUARE).addcmul_(gradient, gradient, value=1 - self.SQUARE)
        spread = (self.square.sqrt() / math.sqrt(1 - self.SQUARE**self.step)).add_(self.EPSILON)
        return -self.lr / (1 - self.MEAN**self.step) * self.mean / spread


ADADELTA = 0.9, 1 - 0.9, 1e-6
"""Decay, what it leaves of 1, and epsilon, as SUR, URL and TSA use them."""


class Adadelta:
    """Adadelta (Zeiler 2012), with the constants `ADADELTA`.

    On a CPU compiled to one pass over memory, where PyTorch's operations are ten: URL's matrices
    are large.

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


def descend(start: Tensor, loss: Callable[[Tensor], Tensor], rule: Rule, steps: int) -> Tensor:
    """Minimise a loss from a starting point.

    Args:
        start: `[E, ...]` the parameters of E episodes.
        loss: from the parameters to the losses `[E]`, each a function of its own episode only:
            the gradient of their sum is then the gradient of each.
        rule: turns gradients into changes.
        steps: how many.

    Returns:
        The parameters after the last step.
    """
    parameter = start.detach().clone()
    for _ in range(steps):
        with torch.enable_grad():
            parameter.requires_grad_(True)
            (gradient,) = torch.autograd.grad(loss(parameter).sum(), parameter)
        parameter = parameter.detach() + rule.change(gradient)
    return parameter
