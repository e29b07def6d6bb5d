"""Example episodes show the images that were evaluated, and what was counted."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from episodes import EpisodeReader
from episodes.faults import InputError
from fewshot.gallery import CLASSES, QUERY, SUPPORT, show_episode, show_examples
from fewshot.results import ClassCount, EpisodeRow
from fewshot.results.collection import collect_runs
from fewshot.results.figures import draw_example


@pytest.fixture(scope="module")
def reader(miniature):
    return EpisodeReader(miniature, "dtd", "test", size=32)


def row_of(plan, head="sur", correct=1):
    queries = np.bincount(plan.query_labels, minlength=plan.way)
    classes = tuple(
        ClassCount(int(c), int(s), int(q), correct)
        for c, s, q in zip(plan.class_ids, plan.shots, queries, strict=True)
    )
    total = correct * plan.way
    sizes = (plan.way, len(plan.support_labels), len(plan.query_labels), total)
    accuracy = total / len(plan.query_labels)
    name = (head, plan.source, "test", 0, plan.index)
    return EpisodeRow(*name, accuracy, *sizes, plan.hash, 0.0, classes=classes)


def test_pictures_are_the_episodes(reader):
    episode = reader[1]
    rows = [row_of(episode.plan), row_of(episode.plan, "b", 2)]
    example = show_episode(reader, 1, rows)
    assert (example.source, example.index, len(example.names)) == ("dtd", 1, episode.way)
    assert example.accuracies == {row.head: row.accuracy for row in rows}
    assert len(example.classes) == min(CLASSES, episode.way)
    for label, shown in enumerate(example.classes):
        support = episode.support_images[episode.support_labels == label]
        assert len(shown.support) == min(SUPPORT, len(support))
        assert shown.more[0] == len(support) - len(shown.support)
        assert len(shown.query) == QUERY and shown.right == {"sur": "1 of 10", "b": "2 of 10"}
        class_id = int(episode.plan.class_ids[label])
        assert shown.name == reader.images.spec.class_names[class_id] == example.names[label]
        data = base64.b64decode(shown.support[0].removeprefix("data:image/jpeg;base64,"))
        found = np.asarray(Image.open(io.BytesIO(data)), dtype=float)
        wanted = ((support[0] + 1) * 127.5).permute(1, 2, 0).numpy()
        assert np.abs(found - wanted).mean() < 12  # JPEG loses a little


def test_guesses_stand_at_their_queries(reader):
    plan = reader.plan(0)
    guesses = tuple(int(label) for label in np.random.default_rng(0).permutation(plan.query_labels))
    rows = [replace(row_of(plan), guesses=guesses), row_of(plan, "silent")]
    example = show_episode(reader, 0, rows)
    for shown in example.classes:
        places = np.flatnonzero(plan.query_labels == shown.label)[:QUERY]
        told = [query.guesses for query in shown.query]
        assert told == [{"sur": guesses[place]} for place in places]
    figure = draw_example(example)
    drawn = figure.as_svg()
    right = sum(q.guesses["sur"] == c.label for c in example.classes for q in c.query)
    assert drawn.count("✓") == drawn.count("✗") == 0  # the silent head's are not known: no marks
    alone = draw_example(show_episode(reader, 0, rows[:1])).as_svg()
    assert (alone.count(">✓<"), alone.count(">✗<")) == (right, QUERY * len(example.classes) - right)


def test_nothing_is_shown_of_what_was_not_counted(reader):
    assert show_episode(reader, 0, []) is None
    assert show_episode(reader, 0, [replace(row_of(reader.plan(0)), classes=())]) is None


def test_other_images_are_never_shown_for_those_evaluated(reader):
    with pytest.raises(InputError, match="have changed since"):
        show_episode(reader, 0, [replace(row_of(reader.plan(0)), plan_hash="other")])


def test_a_run_without_its_records_says_so(tmp_path, fill):
    fill(tmp_path, {("a", "dtd"): 0.5}, 2)
    (stored,) = collect_runs(tmp_path).runs
    examples, (note,) = show_examples(stored, 1)
    assert examples == [] and "does not say which command made it" in note
