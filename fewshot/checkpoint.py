"""Weights in and out, with a card that says what they are.

A checkpoint is one safetensors file: the network's state dict, what a method that learns from
episodes learned beside it, and the card as JSON in the metadata. Nothing is unpickled.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from episodes.faults import InputError, writing
from episodes.tfrecord import replacing
from fewshot.backbones import Backbone, Learned, build_backbone
from fewshot.film import insert_film

CARD = "card"
BESIDE = "learned/"
"""How the names of weights begin that are not the network's."""
SHAPES: dict[type, tuple[str, ...]] = {
    str: ("backbone", "records", "source", "split", "image_rule", "protocol", "weights", "method"),
    int: ("image_size", "seed"),
    dict: ("training", "versions", "metrics", "made_from", "learner"),
    list: ("classes", "seen"),
}
"""What entries of a card are in its JSON."""
NOT_OURS = "Give a checkpoint that this program wrote (a .safetensors file of a run folder)."


@dataclass(frozen=True)
class Card:
    """What a checkpoint is.

    Attributes:
        backbone: name from the table.
        records: "miniature v1", or the folder of the records.
        source, split, classes: what it was trained on: the names of the classes, by label.
        image_size, image_rule: of the training images.
        protocol: the benchmark whose splits were obeyed.
        seed: of initial weights and batches.
        training: the recipe's settings.
        git_commit: of the code that trained it, if known.
        versions: of the packages that trained it.
        weights: hash of the weights, 16 hexadecimal digits.
        method: how it was trained: supervised, multi_domain, …, or "imported".
        seen: what training and pre-training have seen, as "source:split"; empty means
            `source` and `split` alone.
        outputs: rows of the classifier where they are not `classes`; of imported weights.
        metrics: what was measured when the weights were kept.
        origin: where imported weights come from.
        made_from: hashes of the weights that it began with or was taught by, and how; what it
            was chosen by, and the rules of training episodes.
        learner: settings of the method, where it learned from episodes; empty for others.
    """

    backbone: str
    records: str
    source: str
    split: str
    classes: tuple[str, ...]
    image_size: int
    image_rule: str
    protocol: str
    seed: int
    training: Mapping[str, Any] = field(default_factory=dict)
    git_commit: str | None = None
    versions: Mapping[str, str | None] = field(default_factory=dict)
    weights: str = ""
    method: str = "supervised"
    seen: tuple[str, ...] = ()
    outputs: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    made_from: Mapping[str, Any] = field(default_factory=dict)
    learner: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes_hash(self) -> str:
        """Sixteen hexadecimal digits of the names of the classes, in order."""
        return hashlib.sha256("\n".join(self.classes).encode()).hexdigest()[:16]

    @property
    def seen_splits(self) -> tuple[str, ...]:
        """What training and pre-training have seen, as "source:split"."""
        return self.seen or (f"{self.source}:{self.split}",)

    def seen_of(self, split: str) -> tuple[str, ...]:
        """Sources whose classes of a split were seen."""
        pairs = [one.partition(":") for one in self.seen_splits]
        return tuple(source for source, _, found in pairs if found == split)


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write one safetensors file, atomically: the old one stays until the new one is whole.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with writing(path, "choose another --output"), replacing(path) as temporary:
        temporary.write_bytes(save(plain, dict(metadata)))
        with temporary.open("rb") as written:
            os.fsync(written.fileno())  # on the disk before it takes the old one's place


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        InputError: the file is missing or damaged, or is no safetensors file.
    """
    if not path.is_file():
        raise InputError("there is no such file.", path, "Check the path of the checkpoint.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            names: list[str] = file.keys()
            return {name: file.get_tensor(name) for name in names}, metadata
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"is not a readable checkpoint ({error}).", path, NOT_OURS) from error


def save_checkpoint(path: Path, backbone: Backbone, card: Card) -> Card:
    """Write a backbone with its card, atomically.

    Returns:
        The card as written, with the hash of the weights.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    weights = backbone.network.state_dict()
    if backbone.learned is not None:
        weights |= {BESIDE + name: value for name, value in backbone.learned.weights.items()}
    content = asdict(card) | {"weights": hash_weights(weights)}
    save_tensors(path, weights, {CARD: json.dumps(content)})
    return Card(**content)


