"""Example episodes of a stored run as pictures: support, query, and what each head got right."""

import base64
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from episodes import EpisodePlan, EpisodeReader, InputError
from episodes.plan import Integers
from fewshot.repeat import experiment_of, folder_of
from fewshot.results import EpisodeRow, RowStore
from fewshot.results.collection import StoredRun
from fewshot.sources import find_records, open_sources

CLASSES, SUPPORT, QUERY = 6, 4, 4
"""How much of an episode is shown, at most: the first classes, the first images of each."""


@dataclass(frozen=True)
class ExampleClass:
    """A class of an example episode.

    Attributes:
        name: of the class.
        support, query: pictures as data URIs, the first of each.
        more: how many support and query images are not shown.
        right: by head, how many of how many queries it got right.
    """

    name: str
    support: tuple[str, ...]
    query: tuple[str, ...]
    more: tuple[int, int]
    right: dict[str, str]


@dataclass(frozen=True)
class Example:
    """An episode in pictures.

    Attributes:
        source, index: which one it is.
        way: classes it has; not all are in `classes`.
        classes: the first of them.
    """

    source: str
    index: int
    way: int
    classes: tuple[ExampleClass, ...]


def show_examples(stored: StoredRun, count: int) -> tuple[list[Example], list[str]]:
    """The first episodes of each source of a run; chosen by number, not by how well they went.

    Returns:
        The examples, and for each source that cannot be shown a sentence why.
    """
    try:
        experiment, folder = experiment_of(stored.run), folder_of(stored)
        with contextlib.chdir(folder):
            records, _ = find_records(experiment, lambda done, total: None)
            readers, _ = open_sources(experiment, records)
    except InputError as error:
        return [], [f"No example episodes of run {stored.run.id}: {error}"]
    with RowStore(stored.path, read_only=True) as store:
        rows = store.rows(stored.run.id)
    examples, notes = [], []
    for source, reader in readers.items():
        for index in range(count):
            heads = [row for row in rows if (row.source, row.index) == (source, index) and row.ok]
            try:
                example = show_episode(reader, index, heads)
            except InputError as error:
                notes.append(f"No example episode of {source}: {error}")
                break
            examples += [example] if example else []
    return examples, notes


def show_episode(reader: EpisodeReader, index: int, rows: Sequence[EpisodeRow]) -> Example | None:
    """An episode in pictures; None where no head has evaluated it class by class.

    Args:
        reader: of its source.
        index: its number.
        rows: the rows of all heads on it.

    Raises:
        InputError: an image cannot be read, or the records have changed since.
    """
    rows = [row for row in rows if row.classes]
    if not rows:
        return None
    plan = reader.plan(index)
    if any(row.plan_hash != plan.hash for row in rows):
        raise InputError("its records or plans have changed since it was evaluated.")
    shown = tuple(show_class(reader, plan, k, rows) for k in range(min(plan.way, CLASSES)))
    return Example(plan.source, index, plan.way, shown)


def show_class(
    reader: EpisodeReader, plan: EpisodePlan, label: int, rows: Sequence[EpisodeRow]
) -> ExampleClass:
    """One class of an episode."""
    support = plan.support_images[plan.support_labels == label]
    query = plan.query_images[plan.query_labels == label]
    class_id = int(plan.class_ids[label])
    parts = (support[:SUPPORT], query[:QUERY])
    pictures = [read_pictures(reader, class_id, numbers) for numbers in parts]
    return ExampleClass(
        name=reader.images.spec.class_names[class_id],
        support=pictures[0],
        query=pictures[1],
        more=(len(support) - len(parts[0]), len(query) - len(parts[1])),
        right={
            row.head: f"{row.classes[label].correct} of {row.classes[label].queries}"
            for row in rows
        },
    )


def read_pictures(reader: EpisodeReader, class_id: int, numbers: Integers) -> tuple[str, ...]:
    """Images of a class as the network sees them, as data URIs."""
    pixels = reader.images.read(np.full(len(numbers), class_id), numbers)
    levels = ((pixels + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return tuple(map(encode_picture, levels))


def encode_picture(levels: np.ndarray) -> str:
    """A picture as a data URI.

    Args:
        levels: uint8 [height, width, 3].
    """
    sink = io.BytesIO()
    Image.fromarray(levels).save(sink, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"
