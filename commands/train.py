"""`train`: backbones on the train classes, one per source or one for all."""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.filesize import decimal

from commands.evaluate import show_progress
from episodes.faults import InputError
from fewshot.training.settings import Settings, default_folder, parse_settings

if TYPE_CHECKING:
    from fewshot.training.dry_run import Forecast
    from fewshot.training.processes import Place

Command = Settings
Result = TypeVar("Result")


def parse(arguments: list[str], prog: str) -> tuple[Settings, ...]:
    """The trainings that flags and configuration files describe, one after the other.

    Raises:
        InputError: a setting is wrong.
    """
    return said_once(lambda: parse_settings(arguments, prog))


def said_once(parse: Callable[[], Result]) -> Result:
    """What `parse` gives; of the processes of one training, the first alone tells of a fault."""
    try:
        return parse()
    except InputError:
        if int(os.environ.get("RANK", "0")):
            sys.exit(2)  # the first process says it
        raise


def together(device: str, act: Callable[["Place"], Result]) -> Result:
    """What `act` gives among the processes of one training; one of them tells of a fault."""
    from fewshot.training.processes import joined

    place: Place | None = None
    try:
        with joined(device) as place:
            return act(place)
    except InputError:
        if place is None or place.speaks():
            raise
        sys.exit(2)  # another process says it


def run(command: tuple[Settings, ...], console: Console) -> int:
    """Train one after the other; the first process prints what comes of it."""
    return together(command[0].device, lambda place: _train(command, place, console))


def _train(trainings: tuple[Settings, ...], place: "Place", console: Console) -> int:
    from fewshot.training.dry_run import forecast
    from fewshot.training.job import Job

    first, folder = trainings[0], trainings[0].output or default_folder(trainings)
    errors = Console(stderr=True, quiet=not place.first)
    with show_progress(errors) as listener:
        # Everything is opened first: a fault in the last shows before hours of work.
        jobs = [Job(settings, place, listener) for settings in trainings]
        if first.dry_run:
            for job in jobs:
                told = forecast(job)
                if place.first:
                    print_forecast(told, place, console)
            return 0
        # What another process trains already comes last, so that several share the work.
        finished = [job.carry_out_if_free(folder) for job in jobs]
        finished = [path or job.carry_out(folder) for path, job in zip(finished, jobs, strict=True)]
    if place.first:
        say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
        say("Checkpoints, for --checkpoint:")
        for path in finished:
            say(f"  {path}")
    return 0


def print_forecast(told: "Forecast", place: "Place", console: Console) -> None:
    """What a training will take."""
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    say(f"{told.name}:")
    for source, classes, images, held_out in told.sources:
        kept = f", {held_out:,} held out" if held_out else ""
        say(f"  {source}: {classes:,} train classes, {images:,} images{kept}")
    processes = f", over {place.ranks} processes" if place.ranks > 1 else ""
    say(f"  {told.steps:,} steps of {told.images:,} images{processes}")
    say(f"  memory of each process, by estimate: {decimal(told.memory)}")
    speed = told.speed
    say(
        f"  measured over ten steps: {speed.step_seconds:.3f} s a step, "
        f"{speed.images_per_second:,.0f} images/s, waiting for images {speed.data_share:.0%}"
    )
    say(f"  about {_duration(told.seconds)} for all steps, validation not counted")


def _duration(seconds: float) -> str:
    if seconds < 180:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 10800 else f"{seconds / 3600:.1f} hours"
