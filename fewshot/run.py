"""A run: backbones made ready, heads evaluated on every source, rows kept, tables written.

A run lives in a folder. Everything in it is written as it is finished, so the same command goes
on where it was stopped, and computes nothing twice.
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml

from fewshot.account import describe_makings, notes_on
from fewshot.backbone_name import BackboneName
from fewshot.backbones import build_backbone
from fewshot.checkpoint import load_checkpoint
from fewshot.devices import choose_device, choose_workers, describe_device
from fewshot.evaluation import distinct_names, line_up
from fewshot.experiment import Experiment, short_hash
from fewshot.heads import Head, build_head, is_own
from fewshot.ingredients import collect_ingredients, fingerprint
from fewshot.listener import Listener
from fewshot.probe import probe
from fewshot.results import RowStore, Table, build_table, collect, write_tables
from fewshot.results.file import ROWS_FILE
from fewshot.results.tables import write_text
from fewshot.shard import Shard
from fewshot.sources import find_records, open_sources
from fewshot.trained import backbone_path, make_ready, open_training_images
from fewshot.work import Bench, Order, evaluate, muster
from fewshot.work.actors import has_gpus
from fewshot.work.bench import ready
from fewshot.work.muster import shared_features

CONFIG_FILE = "config.yaml"


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
    if experiment.threads:
        torch.set_num_threads(experiment.threads)
    device = choose_kind(experiment)
    here = device if experiment.ray is None else choose_device("auto")
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
    peeking = tuple(head for head, found in findings.items() if found.peeks)
    names = experiment.backbones_of_checkpoints() or experiment.backbone
    entries = line_up(heads, names, peeking)
    given = [
        load_checkpoint(path, name)
        for path, name in zip(
            experiment.checkpoint, experiment.backbones_of_checkpoints(), strict=True
        )
    ]
    untrained = () if given else experiment.backbone
    for backbone in (*(one for one, _ in given), *(build_backbone(n, 1, 0) for n in untrained)):
        backbone.check_size(experiment.image_size)
    identity = experiment.identity(records=benchmark, device=device.type)
    if given:
        identity["weights"] = [card.weights for _, card in given]
    else:
        images = open_training_images(experiment, records)
        identity["trained_on"] = fingerprint(images.reader)
    shard = Shard.parse(experiment.shard)
    whole = experiment.output or default_folder(experiment, records, identity)
    # Of its own accord a shard writes where no other does: it may run on another machine.
    folder = whole if experiment.output or shard.is_whole else whole / shard.folder
    ahead = choose_workers(experiment.read_ahead, here)
    with RowStore(folder / ROWS_FILE) as store:
        write_config(folder, experiment)
        if not given:
            fit = partial(make_ready, experiment, images, benchmark, whole, here, ahead)
            given = [fit(name, listener) for name in experiment.backbone]
        cards = [card for _, card in given]
        cluster = "" if experiment.ray is None else f"Ray cluster, {device.type}; driver: "
        provenance = collect(cluster + describe_device(here)) | describe_makings(
            experiment, benchmark, cards, entries
        )
        beginning = store.begin(identity, collect_ingredients(readers, entries, cards), provenance)
        if beginning.differences:
            listener.say(
                f"a new run, {beginning.run}, beside those in {store.path}: "
                f"{'; '.join(beginning.differences)}"
            )
        with shared_features(experiment, folder) as asked_for:
            backbones = [ready(backbone, here) for backbone, _ in given]
            bench = Bench(asked_for, readers, backbones, cards, entries, here)
            order = Order(
                asked_for,
                build_head,
                names,
                experiment.checkpoint or tuple(backbone_path(whole, name) for name in names),
                tuple(card.weights for card in cards),
                peeking,
                device.type,
                torch.get_num_threads(),
                Path.cwd(),
                bench.shelf.images,
            )
            crew = muster(bench, order, listener)
            evaluate(bench, crew, experiment.indices(), store, beginning.run, listener)
        if not shard.is_whole:
            what = f"shard {experiment.shard} is finished in {folder}"
            listener.say(f"{what}: `results merge` puts all shards together")
        accuracies = store.accuracies(beginning.run, experiment.episodes)
        failures = store.failures(beginning.run, experiment.episodes)
    labels = [entry.label for entry in entries]
    asked = dict.fromkeys(product(labels, readers), experiment.episodes)
    apart = [entry.label for entry in entries if entry.transductive]
    table = build_table(accuracies, labels, list(readers), failures, asked, apart)
    extractors = " + ".join(distinct_names([card.backbone for card in cards]))
    title = f"{benchmark} · {extractors} · {experiment.split} classes"
    missing = [f"{source}: {reason}." for source, reason in skipped.items()]
    stages = [entry.label for entry in entries if entry.backbone is None and len(cards) == 1]
    missing += [f"{label}: selects over the stages of the one backbone." for label in stages]
    missing += [f"{label}: ranked with no other." for label in apart]
    missing += [f"{sentence}." for sentence in seen]
    notes = (*notes_on(experiment, benchmark, cards, entries), *missing)
    write_tables(folder, table, title, notes)
    return Outcome(folder, beginning.run, table, title, notes)


def choose_kind(experiment: Experiment) -> torch.device:
    """Where the rows are computed: a run has rows of one kind of device only.

    Raises:
        InputError: there is no GPU, or no cluster.
    """
    if experiment.ray is None:
        return choose_device(experiment.device)
    if experiment.device == "cuda" or (experiment.device == "auto" and has_gpus(experiment.ray)):
        return torch.device("cuda")
    return torch.device("cpu")


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
    write_text(folder / CONFIG_FILE, text)
