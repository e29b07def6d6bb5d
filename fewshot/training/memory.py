"""How much memory a training needs, estimated before a GPU is asked."""

from typing import Any

import torch
from torch import Tensor, nn

from episodes.faults import InputError
from fewshot.backbones import build_backbone
from fewshot.training.lessons import Lessons
from fewshot.training.objective import Objective
from fewshot.training.recipe import Recipe

PROBE = 4
"""Images whose activations are counted."""
ROOM = 0.9
"""Part of a GPU's memory that a training can use; the rest is the allocator's and CUDA's."""
STATES = {"sgd": 1, "nesterov": 1, "adam": 2, "adamw": 2}
"""Numbers that an optimiser keeps per parameter."""


def activation_bytes(backbone: nn.Module, image_size: int, *, half: bool = False) -> float:
    """Bytes that one image leaves in memory for the backward pass.

    Counted on the CPU: every tensor that autograd saves in a forward pass, each storage once,
    without the parameters.

    Args:
        backbone: on the CPU; it is left as it was but for the running statistics of its norms,
            so give a copy.
        image_size: side of the images, in pixels.
        half: whether the network computes with 16 bits.
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in backbone.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.zeros(PROBE, 3, image_size, image_size)
    backbone.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = backbone(images)
    total = sum(seen.values()) / PROBE
    del scores
    return total / 2 if half else total


def fixed_bytes(objective: Objective, optimizer: str, *, averaged: bool) -> int:
    """Bytes of parameters, gradients, optimiser state and averaged weights, in float32."""
    parameters = sum(one.numel() for one in objective.parameters() if one.requires_grad)
    frozen = sum(one.numel() for one in objective.parameters() if not one.requires_grad)
    copies = 2 + STATES[optimizer] + averaged
    return 4 * (copies * parameters + frozen)


def largest_batch(available: float, fixed: float, per_image: float) -> int:
    """Images that fit at once, by estimate; a multiple of 8 where there are as many.

    Args:
        available: bytes of the GPU.
        fixed: bytes that do not depend on the batch.
        per_image: bytes of activations.
    """
    fits = max(0, int((available * ROOM - fixed) / per_image))
    return fits // 8 * 8 if fits >= 8 else fits


def too_large(
    objective: Objective, lessons: Lessons[Any], recipe: Recipe, asked: int, *, half: bool
) -> InputError:
    """What to say when so many images at once do not fit into the memory of the GPU.

    Args:
        objective, lessons, recipe: of the training.
        asked: images of one part of the lesson.
        half: whether the network computes with 16 bits.
    """
    probe = build_backbone(objective.backbone.name, 2, 0)
    per_image = activation_bytes(probe, lessons.image_size, half=half)
    fixed = fixed_bytes(objective, recipe.optimizer, averaged=recipe.ema > 0)
    available = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    fits = largest_batch(available, fixed, per_image)
    return InputError(
        f"{asked} images at once do not fit into the memory of the GPU; about {fits} would, by "
        "estimate.",
        f"training of {objective.backbone.name}",
        lessons.remedy,
    )
