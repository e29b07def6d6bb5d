"""The trained networks that teach another."""

from collections.abc import Sequence
from pathlib import Path

from episodes.faults import InputError
from episodes.loader import LabelledImages
from fewshot.backbones import Backbone
from fewshot.checkpoint import Card, load_checkpoint, load_tensors, read_card
from fewshot.training.distillation import Teaching


def card_of(path: Path) -> Card:
    """What a checkpoint says of itself.

    Raises:
        InputError: it cannot be read, or has no card.
    """
    return read_card(load_tensors(path)[1], path)


def by_source(paths: Sequence[Path], sources: Sequence[str]) -> tuple[Path, ...]:
    """The teacher of each source, as their cards say; one without its own keeps the place given.

    Raises:
        InputError: a file cannot be read, or has no card.
    """
    trained_on = {card_of(path).source: path for path in paths}
    return tuple(trained_on.get(source, path) for source, path in zip(sources, paths, strict=True))


def load_teachers(
    paths: Sequence[Path], images: Sequence[LabelledImages], image_size: int, temperature: float
) -> Teaching:
    """One teacher per source.

    Raises:
        InputError: a file is wrong, or has learned other classes or another image size.
    """
    pairs = [load_teacher(path, one, image_size) for path, one in zip(paths, images, strict=True)]
    teachers = tuple(teacher for teacher, _ in pairs)
    return Teaching(teachers, tuple(card.weights for _, card in pairs), temperature)


def load_teacher(path: Path, images: LabelledImages, image_size: int) -> tuple[Backbone, Card]:
    """A teacher of a source.

    Raises:
        InputError: the file is wrong, or it has learned other classes or another image size.
    """
    card = card_of(path)
    source = images.reader.spec.name
    if card.classes != images.class_names:
        raise InputError(
            f"has learned {len(card.classes)} classes of {card.source}, not the "
            f"{len(images.class_names)} train classes of {source}.",
            path,
            "Give one teacher for each of --train-sources.",
        )
    if card.image_size != image_size:
        raise InputError(
            f"was trained at {card.image_size} pixels, not {image_size}.",
            path,
            f"Add --image-size {card.image_size}, or give another teacher.",
        )
    return load_checkpoint(path, card.backbone)
