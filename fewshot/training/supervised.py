"""Supervised training on the train classes of one source: cross-entropy, SGD, cosine.

The order of the images, how they are augmented and the initial weights are functions of the seed;
the position in them is a step number. So a run that was stopped goes on from its last saved
state as if it had not been, and neither workers nor interruptions move a number.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from episodes import InputError
from episodes.augmentation import find_augmentation
from episodes.loader import LabelledImages
from episodes.streams import LabelledStream
from fewshot.backbones import Backbone, build_backbone
from fewshot.checkpoint import load_tensors, save_tensors

MOMENTUM = 0.9
SAVE_EVERY_SECONDS = 60.0
REPORT_EVERY_STEPS = 5
"""Reading the loss waits for a GPU, so it is not read at every step."""

Report = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Recipe:
    """How a backbone is trained.

    Attributes:
        epochs: passes over the images.
        batch_size: images per step; what is left of a pass is dropped.
        learning_rate: the highest; from there it falls to zero along a cosine.
        weight_decay: L2 coefficient, on all parameters.
        warmup: share of the steps over which the rate first rises in a line; 0 to below 1.
        augment: an augmentation of `episodes.augmentation` by name; "none" trains on the images
            as they are.
        seed: of weights, order and augmentation.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: float
    augment: str
    seed: int

    def rate(self, step: int, total: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = self.warmup * total
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        falling = (step - rising) / (total - rising)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * falling))


class Training:
    """A backbone on its way: network, optimiser and the number of steps taken.

    Args:
        name: of the backbone.
        images: what it is trained on.
        recipe: how.
        device: where.

    Raises:
        InputError: the backbone or the augmentation is unknown, or a batch is larger than the
            data.
    """

    def __init__(
        self, name: str, images: LabelledImages, recipe: Recipe, device: torch.device
    ) -> None:
        self.images, self.recipe, self.device = images, recipe, device
        unchanged = recipe.augment == "none"
        augmentation = None if unchanged else find_augmentation(recipe.augment, images.reader.size)
        self.stream = LabelledStream(
            images, recipe.batch_size, recipe.seed, remainder="drop", augmentation=augmentation
        )
        self.backbone = build_backbone(name, len(images.class_names), recipe.seed)
        # channels_last: the layout in which convolutions are fastest, on CPU and GPU alike.
        self.backbone.to(device).to(memory_format=torch.channels_last)
        self.backbone.train()
        self.optimizer = torch.optim.SGD(
            self.backbone.parameters(),
            lr=recipe.learning_rate,
            momentum=MOMENTUM,
            weight_decay=recipe.weight_decay,
        )
        self.step = 0
        self.steps_per_epoch = self.stream.batches_per_epoch
        self.total = recipe.epochs * self.steps_per_epoch

    def batches(self, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images [batch, 3, S, S] and labels [batch] of the steps that are left."""
        self.stream.go_to(*divmod(self.step, self.steps_per_epoch))
        for batch in self.stream.batches(workers, self.recipe.epochs):
            yield batch.images, batch.labels

    def autocast(self) -> AbstractContextManager[None]:
        """bfloat16 where the GPU has it; float32 elsewhere."""
        if self.device.type == "cuda" and torch.cuda.is_bf16_supported():
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()

    def learn(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step of SGD; the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step, self.total)
        images = images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        with self.autocast():
            scores = self.backbone(images)
        labels = labels.to(self.device, non_blocking=True)
        loss = functional.cross_entropy(scores.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.step += 1
        return loss.detach()

    # ---- interruption and resumption ---------------------------------------------------------

    def identity(self) -> str:
        """A hash of all that decides the weights: backbone, recipe, images."""
        facts = [self.backbone.name, asdict(self.recipe), self.stream.facts()]
        facts.append(list(self.images.class_names))
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write the state, atomically.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        state = {f"network.{k}": v for k, v in self.backbone.network.state_dict().items()}
        state |= {f"momentum.{k}": v for k, v in self._momentum().items()}
        save_tensors(path, state, {"step": str(self.step), "identity": self.identity()})

    def resume(self, path: Path) -> bool:
        """Go on from a saved state; False when there is none, or it is of another training.

        Raises:
            InputError: the state is damaged.
        """
        if not path.exists():
            return False
        try:
            state, metadata = load_tensors(path)
        except InputError as error:
            remedy = "Remove it to train from the start."
            raise InputError(error.what, path, remedy) from error
        if metadata.get("identity") != self.identity():
            return False
        self.backbone.network.load_state_dict(_under("network.", state))
        momentum = _under("momentum.", state)
        for name, parameter in self.backbone.network.named_parameters():
            if name in momentum:
                buffer = momentum[name].to(self.device)
                self.optimizer.state[parameter] = {
                    "momentum_buffer": buffer.to(memory_format=_memory_format(buffer))
                }
        self.step = int(metadata["step"])
        return True

    def _momentum(self) -> dict[str, Tensor]:
        named = self.backbone.network.named_parameters()
        states = {name: self.optimizer.state.get(parameter, {}) for name, parameter in named}
        return {
            name: state["momentum_buffer"]
            for name, state in states.items()
            if state.get("momentum_buffer") is not None
        }


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}


def _memory_format(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.ndim == 4 else torch.contiguous_format


def train(
    name: str,
    images: LabelledImages,
    recipe: Recipe,
    device: torch.device,
    state_path: Path,
    workers: int = 0,
    report: Report = lambda step, total, loss: None,
) -> Backbone:
    """Train a backbone, or go on where an interrupted training stopped.

    Args:
        name: of the backbone.
        images: what it is trained on.
        recipe: how.
        device: where.
        state_path: where the state is saved, once a minute and at the end of every epoch.
        workers: processes that read images ahead; they do not change the weights.
        report: called now and then with steps done, steps in all, and the loss.

    Returns:
        The trained backbone, in evaluation mode.

    Raises:
        InputError: the backbone is unknown, an image cannot be read, the loss is not finite,
            or the state cannot be written or read.
    """
    training = Training(name, images, recipe, device)
    training.resume(state_path)
    saved = time.monotonic()
    for batch, labels in training.batches(workers):
        loss = training.learn(batch, labels)
        ended = training.step % training.steps_per_epoch == 0
        if ended or training.step % REPORT_EVERY_STEPS == 0:
            _check_finite(loss, training.step, name)
            report(training.step, training.total, float(loss))
        if ended or time.monotonic() - saved > SAVE_EVERY_SECONDS:
            _check_finite(loss, training.step, name)
            training.save(state_path)
            saved = time.monotonic()
    return training.backbone.eval()


def _check_finite(loss: Tensor, step: int, name: str) -> None:
    if not torch.isfinite(loss):
        raise InputError(
            f"the loss is not finite at step {step}.",
            f"training of {name}",
            "Lower --learning-rate; the state before it is kept.",
        )
