"""How a backbone is trained: one frozen record of settings. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from episodes.faults import InputError, unknown_name

CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("sgd", "nesterov", "adam", "adamw"),
    "decay": ("all", "weights"),
    "schedule": ("cosine", "restarts", "staircase", "constant"),
    "mix": ("none", "mixup", "cutmix", "both"),
    "classifier": ("linear", "cosine"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "select": ("last", "few_shot", "held_out"),
}
"""What the settings that are names may be."""


@dataclass(frozen=True)
class Recipe:
    """How a backbone is trained.

    A batch is counted over all processes and all parts of an accumulated gradient, so a recipe
    means the same on one GPU and on eight.
    """

    epochs: int = 90
    """Passes over the images, where --steps is 0."""
    steps: int = 0
    """Steps of the optimiser; 0 counts in --epochs."""
    batch_size: int = 256
    """Images per step, over all processes; what is left of a pass is dropped."""
    episodes_per_step: int = 1
    """Episodes per step, over all processes, of methods that learn from episodes."""
    shares: tuple[int, ...] = ()
    """With several sources: what part of the batch each gets, e.g. 7 1 1 1 1 1 1 1; equal parts
    when not given."""
    optimizer: str = "sgd"
    """sgd, nesterov, adam or adamw; sgd has a momentum of 0.9."""
    learning_rate: float = 0.1
    """The highest."""
    schedule: str = "cosine"
    """cosine falls to zero once, restarts every --period steps, staircase is multiplied by --factor
    every --period steps, constant stays."""
    period: int = 0
    """Steps of one fall, where the schedule is restarts or staircase."""
    factor: float = 0.5
    """What the rate is multiplied by at every fall, where the schedule is staircase."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises first in a line; 0 to below 1."""
    weight_decay: float = 1e-4
    """L2 coefficient (of adamw: decoupled)."""
    decay: str = "all"
    """What decays: all parameters, or weights: not those of norms, and no biases."""
    clip: float = 0.0
    """Longest gradient, in its L2 norm; 0 does not clip."""
    unit_gradient: bool = False
    """Scale every gradient to an L2 norm of 1, that of all parameters together, as
    CrossTransformers do."""
    augment: str = "flip"
    """Random changes of images: none, flip, crop, jitter, randaugment, augmix or sur."""
    mix: str = "none"
    """Mixed images and labels: none, mixup, cutmix, or both, of which each batch draws one."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    classifier: str = "linear"
    """linear, or cosine with a learned scale, as in SUR."""
    stochastic_depth: float = 0.0
    """Probability to skip the last residual branch, falling to the first; 0 leaves the network's
    own. For networks that have it (efficientnet)."""
    ema: float = 0.0
    """Decay of the averaged weights that are kept and evaluated, e.g. 0.9999; 0 keeps none."""
    accumulate: int = 1
    """Parts in which a batch passes through the network, for want of memory."""
    precision: str = "auto"
    """float32, bfloat16, float16 with a gradient scaler; auto is bfloat16 on GPUs that have it."""
    compile: bool = False
    """Compile the network with torch.compile."""
    sync_bn: bool = False
    """Batch norm over the images of all processes; needs GPUs."""
    select: str = "last"
    """Which weights are kept: those of the last step, or the best by few_shot validation episodes
    or by top-1 on held_out images of the train classes."""
    validate_every: int = 0
    """Steps between validations, where --select or --held-out asks for any; 0 validates after
    every pass over the (first) source."""
    validation_episodes: int = 300
    """Episodes of the valid classes, per source; 0 for none."""
    validation_head: str = "prototypical"
    """Head of those episodes, with settings as in prototypical:distance=cosine."""
    held_out: float = 0.0
    """Share of the images of each train class that is not trained on but measured; 0 for none."""
    seed: int = 0
    """Of weights, order, augmentation and the held-out images."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Recipe":
        """The recipe in a card; what was no setting yet has its default, which is what it was."""
        known = {field.name for field in fields(cls)}
        content = {name: value for name, value in settings.items() if name in known}
        return cls(**content | {"shares": tuple(content.get("shares", ()))})

    @property
    def validates(self) -> bool:
        """Whether anything is measured on the way."""
        return self.select != "last" or self.held_out > 0

    def check(self) -> "Recipe":
        """This recipe, if a training could follow it.

        Raises:
            InputError: a setting is wrong.
        """
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown_name(name.replace("_", " "), getattr(self, name), known)
        for name in ("batch_size", "episodes_per_step", "learning_rate", "accumulate", "factor"):
            if not getattr(self, name) > 0:
                raise _wrong(name, getattr(self, name), "above 0")
        for name in ("weight_decay", "clip", "steps", "validate_every", "validation_episodes"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise _wrong(name, getattr(self, name), "from 0")
        for name in ("warmup", "label_smoothing", "stochastic_depth", "ema", "held_out"):
            if not 0 <= getattr(self, name) < 1:
                raise _wrong(name, getattr(self, name), "from 0 to below 1")
        if not 0 <= self.seed < 2**63:
            raise _wrong("seed", self.seed, "from 0 to below 2 to the power of 63")
        if not (self.steps or self.epochs > 0):
            raise _wrong("epochs", self.epochs, "above 0")
        if self.batch_size // self.accumulate < 2:
            raise InputError("--batch-size leaves 1 image at a time: batch norm needs 2.")
        if self.schedule in ("restarts", "staircase") and self.period < 1:
            raise InputError(f"the schedule {self.schedule} needs a --period above 0.")
        if any(share < 1 for share in self.shares):
            raise _wrong("shares", self.shares, "above 0")
        if self.unit_gradient and self.clip:
            raise InputError("--unit-gradient and --clip both set the length of the gradient.")
        if self.select == "few_shot" and not self.validation_episodes:
            raise InputError("--select few_shot needs --validation-episodes above 0.")
        if self.select == "held_out" and not self.held_out:
            raise InputError("--select held_out needs a share to hold out: --held-out 0.05, say.")
        return self

    def rate(self, step: int, total: int, highest: float | None = None) -> float:
        """The learning rate of a step, counted from 0.

        Args:
            step: of the optimiser.
            total: steps in all.
            highest: of another optimiser that follows the same schedule.
        """
        highest = self.learning_rate if highest is None else highest
        rising = self.warmup * total
        if step < rising:
            return highest * (step + 1) / (rising + 1)
        if self.schedule == "constant":
            return highest
        if self.schedule == "staircase":
            return highest * self.factor ** ((step - math.ceil(rising)) // self.period)
        if self.schedule == "restarts":
            falling = (step - math.ceil(rising)) % self.period / self.period
        else:
            falling = (step - rising) / (total - rising)
        return highest * 0.5 * (1 + math.cos(math.pi * falling))

    def parts(self, sources: int) -> tuple[int, ...]:
        """Images of each source in a batch.

        Raises:
            InputError: the batch cannot be parted so.
        """
        shares = self.shares or (1,) * sources
        if len(shares) != sources:
            raise InputError(f"--shares has {len(shares)} parts for {sources} sources.")
        if self.batch_size % sum(shares):
            raise InputError(
                f"a batch of {self.batch_size} does not part by {' : '.join(map(str, shares))}.",
                "--batch-size",
                f"Take a multiple of {sum(shares)}.",
            )
        return tuple(self.batch_size // sum(shares) * share for share in shares)


def _wrong(name: str, value: object, rule: str) -> InputError:
    return InputError(f"--{name.replace('_', '-')} is {value}: it must be {rule}.")
