"""Who works on an experiment: this process, others beside it, or a cluster."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fewshot.experiment import Experiment
from fewshot.listener import Listener
from fewshot.work.actors import Actors
from fewshot.work.bench import Bench, Order
from fewshot.work.crew import Crew, Here
from fewshot.work.processes import Processes

PASSING_FEATURES = ".features"


def muster(bench: Bench, order: Order, listener: Listener) -> Crew:
    """The crew that an experiment asks for; its workers start with the first piece.

    Raises:
        InputError: there is no such cluster, or Ray is not installed.
    """
    experiment = order.experiment
    if experiment.ray:
        return Actors(order, experiment.ray, experiment.workers, experiment.worker_gpus)
    if not experiment.workers:
        return Here(bench)
    cores, threads = len(os.sched_getaffinity(0)), experiment.workers * order.threads
    if threads > cores and order.device == "cpu":
        what = f"{experiment.workers} workers of {order.threads} threads each share {cores} cores"
        remedy = f"--threads {max(1, cores // experiment.workers)} is faster"
        listener.say(f"{what}: {remedy}, and may move the last digits")
    return Processes(order, experiment.workers)


@contextmanager
def shared_features(experiment: Experiment, folder: Path) -> Iterator[Experiment]:
    """The experiment as its workers see it: they share features even if none are kept."""
    if experiment.features != "none" or not (experiment.workers or experiment.ray):
        yield experiment
        return
    place = (folder / PASSING_FEATURES).absolute()
    try:
        yield replace(experiment, features=str(place))
    finally:
        shutil.rmtree(place, ignore_errors=True)
