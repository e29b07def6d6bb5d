"""`baseline`: a reference method of the benchmark, trained and evaluated."""

from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from baselines.settings import Baseline, parse_baseline
from commands.evaluate import print_outcome, show_progress
from commands.train import print_forecast, said_once, together

if TYPE_CHECKING:
    from fewshot.listener import Listener
    from fewshot.training.job import Job
    from fewshot.training.processes import Place

Command = Baseline


def default_config(baseline: Baseline) -> Path | None:
    """The published settings of a method; on the miniature, small ones."""
    names = ["miniature"]
    if baseline.records is not None:
        alone = baseline.train_sources == ("ilsvrc_2012",)
        usual = f"{baseline.method}_{'imagenet' if alone else 'all'}"
        names = [usual] if baseline.init else [f"{usual}_scratch", usual]
        names.append(f"{baseline.method}_imagenet")  # of methods published for ImageNet alone
    with as_file(files("configs") / "baselines") as folder:
        paths = [folder / f"{name}.yaml" for name in names]
        return next((path for path in paths if path.exists()), None)


def parse(arguments: list[str], prog: str) -> Baseline:
    """The baseline that flags and configuration file describe.

    Raises:
        InputError: a setting is wrong.
    """
    return said_once(lambda: parse_baseline(arguments, default_config, prog))


def run(command: Baseline, console: Console) -> int:
    """Train, or go on; then the first process evaluates, and prints the table."""
    command = replace(command, output=command.output or command.default_folder())
    checkpoint = together(command.device, lambda place: _train(command, place, console))
    return 0 if checkpoint is None else _evaluate(command, checkpoint, console)


def _train(command: Baseline, place: "Place", console: Console) -> Path | None:
    """The checkpoint to evaluate; None in all processes but the first, and where none is made."""
    from fewshot.training.dry_run import forecast

    assert command.output is not None
    with show_progress(Console(stderr=True, quiet=not place.first)) as listener:
        job = open_job(command, place, listener)
        if place.first:
            listener.say(
                f"settings: {command.config or 'the defaults, for want of published ones'}"
            )
        if not command.dry_run:
            checkpoint = job.carry_out(command.output)
            return checkpoint if place.first else None
        told = forecast(job)
        if place.first:
            print_forecast(told, place, console)
    return None


def open_job(command: Baseline, place: "Place", listener: "Listener") -> "Job":
    """The training of a method: on episodes, or as a classifier.

    Raises:
        InputError: a setting or a file is wrong.
    """
    from baselines.table import build_method
    from baselines.training import EpisodicJob, EpisodicSettings
    from fewshot.training.job import Job
    from fewshot.training.settings import Settings

    method = build_method(command.text)
    if method.learns_from == "images":
        several = len(command.train_sources) > 1
        kind = "multi_domain" if several else "supervised"
        return Job(command.training(Settings, kind), place, listener)
    settings = command.training(EpisodicSettings, method.method)
    settings = replace(settings, train_protocol=command.train_protocol)
    return EpisodicJob(settings, method, place, listener)


def _evaluate(command: Baseline, checkpoint: Path, console: Console) -> int:
    from baselines.table import build_head, build_method
    from fewshot.run import carry_out

    heads = (str(build_method(command.text)),)
    with show_progress(Console(stderr=True)) as listener:
        outcome = carry_out(command.experiment(checkpoint, heads).check(), listener, build_head)
    print_outcome(outcome, console)
    return 0
