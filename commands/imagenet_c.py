"""`imagenet-c`: how far common corruptions throw a backbone's classifier off."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.progress import Progress

from episodes.faults import InputError, check_above_zero, check_not_negative, unknown_name

if TYPE_CHECKING:
    from fewshot.backbones import Backbone
    from fewshot.checkpoint import Card
    from fewshot.imagenet_c.folders import CorruptedImages

MINIATURE = "miniature-c (not ImageNet-C)"
KNOWN, FOLDERS = "known", "folders"


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
    guess: str = "known"
    """What a guess is the best of: known, all classes that the classifier knows; or folders, only
    those that have images and that every checkpoint knows. Part of the result."""
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
        if self.guess not in (KNOWN, FOLDERS):
            raise unknown_name("guess", self.guess, (KNOWN, FOLDERS))


def run(command: Command, console: Console) -> int:
    """Score every column on every cell; print and write table and figure."""
    from episodes.miniature.validation import draw_validation
    from fewshot.devices import choose_device
    from fewshot.imagenet_c.corruptions import SIDE, find_corruptions
    from fewshot.imagenet_c.evaluation import Column, Preparation, evaluate
    from fewshot.imagenet_c.folders import open_images
    from fewshot.imagenet_c.report import build_grid, draw_errors
    from fewshot.plots import ABSENT, can_plot, check_formats
    from fewshot.side_by_side import set_side_by_side

    check_formats(command.plots)
    device = choose_device(command.device)
    corruptions = find_corruptions(command.corruptions)
    given = load_classifiers(command)
    cards = [card for _, card in given]
    images = open_images(
        command.images or draw_validation(),
        shared_classes(cards),
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
    among = images.class_names if command.guess == FOLDERS else frozenset()
    facts = {
        "benchmark": benchmark,
        "images": images.fingerprint,
        "guess": command.guess,
        "resize": f"{size} ({rule})" if size else None,
        "seed": command.seed,
        "device": device.type,
    }
    folder, networks = set_side_by_side(
        given, "imagenet-c", facts, size or SIDE, device, command.output
    )
    columns = [
        Column(one.name, one.backbone, one.card.classes, one.kept, among) for one in networks
    ]
    names = [column.name for column in columns]
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


def load_classifiers(command: Command) -> list[tuple["Backbone", "Card"]]:
    """The backbones of all checkpoints, whose outputs have names and which use one image rule.

    Raises:
        InputError: a checkpoint cannot be used, or they cannot share a table.
    """
    from fewshot.checkpoint import load_checkpoints

    paths = command.checkpoint
    given = load_checkpoints(paths, command.backbone)
    first = given[0][1]
    for path, (_, card) in zip(paths, given, strict=True):
        if card.outputs not in (None, len(card.classes)) or not card.classes:
            what = "has a classifier whose outputs have no class names."
            remedy = "Give a checkpoint that was trained here, or import it with --classes."
            raise InputError(what, path, remedy)
        if card.image_rule != first.image_rule:
            raise InputError(
                f"has another image rule than {paths[0]}: they would be scored on other images.",
                path,
                "Evaluate them one by one.",
            )
        if command.guess == KNOWN and set(card.classes) != set(first.classes):
            raise InputError(
                f"knows other classes than {paths[0]}: their guesses would not compare.",
                path,
                f"Add --guess {FOLDERS}, or evaluate them one by one.",
            )
    return given


def shared_classes(cards: Sequence["Card"]) -> list[str]:
    """The classes that every classifier knows, in the order of the first."""
    return [name for name in cards[0].classes if all(name in set(c.classes) for c in cards)]


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
    known = len(shared_classes(cards))
    whose = "the classifier knows" if len(cards) == 1 else "every classifier knows"
    left = f"; {images.skipped} other class folders are left out" * bool(images.skipped)
    among = {
        KNOWN: "all classes that it knows",
        FOLDERS: f"these {images.classes} classes alone",
    }[command.guess]
    notes.append(
        f"{len(images.names):,} images of {images.classes} classes, of the {known} that {whose}"
        f"{left}. A guess is the best of {among}. AlexNet's errors are over 1000 classes."
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
