"""A run: backbones made ready, heads evaluated on every source, rows kept, tables written.

A run lives in a folder. Everything in it is written as it is finished, so the same command goes
on where it was stopped, and computes nothing twice.
"""

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from episodes import EpisodePlan, EpisodeReader, InputError
from episodes.faults import is_disk_full
from episodes.loader import LabelledImages
from episodes.protocol import find_protocol
from episodes.records import cache_folder
from episodes.tfrecord import replacing
from fewshot.backbone_name import BackboneName
from fewshot.backbones import Backbone
from fewshot.checkpoint import Card, load_checkpoint, save_checkpoint
from fewshot.devices import choose_device, choose_workers, describe_device
from fewshot.evaluation import Entry, Evaluation, distinct_names, line_up
from fewshot.experiment import Experiment, short_hash
from fewshot.features import Shelf
from fewshot.heads import Head, build_head, is_own
from fewshot.ingredients import collect_ingredients, fingerprint
from fewshot.listener import Listener
from fewshot.probe import probe
from fewshot.results import RowStore, Table, build_table, collect, write_tables
from fewshot.results.file import ROWS_FILE
from fewshot.sources import find_records, open_sources
from fewshot.training.loop import Observer, train
from fewshot.training.meter import Report
from fewshot.training.processes import Place
from fewshot.training.recipe import Recipe
from fewshot.training.snapshots import Snapshots
from fewshot.training.supervised import prepare

