"""What rows are made with: sources, backbones and entries, opened by every process once."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from episodes import EpisodeReader, InputError
from episodes.records import cache_folder
from fewshot.backbones import Backbone
from fewshot.checkpoint import Card, load_checkpoint
from fewshot.devices import choose_device, choose_workers, describe_device
from fewshot.evaluation import Entry, Evaluation, line_up
from fewshot.experiment import Experiment
from fewshot.features import Shelf
from fewshot.heads import Head
from fewshot.ingredients import fingerprint
from fewshot.sources import find_records, open_sources

OPEN_SOURCES = 2
"""Sources whose features are open at a time: each has a file per extractor."""


@dataclass(frozen=True)
class Order:
    """What a process must know to open the bench of a run that another process drives.

    Attributes:
        experiment: the settings.
        build_head: makes heads of their texts; a function of a module, as it travels by name.
        backbones: names, one for each checkpoint.
        checkpoints: where their weights are.
        weights: hashes of these.
        peeking: heads that were found to look at the other queries without saying so.
        device: where to compute, "cpu" or "cuda".
        threads: of the CPU; another number may move the last digits.
        folder: what relative paths start from.
        images: fingerprints of the images of each source, as files of this machine.
    """

    experiment: Experiment
    build_head: Callable[[str], Head]
    backbones: tuple[str, ...]
    checkpoints: tuple[Path, ...]
    weights: tuple[str, ...]
    peeking: tuple[str, ...]
    device: str
    threads: int
    folder: Path
    images: Mapping[str, str]


class Bench:
    """What rows are made with.

    Args:
        experiment: the settings.
        readers: the episodes of each source, by its name.
        backbones: in evaluation mode, on the device.
        cards: of the backbones.
        entries: from `line_up`.
        device: where backbones and heads compute.
    """

    def __init__(
        self,
        experiment: Experiment,
        readers: Mapping[str, EpisodeReader],
        backbones: Sequence[Backbone],
        cards: Sequence[Card],
        entries: Sequence[Entry],
        device: torch.device,
    ) -> None:
        self.experiment, self.readers, self.device = experiment, readers, device
        self.backbones, self.entries = backbones, {entry.label: entry for entry in entries}
        self.shelf = choose_shelf(experiment, readers, cards, device)
        self._open: dict[str, Evaluation] = {}
        self._timeouts: dict[str, Counter[str]] = {name: Counter() for name in readers}

    @classmethod
    def open(cls, order: Order, number: int = 0) -> "Bench":
        """The bench that an order describes.

        Args:
            order: what the driver knows.
            number: of this process among those of this machine; they take turns on its GPUs.

        Raises:
            InputError: a file is missing here, or is not the driver's.
        """
        if order.folder.is_dir():
            os.chdir(order.folder)
        torch.set_num_threads(order.threads)
        gpus = torch.cuda.device_count() if order.device == "cuda" else 1
        device = choose_device(order.device, number % max(1, gpus))
        records, _ = find_records(order.experiment, lambda done, total: None)
        readers, _ = open_sources(order.experiment, records)
        heads = [order.build_head(text) for text in order.experiment.heads]
        entries = line_up(heads, order.backbones, order.peeking)
        given = [
            load_checkpoint(path, name)
            for path, name in zip(order.checkpoints, order.backbones, strict=True)
        ]
        for path, (_, card), weights in zip(order.checkpoints, given, order.weights, strict=True):
            if card.weights != weights:
                raise InputError("holds other weights than the run began with.", path)
        backbones = [ready(backbone, device) for backbone, _ in given]
        cards = [card for _, card in given]
        return cls(order.experiment, readers, backbones, cards, entries, device)

    def evaluation(self, source: str) -> Evaluation:
        """The evaluation of a source; the features of few sources are open at a time."""
        if source not in self._open:
            while len(self._open) >= OPEN_SOURCES:
                self._open.pop(next(iter(self._open))).store.close()
            memory = self.experiment.max_memory
            self._open[source] = Evaluation(
                self.readers[source],
                self.backbones,
                [*self.entries.values()],
                self.device,
                choose_workers(self.experiment.read_ahead, self.device),
                self.shelf,
                None if memory is None else int(memory * 2**30),
                self.experiment.time_limit,
            )
            self._open[source].timeouts = self._timeouts[source]
        return self._open[source]

    def close(self) -> None:
        """Release the files of features."""
        for evaluation in self._open.values():
            evaluation.store.close()
        self._open.clear()


def ready(backbone: Backbone, device: torch.device) -> Backbone:
    """A backbone as it is evaluated: on the device, in the layout that is fast there."""
    return backbone.to(device).to(memory_format=torch.channels_last).eval()


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
