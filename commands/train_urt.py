"""`train-urt`: train the attention that the head `urt` needs."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress


@dataclass(frozen=True)
class Command:
    """Train URT's attention over several backbones, on episodes of training classes.

    The heads' line of an evaluation then names the file, with the same checkpoints in the same
    order: --heads urt:weights=FILE. Defaults are the published ones.
    """

    checkpoints: tuple[Path, ...]
    """Weights of the backbones, one file each, two or more."""
    out: Path
    """File to write, e.g. urt.safetensors."""
    backbones: tuple[str, ...] = ("aa_resnet18",)
    """Name of the backbone of each checkpoint, or one for all."""
    records: Path | None = None
    """Folder with a folder of records per source; the miniature when not given."""
    sources: tuple[str, ...] = ("all",)
    """Sources of the training episodes; all takes those that have training classes."""
    episodes: int = 10_000
    """Training episodes, one step each."""
    lr: float = 1e-2
    """Learning rate at the start."""
    heads: int = 2
    """Attention heads."""
    seed: int = 0
    """Of the episodes and the initial weights."""
    image_size: int = 84
    """Side of the square images in pixels."""
    image_rule: str = "official"
    """How bytes become pixels."""
    features: str = "cache"
    """Folder where features are kept between runs: cache, none, or a path."""
    device: str = "auto"
    """auto, cpu or cuda."""
    workers: int | None = None
    """Processes that read images ahead."""


def run(command: Command, console: Console) -> int:
    """Train, and say where the attention is."""
    import torch

    from episodes.faults import InputError
    from fewshot.checkpoint import load_checkpoint
    from fewshot.devices import choose_device, choose_workers
    from fewshot.experiment import Experiment
    from fewshot.heads.urt import UrtRecipe, save_attention
    from fewshot.sources import find_records, open_sources
    from fewshot.urt_training import train_urt
    from fewshot.work.bench import choose_shelf

    if len(command.checkpoints) < 2:
        raise InputError("attention needs two backbones or more.", "--checkpoints")
    experiment = Experiment(
        backbone=command.backbones,
        checkpoint=command.checkpoints,
        records=command.records,
        sources=command.sources,
        split="train",
        seed=command.seed,
        image_size=command.image_size,
        image_rule=command.image_rule,
        features=command.features,
    ).check()
    device = choose_device(command.device)
    records, _ = find_records(experiment, lambda done, total: None)
    readers, _ = open_sources(experiment, records)
    pairs = zip(command.checkpoints, experiment.backbones_of_checkpoints(), strict=True)
    loaded = [load_checkpoint(path, name) for path, name in pairs]
    for backbone, _ in loaded:
        backbone.check_size(command.image_size)
    backbones = [
        backbone.to(device).to(memory_format=torch.channels_last).eval() for backbone, _ in loaded
    ]
    shelf = choose_shelf(experiment, readers, [card for _, card in loaded], device)
    recipe = UrtRecipe(command.episodes, command.lr, heads=command.heads, seed=command.seed)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("train-urt", total=command.episodes)
        attention = train_urt(
            list(readers.values()),
            backbones,
            recipe,
            device,
            shelf,
            choose_workers(command.workers, device),
            lambda step, total, loss: bar.update(task, completed=step, total=total),
        )
    save_attention(command.out, attention)
    console.print(
        f"{command.out}: attention over {len(backbones)} backbones, {command.episodes} episodes "
        f"of {', '.join(readers)}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    return 0
