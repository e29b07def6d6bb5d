"""`checkpoint`: weights from elsewhere brought in; the card of a checkpoint shown."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from episodes.faults import InputError, unknown_name
from episodes.protocol import SOURCES, Split
from fewshot.backbone_name import BackboneName

PIXELS = ("signed", "imagenet")


@dataclass(frozen=True)
class Show:
    """Print what a checkpoint says of itself."""

    file: tyro.conf.Positional[Path]
    """A .safetensors file that this program wrote."""


@dataclass(frozen=True)
class Import:
    """Make a checkpoint from a file of torchvision, timm, SUR or URL.

    The file is read without unpickling anything but tensors. Say honestly what its training has
    seen: evaluations repeat it beside their tables.
    """

    file: tyro.conf.Positional[Path]
    """A .pth, .pt or .safetensors file."""
    backbone: str
    """Whose weights they are, e.g. resnet18, aa_resnet18 or resnet18_sur."""
    seen: tuple[str, ...]
    """What the weights have seen: sources (ilsvrc_2012 means all of its classes), or
    source:train, source:valid, source:test; or none, or unknown."""
    out: Path
    """Checkpoint to write."""
    pixels: str = "signed"
    """What they expect: signed pixels in [-1, 1] (SUR, URL), or imagenet mean and deviation
    (torchvision, timm), which is folded into the first convolution."""
    transposed: bool = False
    """They expect height and width swapped (SUR's released networks do)."""
    onto: Path | None = None
    """Checkpoint, imported before, of the network that scales and offsets of SUR-pnf belong to;
    what that one has seen is added to --seen."""
    image_size: int = 84
    """Side of the images that they were trained on, in pixels."""
    classes: str | None = None
    """Names of the classifier's outputs, in order, so that it can be scored on class folders:
    imagenet, a file (a name per line, or imagenet_class_index.json), or a folder of class folders
    in the order of their names."""
    origin: str = ""
    """Where the file comes from, e.g. its address, for the card."""


Command = (
    Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Import, tyro.conf.subcommand("import")]
)


def run(command: Show | Import, console: Console) -> int:
    """Do what the sub-command says; the exit status."""
    if isinstance(command, Show):
        return show(command, console)
    return bring_in(command, console)


def show(command: Show, console: Console) -> int:
    """One line per entry of the card; the weights are compared with their hash."""
    from fewshot.checkpoint import hash_weights, load_tensors, read_card

    weights, metadata = load_tensors(command.file)
    card = read_card(metadata, command.file)
    lines: dict[str, Any] = {
        "backbone": card.backbone,
        "method": card.method,
        "trained on": f"{card.source}, {card.split} classes, of {card.records}",
        "classes": f"{len(card.classes)}, hash {card.classes_hash}" if card.classes else "",
        "outputs": f"{card.outputs}, without class names" if card.outputs else "",
        "seen": ", ".join(card.seen_splits),
        "images": f"{card.image_size} px, rule {card.image_rule}",
        "protocol": card.protocol,
        "seed": card.seed,
        "recipe": ", ".join(f"{key} {value}" for key, value in card.training.items()),
        "made from": ", ".join(f"{key} {value}" for key, value in card.made_from.items()),
        "measured": ", ".join(f"{key} {value}" for key, value in card.metrics.items()),
        "origin": card.origin,
        "git commit": card.git_commit,
        "versions": ", ".join(f"{key} {value}" for key, value in card.versions.items()),
        "weights": f"{sum(one.numel() for one in weights.values()):,} numbers, {card.weights}",
    }
    for name, value in lines.items():
        if value not in ("", None):
            console.print(f"{name:<12}{value}", highlight=False, markup=False, soft_wrap=True)
    if hash_weights(weights) != card.weights:
        raise InputError("its weights differ from its card: it is damaged.", command.file)
    return 0


def bring_in(command: Import, console: Console) -> int:
    """Read, rename, fold, and write with a card."""
    from fewshot.checkpoint import Card, load_checkpoint, save_checkpoint
    from fewshot.class_list import read_classes
    from fewshot.foreign import adopt, read_weights
    from fewshot.results import collect

    if command.pixels not in PIXELS:
        raise unknown_name("kind of pixels", command.pixels, PIXELS)
    classes = read_classes(command.classes) if command.classes else ()
    seen, name = parse_seen(command.seen), str(BackboneName.parse(command.backbone))
    onto, made_from, size = None, {}, command.image_size
    if command.onto is not None:
        if command.pixels != "signed" or command.transposed:
            remedy = "Give --pixels and --transposed when that network is imported."
            raise InputError("takes images as its network does.", "--onto", remedy)
        onto, base = load_checkpoint(command.onto, name)
        made_from, size = {"init": base.weights}, base.image_size
        seen = tuple(dict.fromkeys((*base.seen_splits, *seen)))
    backbone, outputs = adopt(
        name,
        read_weights(command.file),
        pixels=command.pixels,
        transposed=command.transposed,
        onto=onto,
    )
    if classes and outputs != len(classes):
        held = f"a classifier of {outputs} classes" if outputs else "no classifier"
        raise InputError(
            f"names {len(classes)} classes, but {command.file} holds {held}.",
            f"--classes {command.classes}",
            "Give the list that belongs to these weights, in the order of their outputs.",
        )
    provenance = collect("none: imported")
    card = save_checkpoint(
        command.out,
        backbone,
        Card(
            backbone=name,
            records="elsewhere",
            source="+".join(dict.fromkeys(one.partition(":")[0] for one in seen)),
            split="all" if any(one.endswith(":test") for one in seen) else "train",
            classes=classes,
            image_size=size,
            image_rule="official",
            protocol="none",
            seed=0,
            git_commit=(provenance["git"] or {}).get("commit"),
            versions=provenance["versions"],
            method="imported" if onto is None else "film",
            made_from=made_from,
            seen=seen,
            outputs=None if classes else outputs or 1,
            origin=command.origin or command.file.name,
        ),
    )
    kept = "no classifier" if outputs is None else f"a classifier of {outputs} classes"
    kept += f" ({classes[0]} … {classes[-1]})" if classes else ""
    console.print(
        f"{command.out}: {card.backbone} with {kept}, weights {card.weights}; "
        f"seen: {', '.join(card.seen_splits)}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0


def parse_seen(words: tuple[str, ...]) -> tuple[str, ...]:
    """What weights have seen, spelled out as source:split.

    Raises:
        InputError: a word is no source, split, none or unknown.
    """
    if not words:
        raise InputError("--seen is empty.", remedy="Name sources, or none, or unknown.")
    if words in (("none",), ("unknown",)):
        return words
    found: list[str] = []
    for word in words:
        source, _, split = word.partition(":")
        if source not in SOURCES:
            raise unknown_name("source", source, (*SOURCES, "none", "unknown"))
        splits = [Split.parse(split)] if split else list(Split)
        found += [f"{source}:{one.value}" for one in splits]
    return tuple(found)
