"""The backbones that a run trains: in its folder, once, whichever process comes first."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from episodes import InputError
from episodes.loader import LabelledImages
from episodes.protocol import find_protocol
from fewshot.backbone_name import BackboneName
from fewshot.backbones import Backbone
from fewshot.checkpoint import Card, load_checkpoint, save_checkpoint
from fewshot.devices import describe_device
from fewshot.experiment import Experiment
from fewshot.listener import Listener
from fewshot.results import collect
from fewshot.training.journal import Journal
from fewshot.training.loop import Observer, train
from fewshot.training.meter import Report
from fewshot.training.processes import Place
from fewshot.training.recipe import Recipe
from fewshot.training.snapshots import Snapshots
from fewshot.training.supervised import prepare

STATE_FILE = "training.safetensors"
LOCK_FILE = "training.lock"


def open_training_images(experiment: Experiment, records: Path) -> LabelledImages:
    """The images of the train classes of the source that backbones are trained on."""
    return LabelledImages(
        records,
        experiment.source,
        "train",
        experiment.image_size,
        experiment.image_rule,
        experiment.packs,
    )


def backbone_path(folder: Path, name: str) -> Path:
    """Where a run keeps a backbone that it trained."""
    return folder / f"{BackboneName.parse(name).file}.safetensors"


def make_ready(
    experiment: Experiment,
    images: LabelledImages,
    benchmark: str,
    folder: Path,
    device: torch.device,
    workers: int,
    name: str,
    listener: Listener,
) -> tuple[Backbone, Card]:
    """The trained backbone of the run folder; trained first, or on, if it is not finished.

    Args:
        experiment: how it is trained.
        images: to train on.
        benchmark: what a table calls the records.
        folder: where it is kept.
        device: where it is trained.
        workers: processes that read images ahead.
        name: of the backbone.
        listener: told how far it is.

    Raises:
        InputError: the folder holds one of another training, or the disk is full.
    """
    path = backbone_path(folder, name)
    if not path.exists():
        with only_one(path.with_suffix(f".{LOCK_FILE}"), name, listener):
            if not path.exists():
                card = new_card(experiment, images, benchmark, device, name)
                train_one(path, images, card, device, workers, listener)
    # Read back: a run that was stopped here and goes on must compute with the very same bits.
    backbone, card = load_checkpoint(path, name)
    made = (card.source, card.image_size, card.image_rule, Recipe.of(card.training))
    wanted = (images.reader.spec.name, experiment.image_size, experiment.image_rule)
    if made != (*wanted, recipe_of(experiment)):
        remedy = "Remove it to train again, or choose another --output."
        raise InputError("comes from a training with other settings.", path, remedy)
    return backbone, card


def recipe_of(experiment: Experiment) -> Recipe:
    """How an experiment trains."""
    return Recipe(
        epochs=experiment.epochs,
        batch_size=experiment.batch_size,
        learning_rate=experiment.learning_rate,
        weight_decay=experiment.weight_decay,
        warmup=experiment.warmup,
        augment=experiment.augment,
        seed=experiment.seed,
    )


def new_card(
    experiment: Experiment, images: LabelledImages, benchmark: str, device: torch.device, name: str
) -> Card:
    """What a backbone says of itself that this experiment trains."""
    provenance = collect(describe_device(device))
    return Card(
        backbone=name,
        records=benchmark,
        source=images.reader.spec.name,
        split="train",
        classes=images.class_names,
        image_size=experiment.image_size,
        image_rule=images.reader.rule,
        protocol=find_protocol(experiment.protocol).name,
        seed=experiment.seed,
        training=asdict(recipe_of(experiment)),
        git_commit=(provenance["git"] or {}).get("commit"),
        versions=provenance["versions"],
    )


def train_one(
    path: Path,
    images: LabelledImages,
    card: Card,
    device: torch.device,
    workers: int,
    listener: Listener,
) -> None:
    """Train a backbone as its card says, or go on, and write it, its log beside it."""
    name = card.backbone
    state = Snapshots(path.with_suffix(f".{STATE_FILE}"))
    training = prepare(name, [images], Recipe.of(card.training), Place(device))
    training.resume(state, listener.say)
    journal = Journal(path.with_suffix(".jsonl"), training.step)

    def report(now: Report) -> None:
        journal.report(now)
        listener.progress(f"train {name}", now.step, now.total, f"steps, loss {now.loss:.2f}")

    backbone = train(training, state, workers, Observer(report, listener.say))
    save_checkpoint(path, backbone, card)
    state.remove()
    listener.say(f"trained {name}: {path}")


@contextmanager
def only_one(path: Path, name: str, listener: Listener) -> Iterator[None]:
    """Wait until no other process (a shard of the same experiment, say) trains the same backbone.

    The lock goes with the process that holds it. Its file stays only if the training did not end.
    """
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            listener.say(f"another process trains {name}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            listener.say(f"{path.parent} knows no locks: start one process first")
        yield
        path.unlink(missing_ok=True)
