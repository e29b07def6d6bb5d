"""An exponential moving average of a network's weights."""

import torch
from torch import nn


@torch.no_grad()
def average(averaged: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights a little towards those of a step; statistics of norms too.

    Early the average follows faster, by (1 + step) / (10 + step): it forgets how it began.

    Args:
        averaged: changed in place.
        network: as it is after the step.
        decay: how much of the average stays, from 0 to below 1.
        step: counted from 1.
    """
    stays = min(decay, (1 + step) / (10 + step))
    now = network.state_dict()
    for name, tensor in averaged.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(now[name].to(tensor.dtype), 1 - stays)
        else:
            tensor.copy_(now[name])
