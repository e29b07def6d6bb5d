"""The loop: an objective, lessons and a recipe become weights.

Order, augmentation, mixing, dropout and initial weights are functions of the seed and of the
position, which is a step number. So a training that was stopped goes on from its last saved state
as if it had not been, and neither workers nor interruptions move a number.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from episodes import InputError
from episodes.loader import stream_seed
from fewshot.backbones import Backbone
from fewshot.checkpoint import under
from fewshot.training.averaging import average
from fewshot.training.lessons import Item, Lessons
from fewshot.training.memory import too_large
from fewshot.training.meter import Meter, Report
from fewshot.training.objective import Objective
from fewshot.training.optimizers import (
    build_optimizer,
    has_gradients,
    load_optimizer,
    optimizer_state,
    scale_gradient,
)
from fewshot.training.processes import Place, synchronise_norms
from fewshot.training.recipe import Recipe
from fewshot.training.snapshots import Snapshots

SAVE_EVERY_SECONDS = 60.0
REPORT_EVERY_STEPS = 5
"""Reading the loss waits for a GPU, so it is not read at every step."""
PROFILED = {"wait": 2, "warmup": 3, "active": 5}
"""Steps of the trace that `profile` writes, and before."""


@dataclass(frozen=True)
class Score:
    """A validation.

    Attributes:
        value: what decides; the greatest is best.
        metrics: all that was measured, by name.
    """

    value: float
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Observer:
    """Who is told of a training; all calls but `validate` reach the first process only.

    Attributes:
        report: gets a report now and then.
        say: gets a sentence worth keeping.
        validate: measures the backbone (on all processes), or None.
        validated: gets every score and its step.
        keep: gets the backbone, its score and the step, whenever it is the best so far.
    """

    report: Callable[[Report], None] = lambda report: None
    say: Callable[[str], None] = lambda sentence: None
    validate: Callable[[Backbone], Score] | None = None
    validated: Callable[[Score, int], None] = lambda score, step: None
    keep: Callable[[Backbone, Score, int], None] = lambda backbone, score, step: None


class Training(Generic[Item]):
    """A backbone on its way: objective, optimisers and the number of steps taken.

    Args:
        objective: what is minimised; holds all that learns.
        lessons: what it learns from.
        recipe: how.
        place: where this process computes, and which part of every batch.

    Attributes:
        step: steps taken. total: steps in all.
        best: the best score so far and its step, or None.
        chosen_by: what the kept weights are chosen by, beside the recipe; JSON values.

    Raises:
        InputError: the recipe cannot be followed here.
    """

    def __init__(
        self, objective: Objective, lessons: Lessons[Item], recipe: Recipe, place: Place
    ) -> None:
        self.lessons, self.recipe, self.place = lessons, recipe, place
        self.device = place.device
        self.precision = choose_precision(recipe.precision, self.device)
        if recipe.sync_bn:
            if self.device.type != "cuda":
                raise InputError("batch norm over processes needs GPUs.", "--sync-bn")
            synchronise_norms(objective)
        # channels_last: the layout in which convolutions are fastest, on CPU and GPU alike.
        objective.to(self.device).to(memory_format=torch.channels_last)
        objective.train()
        self.objective = objective
        main = build_optimizer(objective.learning, recipe)
        self.optimizers = [(main, recipe.learning_rate), *objective.companions()]
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.precision == torch.float16
        )
        self.averaged = deepcopy(objective.backbone).eval() if recipe.ema else None
        self.step = 0
        self.best: tuple[float, int] | None = None
        self.chosen_by: dict[str, object] = {}
        self.steps_per_epoch = lessons.period
        self.total = recipe.steps or recipe.epochs * self.steps_per_epoch
        if recipe.compile:
            objective.compile()
        self._module: nn.Module = objective
        if place.ranks > 1:
            self._module = DistributedDataParallel(
                objective,
                device_ids=[torch.cuda.current_device()] if self.device.type == "cuda" else None,
                find_unused_parameters=objective.skips_parameters,
            )

    # ---- one step ----------------------------------------------------------------------------

    def batches(self, workers: int) -> Iterator[list[Item]]:
        """The lessons of the steps that are left."""
        yield from self.lessons.lessons(self.step, self.total, workers)

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.recipe.rate(self.step, self.total)

    def learn(self, lesson: list[Item]) -> Tensor:
        """One step of the optimisers; the loss of this process's lesson."""
        try:
            return self._learn(lesson)
        except torch.OutOfMemoryError as error:
            asked = -(-self.lessons.images(lesson) // self.lessons.parts)
            half = self.precision != torch.float32
            raise too_large(self.objective, self.lessons, self.recipe, asked, half=half) from error

    def _learn(self, lesson: list[Item]) -> Tensor:
        self.objective.advance(self.step)
        for optimizer, highest in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate(self.step, self.total, highest)
            optimizer.zero_grad(set_to_none=True)
        parts = self.lessons.parts
        losses = []
        for part in range(parts):
            with self._drawn(part), self._unsynchronised(part < parts - 1):
                loss = self._loss(lesson, part)
                loss = loss / parts if parts > 1 else loss
                torch.autograd.backward(self.scaler.scale(loss))
            losses.append(loss.detach())
        # A companion whose teachers have all faded has no gradients, and no step.
        moving = [optimizer for optimizer, _ in self.optimizers if has_gradients(optimizer)]
        for optimizer in moving:
            if self.recipe.clip or self.recipe.unit_gradient:
                self.scaler.unscale_(optimizer)
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.recipe.clip)
        if self.recipe.unit_gradient:
            scale_gradient(self.objective)
        for optimizer in moving:
            self.scaler.step(optimizer)
        if moving:
            self.scaler.update()
        self.step += 1
        if self.averaged is not None:
            average(self.averaged, self.objective.backbone, self.recipe.ema, self.step)
        return torch.stack(losses).sum() if parts > 1 else losses[0]

    def _loss(self, lesson: list[Item], part: int) -> Tensor:
        arguments = self.lessons.part(lesson, part, self.device)
        with self._autocast():
            loss: Tensor = self._module(*arguments)
        return loss

    def _autocast(self) -> AbstractContextManager[None]:
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)

    def _unsynchronised(self, wanted: bool) -> AbstractContextManager[None]:
        """Gradients are averaged over the processes with the last part of a batch only."""
        several = isinstance(self._module, DistributedDataParallel)
        return self._module.no_sync() if wanted and several else nullcontext()  # type: ignore[operator]

    @contextmanager
    def _drawn(self, part: int) -> Iterator[None]:
        """Mixing and dropout draw from torch's generators: by key, and left as they were."""
        key = ("network", self.recipe.seed, self.step, part, self.place.rank)
        seed = stream_seed(*key) % 2**63
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_rng_state(before)

    # ---- what comes of it --------------------------------------------------------------------

    def result(self) -> Backbone:
        """A copy of the backbone as it would be kept now, averaged if so asked, to evaluate."""
        backbone = deepcopy(self.objective.backbone if self.averaged is None else self.averaged)
        return self.objective.finish(backbone).eval()

    # ---- interruption and resumption ---------------------------------------------------------

    def identity(self) -> str:
        """A hash of all that decides the weights and which are kept."""
        facts: list[object] = [self.objective.backbone.name, asdict(self.recipe)]
        facts += [self.lessons.facts(), self.objective.facts(), self.chosen_by]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def save(self, snapshots: Snapshots) -> None:
        """Write the state, atomically.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        state = {f"objective.{name}": t for name, t in self.objective.state_dict().items()}
        for optimizer, _ in self.optimizers:
            state |= optimizer_state(optimizer, self.objective)
        if self.averaged is not None:
            state |= {f"averaged.{name}": t for name, t in self.averaged.state_dict().items()}
        metadata = {
            "step": str(self.step),
            "identity": self.identity(),
            "best": json.dumps(self.best),
            "scaler": json.dumps(self.scaler.state_dict()),
        }
        snapshots.save(state, metadata)

    def resume(self, snapshots: Snapshots, say: Callable[[str], None] = lambda text: None) -> bool:
        """Go on from a saved state; False when there is none, or it is of another training.

        Raises:
            InputError: the state is damaged, and so is the one before it.
        """
        found = snapshots.load(say)
        if found is None or found[1].get("identity") != self.identity():
            return False
        state, metadata = found
        self.objective.load_state_dict(under("objective.", state))
        for optimizer, _ in self.optimizers:
            load_optimizer(optimizer, self.objective, state)
        if self.averaged is not None:
            self.averaged.load_state_dict(under("averaged.", state))
        if scaler := json.loads(metadata["scaler"]):
            self.scaler.load_state_dict(scaler)
        best = json.loads(metadata["best"])
        self.best = tuple(best) if best else None
        self.step = int(metadata["step"])
        return True


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type to compute with; `auto` is bfloat16 where the GPU has it, float32 elsewhere."""
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def train(
    training: Training[Item],
    snapshots: Snapshots,
    workers: int = 0,
    observer: Observer | None = None,
    save_every: float = SAVE_EVERY_SECONDS,
    profile: Path | None = None,
) -> Backbone:
    """Train a backbone, or go on where an interrupted training stopped.

    Args:
        training: from its beginning.
        snapshots: where the state is saved, now and then and after every validation.
        workers: processes that read images ahead; they do not change the weights.
        observer: who is told.
        save_every: seconds between saved states.
        profile: where a trace of a few steps is written, for chrome://tracing or Perfetto.

    Returns:
        The backbone after the last step, in evaluation mode.

    Raises:
        InputError: an image cannot be read, the loss is not finite, the memory of the GPU does
            not suffice, or the state cannot be written or read.
    """
    observer, place, recipe = observer or Observer(), training.place, training.recipe
    training.resume(snapshots, observer.say if place.first else lambda sentence: None)
    place.same(training.step, "the step to go on from")
    meter = Meter(training.device)
    losses: list[Tensor] = []
    saved = time.monotonic()
    every = recipe.validate_every or training.steps_per_epoch
    with _profiled(profile if place.first else None) as traced:
        for lesson in training.batches(workers):
            meter.read()
            rate = training.rate
            losses.append(training.learn(lesson))
            meter.stepped(training.lessons.images(lesson) * place.ranks)
            traced()
            ended = training.step == training.total
            validating = observer.validate is not None and (ended or training.step % every == 0)
            if not (ended or validating or training.step % REPORT_EVERY_STEPS == 0):
                continue
            value = _finite(place.mean(torch.stack(losses)), training)
            losses.clear()
            if place.first:
                observer.report(meter.report(training.step, training.total, value, rate))
            if validating and observer.validate is not None:
                _check_weights(training)
                _validate(training, observer, observer.validate)
            if place.first and (ended or validating or time.monotonic() - saved > save_every):
                _check_weights(training)
                training.save(snapshots)
                saved = time.monotonic()
            meter.restart()
    return training.result()


