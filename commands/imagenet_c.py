"""`imagenet-c`: how far common corruptions throw a backbone's classifier off."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.progress import Progress

from episodes.faults import InputError, check_above_zero, check_not_negative
from fewshot.backbone_name import BackboneName

if TYPE_CHECKING:
    from fewshot.backbones import Backbone
    from fewshot.checkpoint import Card
    from fewshot.imagenet_c.folders import CorruptedImages

MINIATURE = "miniature-c (not ImageNet-C)"


@dataclass(frozen=True)
class Command:
    """Errors on ImageNet-C: 15 corruptions, and 4 that do not count, at five severities.

    Takes the released folders as they are (224 pixels, no second resize or crop), or corrupts a
    validation folder in memory, every image by its own key; the two never share a table. Only
    class folders named as the checkpoint's classes are scored. Without --images, fresh drawings
    of the miniature's classes are corrupted. The same command goes on where it was stopped.
    """

    checkpoint: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["--checkpoints"])]
    """Weights with their classifier, one column of the table each."""
    backbone: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--backbones"])] = ()
    """The backbone of each checkpoint, or one for all; by default what their cards say."""
    images: Path | None = None
    """Released folders, <corruption>/<severity>/<class>/*.JPEG, or a validation folder,
    <class>/*.JPEG, whose images are corrupted in memory."""
    clean: Path | None = None
    """Beside released folders: the validation folder, for the clean error and the relative mCE."""
    corruptions: tuple[str, ...] = ("all",)
    """Corruptions by their folder names in the release."""
    resize: int | None = None
    """Resize the images of 224 pixels to this side before the network; part of the result. By
    default they are not resized (the miniature: to the checkpoint's own size)."""
    per_class: int | None = None
    """Score only the first so many images of each class, by name; part of the result."""
    seed: int = 0
    """Of corruptions made in memory."""
    keep: Path | None = None
    """Also write the images corrupted in memory here, in the layout of the release."""
    output: Path | None = None
    """Folder of scores, tables and plots; by default a name in runs/ that depends on all that
    moves a number."""
    plots: tuple[str, ...] = ("png", "svg", "pdf")
    """Formats of the figure."""
    device: str = "auto"
    """auto, cpu or cuda."""
    jobs: int | None = None
    """Processes that read and corrupt; all cores by default. Never moves a number."""

    def __post_init__(self) -> None:
        """Raises InputError for settings that no evaluation could have."""
        check_above_zero(self, "resize", "per_class", "jobs")
        check_not_negative(self, "seed")


def run(command: Command, console: Console) -> int:
    """Score every column on every cell; print and write table and figure."""
    import torch

    from episodes.miniature.validation import draw_validation
    from fewshot.devices import choose_device
    from fewshot.evaluation import distinct_names
    from fewshot.experiment import short_hash
    from fewshot.imagenet_c.corruptions import find_corruptions
    from fewshot.imagenet_c.evaluation import Column, Preparation, evaluate
    from fewshot.imagenet_c.folders import open_images
    from fewshot.imagenet_c.report import build_grid, draw_errors
    from fewshot.kept import KeptResults
    from fewshot.plots import ABSENT, can_plot, check_formats

    check_formats(command.plots)
    device = choose_device(command.device)
    corruptions = find_corruptions(command.corruptions)
    given = load_columns(command)
    cards = [card for _, card in given]
    images = open_images(
        command.images or draw_validation(),
        cards[0].classes,
        corruptions,
        clean=command.clean,
        per_class=command.per_class,
        seed=command.seed,
    )
    if images.missing:
        console.print(said_missing(images), style="yellow", markup=False, soft_wrap=True)
    size = command.resize or (cards[0].image_size if command.images is None else None)
    rule = cards[0].image_rule
    benchmark = images.kind if command.images else f"{MINIATURE}, {images.kind}"
    facts = {
        "benchmark": benchmark,
        "images": images.fingerprint,
        "resize": f"{size} ({rule})" if size else None,
        "seed": command.seed,
        "device": device.type,
    }
    identities = [facts | {"backbone": c.backbone, "weights": c.weights} for c in cards]
    names = distinct_names([card.backbone for card in cards])
    files = distinct_names([BackboneName.parse(card.backbone).file for card in cards])
    label = "+".join(dict.fromkeys(BackboneName.parse(card.backbone).file for card in cards))
    folder = command.output or Path("runs") / f"imagenet-c-{label}-{short_hash(identities)}"
    columns = [
        Column(
            name,
            backbone.to(device).to(memory_format=torch.channels_last).eval(),
            card.classes,
            KeptResults(folder / f"{file}.json", identity),
        )
        for name, file, (backbone, card), identity in zip(
            names, files, given, identities, strict=True
        )
    ]
    cells = len(images.cells)
    console.print(
        f"{benchmark}: {len(images.names):,} images of {images.classes} classes in {cells} cells, "
        f"{len(columns)} classifiers",
        highlight=False,
        soft_wrap=True,
    )
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("", total=cells * len(images.names))
        begun = {cell: k for k, cell in enumerate(images.cells)}

        def progress(cell: tuple[str, int], done: int, total: int) -> None:
            bar.update(
                task, description=f"{cell[0]} {cell[1]}", completed=begun[cell] * total + done
            )

        preparation = Preparation(images, size, rule, command.keep)
        jobs = command.jobs or os.cpu_count() or 1
        scores = evaluate(columns, preparation, device, jobs, progress)
    notes = notes_on(command, images, cards, size, rule)
    grid = build_grid(f"{benchmark} · {' + '.join(names)}", names, scores, notes)
    grid.write(folder)
    console.print(grid.console())
    if can_plot():
        draw_errors(grid.title, names, scores, folder, command.plots)
    else:
        console.print(ABSENT, markup=False, soft_wrap=True)
    console.print(f"\nFolder: {folder}", highlight=False, soft_wrap=True, markup=False)
    return 0


def load_columns(command: Command) -> list[tuple["Backbone", "Card"]]:
    """The backbones of all checkpoints, which know the same classes and use one image rule.

    Raises:
        InputError: a checkpoint cannot be used, or they cannot share a table.
    """
    from fewshot.checkpoint import load_checkpoints

    paths = command.checkpoint
    given = load_checkpoints(paths, command.backbone)
    for path, (_, card) in zip(paths, given, strict=True):
        if card.outputs not in (None, len(card.classes)) or not card.classes:
            what = "has a classifier whose outputs have no class names."
            raise InputError(what, path, "Give a checkpoint that was trained here.")
        for what in ("classes", "image_rule"):
            if getattr(card, what) != getattr(given[0][1], what):
                word = what.replace("_", " ")
                raise InputError(
                    f"has another {word} than {paths[0]}: they would be scored on other images.",
                    path,
                    "Evaluate them one by one.",
                )
    return given


def said_missing(images: "CorruptedImages") -> str:
    """All that the released folders lack, in one message."""
    return (
        f"{images.folder}: not there or incomplete, and shown as missing: "
        f"{', '.join(images.missing)}."
    )


def notes_on(
    command: Command,
    images: "CorruptedImages",
    cards: list["Card"],
    size: int | None,
    rule: str,
) -> list[str]:
    """What a reader of the table must know about how its numbers came to be."""
    from fewshot.imagenet_c.folders import RELEASED

    notes = []
    if command.images is None:
        notes.append("miniature-c: drawn stand-ins; never comparable to published numbers.")
    if images.kind == RELEASED:
        notes.append("Released images as stored: JPEG of 224 px, no resize or crop.")
    else:
        notes.append(
            "Corrupted in memory at 224 px (shorter side to 256, middle cut out), not stored as "
            f"JPEG, frost drawn, seed {images.seed}: not the released images."
        )
    known = len(cards[0].classes)
    left = f"; {images.skipped} class folders it does not know are left out" * bool(images.skipped)
    notes.append(
        f"{len(images.names):,} images of {images.classes} classes, of the {known} that the "
        f"classifier knows{left}. AlexNet's errors are over 1000 classes."
    )
    if command.per_class:
        notes.append(f"Only the first {command.per_class} images of each class.")
    sizes = sorted({card.image_size for card in cards})
    trained = f"trained at {', '.join(map(str, sizes))} px"
    seen = f"resized from 224 to {size} px by the rule {rule}" if size else "seen at 224 px"
    notes.append(f"Images {seen}; backbones {trained}.")
    if images.missing:
        notes.append(said_missing(images))
    return notes
