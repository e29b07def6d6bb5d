"""Example episodes of a stored run as pictures: support, query, and what each head guessed."""

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
class ExampleQuery:
    """A query image of an example episode.

    Attributes:
        picture: as a data URI.
        guesses: by head, the label guessed; heads whose guesses were not kept are absent.
    """

    picture: str
    guesses: dict[str, int]


@dataclass(frozen=True)
class ExampleClass:
    """A class of an example episode.

    Attributes:
        label: of the class, from 0.
        name: of the class.
        support: pictures as data URIs, the first of each.
        query: the first of its query images.
        more: how many support and query images are not shown.
        right: by head, how many of how many queries it got right.
    """

    label: int
    name: str
    support: tuple[str, ...]
    query: tuple[ExampleQuery, ...]
    more: tuple[int, int]
    right: dict[str, str]


@dataclass(frozen=True)
class Example:
    """An episode in pictures.

    Attributes:
        source, index: which one it is.
        names: of its classes, by label; not all are in `classes`.
        classes: the first of them.
        accuracies: by head, of the whole episode, a fraction.
    """

    source: str
    index: int
    names: tuple[str, ...]
    classes: tuple[ExampleClass, ...]
    accuracies: dict[str, float]


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
    return Example(
        source=plan.source,
        index=index,
        names=tuple(reader.images.spec.class_names[int(k)] for k in plan.class_ids),
        classes=tuple(show_class(reader, plan, k, rows) for k in range(min(plan.way, CLASSES))),
        accuracies={row.head: row.accuracy for row in rows if row.accuracy is not None},
    )


def show_class(
    reader: EpisodeReader, plan: EpisodePlan, label: int, rows: Sequence[EpisodeRow]
) -> ExampleClass:
    """One class of an episode."""
    support = plan.support_images[plan.support_labels == label]
    places = np.flatnonzero(plan.query_labels == label)
    query = plan.query_images[places[:QUERY]]
    class_id = int(plan.class_ids[label])
    queries = [
        ExampleQuery(picture, {row.head: row.guesses[place] for row in rows if row.guesses})
        for picture, place in zip(read_pictures(reader, class_id, query), places, strict=False)
    ]
    return ExampleClass(
        label=label,
        name=reader.images.spec.class_names[class_id],
        support=read_pictures(reader, class_id, support[:SUPPORT]),
        query=tuple(queries),
        more=(max(0, len(support) - SUPPORT), len(places) - len(query)),
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