def _validate(
    training: Training[Any], observer: Observer, validate: Callable[[Backbone], Score]
) -> None:
    backbone = training.result()
    if training.place.ranks > 1:  # batch norms of the first process are those that are kept
        for buffer in backbone.buffers():
            torch.distributed.broadcast(buffer, 0)
    score = validate(backbone)
    if training.place.first:
        observer.validated(score, training.step)
    if training.best is None or score.value > training.best[0]:
        training.best = (score.value, training.step)
        if training.place.first:
            observer.keep(backbone, score, training.step)


@contextmanager
def _profiled(path: Path | None) -> Iterator[Callable[[], None]]:
    if path is None:
        yield lambda: None
        return
    from torch.profiler import profile, schedule

    def write(profiler: profile) -> None:
        profiler.export_chrome_trace(str(path))

    with profile(schedule=schedule(**PROFILED, repeat=1), on_trace_ready=write) as profiler:
        yield profiler.step


def _finite(losses: Tensor, training: Training[Any]) -> float:
    """The last of the losses of the last steps, if all are finite."""
    steps = range(training.step - len(losses) + 1, training.step + 1)
    for step, loss in zip(steps, losses.tolist(), strict=True):
        if not math.isfinite(loss):
            raise _diverged("loss is", step, training)
    return float(losses[-1])


def _check_weights(training: Training[Any]) -> None:
    """Weights can leave the finite numbers one step before the loss does."""
    sums = torch.stack([one.detach().sum() for one in training.objective.parameters()])
    if not math.isfinite(float(sums.sum())):
        raise _diverged("weights are", training.step, training)


def _diverged(what: str, step: int, training: Training[Any]) -> InputError:
    return InputError(
        f"the {what} not finite at step {step}.",
        f"training of {training.objective.backbone.name}",
        "Lower --learning-rate; what was saved before stays.",
    )
