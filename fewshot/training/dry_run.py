"""What a training will take, told before it starts: ten steps are measured."""

from copy import deepcopy
from dataclasses import dataclass
from itertools import islice

import torch

from fewshot.devices import choose_workers
from fewshot.training.job import Job
from fewshot.training.memory import activation_bytes, fixed_bytes
from fewshot.training.meter import Meter, Report

WARM_UP, MEASURED = 2, 10


@dataclass(frozen=True)
class Forecast:
    """A training before it starts.

    Attributes:
        name: of the training.
        sources: (name, classes, images to train on, images held out) of each source.
        steps: of the optimiser.
        images: of a step over all processes; of the largest of those measured.
        memory: bytes that one process needs for weights, optimiser and activations, by estimate.
        speed: measured over ten steps, which are not kept.
    """

    name: str
    sources: tuple[tuple[str, int, int, int], ...]
    steps: int
    images: int
    memory: int
    speed: Report

    @property
    def seconds(self) -> float:
        """Of all steps; validations come on top."""
        return self.steps * self.speed.step_seconds


def forecast(job: Job) -> Forecast:
    """Measure the first steps of a training and leave nothing behind.

    Raises:
        InputError: whatever the training itself would raise.
    """
    training, place, recipe = job.begin(), job.place, job.recipe
    workers = choose_workers(job.settings.workers, place.device)
    meter = Meter(place.device)
    loss = torch.zeros(())
    images = 0
    for number, lesson in enumerate(islice(training.batches(workers), WARM_UP + MEASURED)):
        if number == WARM_UP:
            float(loss)
            meter.restart()
        meter.read()
        loss = training.learn(lesson)
        images = max(images, training.lessons.images(lesson) * place.ranks)
        meter.stepped(training.lessons.images(lesson) * place.ranks)
    speed = meter.report(training.step, training.total, float(loss), training.rate)
    half = training.precision != torch.float32
    probe = deepcopy(training.objective.backbone).cpu()
    per_image = activation_bytes(probe, job.settings.image_size, half=half)
    at_once = -(-images // place.ranks // training.lessons.parts)
    averaged = training.averaged is not None
    fixed = fixed_bytes(training.objective, recipe.optimizer, averaged=averaged)
    held_out = [len(one) for one in job.held_out] or [0] * len(job.images)
    return Forecast(
        name=job.settings.name,
        sources=tuple(
            (one.reader.spec.name, len(one.class_names), len(one), held)
            for one, held in zip(job.images, held_out, strict=True)
        ),
        steps=training.total,
        images=images,
        memory=round(fixed + at_once * per_image),
        speed=speed,
    )