def read_card(metadata: Mapping[str, str], path: Path) -> Card:
    """The card in a checkpoint's metadata.

    Raises:
        InputError: there is none, or it lacks an entry.
    """
    try:
        content = json.loads(metadata[CARD])
        known = {entry.name for entry in fields(Card)}
        content = {name: value for name, value in content.items() if name in known}
        _check_shapes(content)
        lists = {name: tuple(content.get(name, ())) for name in ("classes", "seen")}
        return Card(**content | {"classes": content["classes"]} | lists)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError("has no card that says what it is.", path, NOT_OURS) from error


def _check_shapes(content: Mapping[str, Any]) -> None:
    """Raises TypeError where readers of a card would meet something else than they know."""
    for shape, names in SHAPES.items():
        for name in names:
            if name in content and type(content[name]) is not shape:
                raise TypeError(f"{name} is no {shape.__name__}")
    texts = [*content["classes"], *content.get("seen", ()), content.get("origin", "")]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name is no text")
    if not isinstance(content.get("git_commit"), str | None):
        raise TypeError("git_commit is no text")
    if type(content.get("outputs")) not in (int, type(None)):
        raise TypeError("outputs is no number")


def load_card(path: Path) -> Card:
    """The card of a checkpoint; its weights are not read.

    Raises:
        InputError: the file is missing or damaged, or has no card.
    """
    if not path.is_file():
        raise InputError("there is no such file.", path, "Check the path of the checkpoint.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"is not a readable checkpoint ({error}).", path, NOT_OURS) from error
    return read_card(metadata, path)


def load_checkpoint(path: Path, backbone: str) -> tuple[Backbone, Card]:
    """A backbone with the weights of a checkpoint.

    Args:
        path: the checkpoint.
        backbone: the name it must have. Parameters of a network and of its anti-aliased variant
            look alike, so the card decides.

    Raises:
        InputError: the file is missing, damaged, without a card, or of another backbone.
    """
    weights, metadata = load_tensors(path)
    card = read_card(metadata, path)
    if card.backbone != backbone:
        raise InputError(
            f"holds the backbone {card.backbone}, not {backbone}.",
            path,
            f"Add --backbone {card.backbone}, or give another checkpoint.",
        )
    if hash_weights(weights) != card.weights:
        raise InputError("its weights differ from its card: it is damaged.", path, NOT_OURS)
    outputs = len(card.classes) if card.outputs is None else card.outputs
    if outputs not in {len(tensor) for tensor in weights.values() if tensor.ndim}:
        # a forged number must not become a matrix
        raise InputError(f"has no weights for the {outputs} outputs of its card.", path, NOT_OURS)
    built = build_backbone(backbone, classes=outputs, seed=0)
    if card.method == "film":
        insert_film(built)
    built.load({name: t for name, t in weights.items() if not name.startswith(BESIDE)})
    if card.learner:
        built.learned = Learned(card.method, card.learner, under(BESIDE, weights))
    return built, card


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def load_checkpoints(
    paths: Sequence[Path], backbones: Sequence[str] = ()
) -> list[tuple[Backbone, Card]]:
    """Several checkpoints, as `load_checkpoint` reads each.

    Args:
        paths: of the checkpoints.
        backbones: one for each, or one for all; none at all takes what their cards say.

    Raises:
        InputError: there is none, the numbers do not fit, or one cannot be used.
    """
    if not paths:
        raise InputError("--checkpoint is empty.", remedy="Name at least one.")
    names = tuple(backbones)
    if not names:
        names = tuple(load_card(path).backbone for path in paths)
    if len(names) not in (1, len(paths)):
        raise InputError(
            f"{len(names)} backbones, but {len(paths)} checkpoints.",
            remedy="Give one backbone per checkpoint, or one for all of them.",
        )
    names = names * (len(paths) if len(names) == 1 else 1)
    return [load_checkpoint(path, name) for path, name in zip(paths, names, strict=True)]
