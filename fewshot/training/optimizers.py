"""Optimisers by name, and their state as named tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fewshot.checkpoint import under
from fewshot.training.recipe import Recipe

MOMENTUM = 0.9
SHORTEST_SQUARE = 1e-5
"""Of a gradient that is scaled to length 1; shorter ones stay shorter."""


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe over the parameters of a network that learn."""
    learning = [one for one in network.parameters() if one.requires_grad]
    decay = recipe.weight_decay
    groups = [{"params": learning, "weight_decay": decay}]
    if recipe.decay == "weights":
        # biases, and scales and offsets of norms, are the vectors
        heavy = [one for one in learning if one.ndim > 1]
        light = [one for one in learning if one.ndim <= 1]
        groups = [
            {"params": heavy, "weight_decay": decay},
            {"params": light, "weight_decay": 0.0},
        ]
    if recipe.optimizer in ("sgd", "nesterov"):
        nesterov = recipe.optimizer == "nesterov"
        return torch.optim.SGD(
            groups, lr=recipe.learning_rate, momentum=MOMENTUM, nesterov=nesterov
        )
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=recipe.learning_rate)


def has_gradients(optimizer: torch.optim.Optimizer) -> bool:
    """Whether any of its parameters has a gradient now."""
    groups = optimizer.param_groups
    return any(parameter.grad is not None for group in groups for parameter in group["params"])


@torch.no_grad()
def scale_gradient(module: nn.Module) -> None:
    """Divide the gradient of all parameters by its length, as `g / sqrt(max(|g|^2, 1e-5))`.

    Source: the benchmark's CrossTransformers (facts, section 5.3).
    """
    gradients = [one.grad for one in module.parameters() if one.grad is not None]
    length = nn.utils.get_total_norm(gradients).clamp(min=SHORTEST_SQUARE**0.5)
    for gradient in gradients:
        gradient.div_(length)


def optimizer_state(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """What an optimiser remembers of the parameters of a network, by name."""
    names: dict[Tensor, str] = {one: name for name, one in network.named_parameters()}
    return {
        f"optimizer.{names[parameter]}:{key}": value
        for parameter, entries in optimizer.state.items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, network: nn.Module, state: Mapping[str, Tensor]
) -> None:
    """Give an optimiser back what `optimizer_state` took of its parameters."""
    own = {one for group in optimizer.param_groups for one in group["params"]}
    parameters = dict(network.named_parameters())
    for name, value in under("optimizer.", state).items():
        parameter_name, _, key = name.rpartition(":")
        parameter = parameters[parameter_name]
        if parameter in own:
            counts = key == "step"  # stays on the CPU
            optimizer.state[parameter][key] = value if counts else _like(value, parameter)


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """In the layout and on the device of its parameter."""
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