PUBLISHED_EPISODES = 600
CONFIG_FILE = "config.yaml"
MOST_TOLD = 3
"""Failures of one head on one source that are told one by one."""
STATE_FILE = "training.safetensors"


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        folder: where it lives.
        run: its id in the folder's results file.
        table, title, notes: what it found, as written.
    """

    folder: Path
    run: str
    table: Table
    title: str
    notes: tuple[str, ...]


def carry_out(
    experiment: Experiment,
    listener: Listener,
    build_head: Callable[[str], Head] = build_head,
) -> Outcome:
    """Carry out an experiment, or what is left of it.

    Args:
        experiment: its settings.
        listener: told how far it is.
        build_head: makes heads of their texts; may know more than those of `fewshot.heads`.

    Raises:
        InputError: a setting or a file is wrong; what was finished before stays in the folder.
    """
    device = choose_device(experiment.device)
    work = "draw the miniature"
    drawn = partial(listener.progress, work, note="class files")
    records, benchmark = find_records(experiment, drawn)
    # Everything is opened first: a fault in the last source shows before hours of work.
    readers, skipped = open_sources(experiment, records)
    for source, reason in skipped.items():
        listener.say(f"skipped: {source} ({reason})")
    for reader in readers.values():
        if reason := reader.images.unpacked_because:
            listener.say(f"records are read instead of a pack: {reason}")
    heads = [build_head(text) for text in experiment.heads]
    findings = {str(head): probe(head, experiment.time_limit) for head in heads if is_own(head)}
    seen = [f"head {head}: {what}" for head, found in findings.items() for what in found.sentences]
    for sentence in seen:
        listener.say(f"{sentence}.")
    entries = line_up(
        heads,
        experiment.backbones_of_checkpoints() or experiment.backbone,
        [head for head, found in findings.items() if found.peeks],
    )
    given = [
        load_checkpoint(path, name)
        for path, name in zip(
            experiment.checkpoint, experiment.backbones_of_checkpoints(), strict=True
        )
    ]
    identity = experiment.identity(records=benchmark, device=device.type)
    if given:
        identity["weights"] = [card.weights for _, card in given]
    else:
        images = open_training_images(experiment, records)
        identity["trained_on"] = fingerprint(images.reader)
    folder = experiment.output or default_folder(experiment, records, identity)
    workers = choose_workers(experiment.workers, device)
    with RowStore(folder / ROWS_FILE) as store:
        write_config(folder, experiment)
        if not given:
            fit = partial(make_ready, experiment, images, benchmark, folder, device, workers)
            given = [fit(name, listener) for name in experiment.backbone]
        backbones = [
            backbone.to(device).to(memory_format=torch.channels_last).eval()
            for backbone, _ in given
        ]
        cards = [card for _, card in given]
        provenance = collect(describe_device(device)) | describe_makings(
            experiment, benchmark, cards, entries
        )
        beginning = store.begin(identity, collect_ingredients(readers, entries, cards), provenance)
        if beginning.differences:
            listener.say(
                f"a new run, {beginning.run}, beside those in {store.path}: "
                f"{'; '.join(beginning.differences)}"
            )
        shelf = choose_shelf(experiment, readers, cards, device)
        limits = choose_memory(experiment.max_memory), experiment.time_limit
        for reader in readers.values():
            evaluation = Evaluation(reader, backbones, entries, device, workers, shelf, *limits)
            evaluate_source(evaluation, experiment, store, beginning.run, listener)
            evaluation.store.close()
        accuracies = store.accuracies(beginning.run, experiment.episodes)
        failures = store.failures(beginning.run, experiment.episodes)
    labels = [entry.label for entry in entries]
    table = build_table(accuracies, labels, list(readers), failures)
    names = " + ".join(distinct_names([card.backbone for card in cards]))
    title = f"{benchmark} · {names} · {experiment.split} classes"
    missing = [f"{source}: {reason}." for source, reason in skipped.items()]
    stages = [entry.label for entry in entries if entry.backbone is None and len(cards) == 1]
    missing += [f"{label}: selects over the stages of the one backbone." for label in stages]
    missing += [f"{sentence}." for sentence in seen]
    notes = (*notes_on(experiment, benchmark, cards), *missing)
    write_tables(folder, table, title, notes)
    return Outcome(folder, beginning.run, table, title, notes)


# ---- the run folder --------------------------------------------------------------------------


def default_folder(experiment: Experiment, records: Path, identity: dict[str, Any]) -> Path:
    """A name in runs/ that differs for every setting that moves numbers."""
    names = "+".join(dict.fromkeys(BackboneName.parse(one).file for one in experiment.backbone))
    what = "miniature" if experiment.records is None else records.resolve().name or "records"
    own = [name for name in experiment.sources if "=" in name]
    place = [str(records.resolve()) if experiment.records else "", *own]
    return Path("runs") / f"{names}-{what}-{short_hash(identity | {'place': place})}"


def write_config(folder: Path, experiment: Experiment) -> None:
    """The effective configuration, readable by --config, and the command as its first line."""
    settings = {key: value for key, value in experiment.settings().items() if key != "config"}
    text = f"# command:  {shlex.join(sys.orig_argv)}\n{yaml.safe_dump(settings, sort_keys=False)}"
    try:
        with replacing(folder / CONFIG_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        what = "the disk is full." if is_disk_full(error) else f"cannot be written ({error})."
        raise InputError(what, folder / CONFIG_FILE, "Choose another --output.") from error


# ---- backbones -------------------------------------------------------------------------------


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
    """The trained backbone of the run folder; trained first, or on, if it is not finished."""
    path, size = folder / f"{BackboneName.parse(name).file}.safetensors", experiment.image_size
    recipe = Recipe(
        epochs=experiment.epochs,
        batch_size=experiment.batch_size,
        learning_rate=experiment.learning_rate,
        weight_decay=experiment.weight_decay,
        warmup=experiment.warmup,
        augment=experiment.augment,
        seed=experiment.seed,
    )
    if path.exists():
        backbone, card = load_checkpoint(path, name)
        made = (card.source, card.image_size, card.image_rule, Recipe.of(card.training))
        if made != (images.reader.spec.name, size, experiment.image_rule, recipe):
            remedy = "Remove it to train again, or choose another --output."
            raise InputError("comes from a training with other settings.", path, remedy)
        return backbone, card
    work = f"train {name}"
    state = Snapshots(folder / f"{BackboneName.parse(name).file}.{STATE_FILE}")

    def report(now: Report) -> None:
        listener.progress(work, now.step, now.total, f"steps, loss {now.loss:.2f}")

    training = prepare(name, [images], recipe, Place(device))
    backbone = train(training, state, workers, Observer(report, listener.say))
    provenance = collect(describe_device(device))
    save_checkpoint(
        path,
        backbone,
        Card(
            backbone=name,
            records=benchmark,
            source=images.reader.spec.name,
            split="train",
            classes=images.class_names,
            image_size=size,
            image_rule=images.reader.rule,
            protocol=find_protocol(experiment.protocol).name,
            seed=experiment.seed,
            training=asdict(recipe),
            git_commit=(provenance["git"] or {}).get("commit"),
            versions=provenance["versions"],
        ),
    )
    state.remove()
    listener.say(f"trained {name}: {path}")
    # Read back: a run that was stopped here and goes on must compute with the very same bits.
    return load_checkpoint(path, name)


# ---- evaluation ------------------------------------------------------------------------------


def choose_shelf(
    experiment: Experiment,
    readers: Mapping[str, EpisodeReader],
    cards: Sequence[Card],
    device: torch.device,
) -> Shelf:
    """Where features are kept, and what they depend on."""
    kept = {"none": None, "cache": cache_folder() / "features"}
    return Shelf(
        kept[experiment.features] if experiment.features in kept else Path(experiment.features),
        experiment.feature_dtype,
        [f"{card.backbone} {card.weights}" for card in cards],
        {name: fingerprint(reader.images) for name, reader in readers.items()},
        describe_device(device),
    )


def choose_memory(gigabytes: float | None) -> int | None:
    """Bytes for the episodes that a head works on at once; None for what suits the device."""
    return None if gigabytes is None else int(gigabytes * 2**30)


def evaluate_source(
    evaluation: Evaluation,
    experiment: Experiment,
    store: RowStore,
    run: str,
    listener: Listener,
) -> None:
    """Evaluate all entries on one source and store the rows of the run that are not there yet."""
    source = evaluation.reader.images.spec.name
    stored = {entry.label: store.done(run, entry.label, source) for entry in evaluation.entries}

    def done(label: str, plan: EpisodePlan) -> bool:
        found = stored[label].get(plan.index)
        if found not in (None, plan.hash):
            raise InputError(
                f"episode {plan.index} of {source} was stored with other images.",
                store.path,
                "The records have changed: choose another --output.",
            )
        return found is not None

    finished = 0

    def progress(what: str, count: int, total: int) -> None:
        nonlocal finished
        finished = count if what == "episodes" else finished
        note = "episodes" if what == "episodes" else f"episodes ({count}/{total} images)"
        listener.progress(source, finished, experiment.episodes, note)

    listener.progress(source, 0, experiment.episodes, "episodes")
    if any(not entry.head.adapts_backbone for entry in evaluation.entries):
        census = evaluation.store.census(evaluation.plans(experiment.episodes))
        listener.say(
            f"{source}: {census.in_episodes:,} images in episodes, {census.different:,} different, "
            f"{census.missing:,} without features yet"
        )
    failures: Counter[str] = Counter()
    for rows in evaluation.rows(experiment.episodes, done, progress):
        store.add(run, rows)
        for row in rows:
            failures[row.head] += not row.ok
            if not row.ok and failures[row.head] <= MOST_TOLD:
                listener.say(f"{row.name}: {row.status}")
    for head, count in (+failures).items():
        listener.say(f"{head} failed on {count} of {experiment.episodes} episodes of {source}")


def describe_makings(
    experiment: Experiment, benchmark: str, cards: Sequence[Card], entries: Sequence[Entry]
) -> dict[str, Any]:
    """What `show` tells of a run and tables group by; JSON values only."""
    protocol = find_protocol(experiment.protocol)
    return {
        "benchmark": benchmark,
        "protocol": {
            "name": protocol.name,
            "version": protocol.version,
            "hash": protocol.hash,
        },
        "image": {"size": experiment.image_size, "rule": experiment.image_rule},
        "split": experiment.split,
        "seed": experiment.seed,
        "backbones": [asdict(card) for card in cards],
        "heads": {
            entry.label: {
                "name": entry.head.name,
                "transductive": entry.label.split(" @ ")[0].endswith("(transductive)"),
                "tuning": entry.head.tuning,
                "settings": asdict(entry.head),
            }
            for entry in entries
        },
        "experiment": experiment.settings(),
    }


def notes_on(experiment: Experiment, benchmark: str, cards: list[Card]) -> list[str]:
    """What a reader of the table must know about how its numbers came to be."""
    notes = []
    if benchmark.startswith("miniature"):
        notes.append(
            "miniature: drawn stand-ins of the ten sources; never comparable to published numbers."
        )
    for card in cards:
        elsewhere = "" if card.records == benchmark else f" of {card.records}"
        trained = f"{card.source} ({card.split} classes{elsewhere}) at {card.image_size} px"
        notes.append(f"{card.backbone}: trained on {trained}.")
        if seen := card.seen_of(experiment.split):
            what = f"pre-training saw the {experiment.split} classes of {', '.join(seen)}"
            notes.append(f"{card.backbone}: {what}.")
        elif card.seen == ("unknown",):
            notes.append(f"{card.backbone}: what its pre-training saw is unknown.")
    protocol = find_protocol(experiment.protocol)
    rules = f"{protocol.name} version {protocol.version} ({protocol.hash})"
    pixels = f"{experiment.image_size} px, image rule {experiment.image_rule}"
    notes.append(f"Protocol {rules}, seed {experiment.seed}; {pixels}.")
    if experiment.episodes < PUBLISHED_EPISODES:
        notes.append(f"Published results use {PUBLISHED_EPISODES} episodes per source.")
    return list(dict.fromkeys(notes))
