"""`aliasing`: what folds at every sub-sampling step, and what shifts do to a backbone's views."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.progress import Progress

from episodes.faults import check_above_zero, check_not_negative

if TYPE_CHECKING:
    from episodes.loader import LabelledImages
    from fewshot.aliasing.measurement import Measure
    from fewshot.checkpoint import Card


@dataclass(frozen=True)
class Command:
    """Measure aliasing, plain and anti-aliased networks side by side.

    For every sub-sampling step of every network, the share of the map's spectral energy above
    the new Nyquist frequency, before and after the filter that stands there; and how often a
    shifted image is classified alike, and how alike its features are. Without --records, on the
    miniature. The same command goes on where it was stopped.
    """

    checkpoint: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["--checkpoints"])]
    """Weights, one network each."""
    backbone: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--backbones"])] = ()
    """The backbone of each checkpoint, or one for all; by default what their cards say."""
    records: Path | None = None
    """Folder with a folder of records per source; the miniature when not given."""
    sources: tuple[str, ...] = ("all",)
    """Sources to measure on; all takes the protocol's that are there."""
    split: str = "test"
    """Classes to take images from: train, valid or test."""
    images: int = 64
    """Images per source, drawn by key."""
    image_size: int | None = None
    """Side of the images in pixels; by default that of the first checkpoint's training."""
    seed: int = 0
    """Another seed draws other images and shifts."""
    output: Path | None = None
    """Folder of results, tables and plots; by default a name in runs/ that depends on all that
    moves a number."""
    plots: tuple[str, ...] = ("png", "svg", "pdf")
    """Formats of the figures."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        """Raises InputError for settings that no measurement could have."""
        check_above_zero(self, "images", "image_size")
        check_not_negative(self, "seed")


def run(command: Command, console: Console) -> int:
    """Measure every network on every source; print and write tables and figures."""
    from fewshot.aliasing.figures import draw_all
    from fewshot.aliasing.measurement import Measure, measure
    from fewshot.aliasing.report import agreement_grid, energy_grid
    from fewshot.checkpoint import load_checkpoints
    from fewshot.devices import choose_device
    from fewshot.ingredients import fingerprint
    from fewshot.plots import ABSENT, can_plot, check_formats
    from fewshot.side_by_side import set_side_by_side

    check_formats(command.plots)
    device = choose_device(command.device)
    given = load_checkpoints(command.checkpoint, command.backbone)
    cards = [card for _, card in given]
    how = Measure(command.image_size or cards[0].image_size, command.images, command.seed)
    rule = cards[0].image_rule
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        opened, benchmark, skipped = open_images(command, how, rule, bar)
        facts = {"benchmark": benchmark, "rule": rule, "device": device.type} | vars(how)
        facts["sources"] = {name: fingerprint(images.reader) for name, images in opened.items()}
        folder, networks = set_side_by_side(
            given, "aliasing", facts, how.size, device, command.output
        )
        measured = []
        for network in networks:
            found = network.kept.read()
            for source in [source for source in opened if source not in found]:
                follow = partial(bar.update, bar.add_task(f"{network.name} {source}"))
                found[source] = measure(
                    network.backbone,
                    opened[source],
                    how,
                    device,
                    lambda done, total, follow=follow: follow(completed=done, total=total),  # type: ignore[misc]
                )
                network.kept.write(found)
            measured.append({source: found[source] for source in opened})
    names = [network.name for network in networks]
    title = f"{benchmark} · {' + '.join(names)} · {command.split} classes"
    notes = notes_on(command, cards, how, rule, skipped)
    energy = energy_grid(title, names, measured, notes)
    agreement = agreement_grid(title, names, measured, notes)
    energy.write(folder, "energy")
    agreement.write(folder, "agreement")
    console.print(energy.console())
    console.print(agreement.console())
    if can_plot():
        draw_all(title, names, measured, folder, command.plots)
    else:
        console.print(ABSENT, markup=False, soft_wrap=True)
    console.print(f"\nFolder: {folder}", highlight=False, soft_wrap=True, markup=False)
    return 0


def open_images(
    command: Command, how: "Measure", rule: str, bar: Progress
) -> tuple[dict[str, "LabelledImages"], str, dict[str, str]]:
    """The images of every source, what the benchmark is called, and sources left out, with why.

    Raises:
        InputError: a source is missing or broken.
    """
    from episodes.loader import LabelledImages
    from fewshot.experiment import Experiment
    from fewshot.sources import find_records, open_sources

    wanted = Experiment(records=command.records, sources=command.sources, split=command.split)
    wanted = wanted.check()
    task = bar.add_task("draw the miniature", visible=command.records is None)
    records, benchmark = find_records(
        wanted, lambda done, total: bar.update(task, completed=done, total=total)
    )
    readers, skipped = open_sources(wanted, records)
    texts = list(readers) if command.sources == ("all",) else command.sources
    opened = {}
    for text in texts:
        images = LabelledImages(records, text, command.split, how.read_size, rule)
        opened[images.reader.spec.name] = images
    return opened, benchmark, skipped


def notes_on(
    command: Command,
    cards: list["Card"],
    how: "Measure",
    rule: str,
    skipped: dict[str, str],
) -> list[str]:
    """What a reader of the tables must know about how their numbers came to be."""
    notes = []
    if command.records is None:
        notes.append("miniature: drawn stand-ins; never comparable to published numbers.")
    for card in cards:
        notes.append(f"{card.backbone}: trained on {card.source} at {card.image_size} px.")
    notes.append(
        f"{how.images} images per source (fewer where there are not as many), seed {how.seed}, "
        f"read at {how.read_size} px by the rule {rule}; the network sees the middle {how.size} "
        f"px, and views up to {how.reach} px off it."
    )
    notes += [f"{source}: {reason}." for source, reason in skipped.items()]
    return list(dict.fromkeys(notes))
