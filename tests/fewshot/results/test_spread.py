"""Intervals over data and accuracies against ways and shots, by hand and against scipy."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fewshot.results.frames import load
from fewshot.results.spread import (
    accuracy_against,
    accuracy_by_class,
    edges_of,
    interval_over_classes,
    measure_spread,
)


def test_classes_that_are_all_alike_leave_no_doubt() -> None:
    ids, right, weight = [0, 1, 2, 0, 1, 2], np.full(6, 0.2), np.full(6, 1 / 3)
    low, high = interval_over_classes(ids, right, weight, np.random.default_rng(0))
    assert low == pytest.approx(0.6) and high == pytest.approx(0.6)


def test_two_opposite_classes_leave_every_doubt() -> None:
    # Two of two classes drawn with replacement: means 0, 1/2, 1 with chances 1/4, 1/2, 1/4.
    found = interval_over_classes([0, 1], [0.0, 0.5], [0.5, 0.5], np.random.default_rng(0))
    assert found == (0.0, 1.0)


def test_over_classes_asked_equally_it_is_scipys_bootstrap_of_their_means() -> None:
    means = np.random.default_rng(1).uniform(0, 1, 30)
    found = interval_over_classes(
        np.arange(30), means / 5, np.full(30, 1 / 5), np.random.default_rng(2), 20_000
    )
    reference = stats.bootstrap(
        (means,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert found == pytest.approx(tuple(reference), abs=0.004)


def test_more_episodes_of_the_same_classes_do_not_shrink_it(tmp_path: Path, fill) -> None:
    widths = {}
    for episodes in (100, 900):
        fill(tmp_path / str(episodes), {("sur", "dtd"): 0.5}, episodes)
        frames = load(tmp_path / str(episodes))
        spread = measure_spread(frames.episodes, frames.classes)
        assert spread is not None and spread.data is not None and spread.ci is not None
        assert spread.data[0] < spread.mean < spread.data[1]
        widths[episodes] = (2 * spread.ci, spread.data[1] - spread.data[0])
    assert widths[100][0] / widths[900][0] == pytest.approx(3, rel=0.3)  # the field's: root of 9
    assert widths[900][1] < widths[100][1]  # what is left of it is that of the 20 classes


def test_quantiles_and_counts(tmp_path: Path, fill) -> None:
    fill(tmp_path, {("sur", "dtd"): 0.5}, 50)
    frames = load(tmp_path)
    rows = frames.episodes.copy()
    rows.loc[0, "accuracy"] = math.nan
    spread = measure_spread(rows, frames.classes)
    assert spread is not None
    accuracies = rows["accuracy"].to_numpy()[1:]
    assert spread.mean == accuracies.mean()
    assert spread.quantiles[2] == np.median(accuracies)
    assert spread.quantiles[0] == np.percentile(accuracies, 5)
    assert (spread.episodes, spread.failed) == (49, 1)
    assert spread.classes == 20
    assert measure_spread(rows.iloc[:1], frames.classes) is None
    assert measure_spread(frames.episodes, frames.classes.iloc[:0]).data is None


def test_accuracy_by_class(tmp_path: Path, fill) -> None:
    fill(tmp_path, {("sur", "dtd"): 0.5, ("b", "dtd"): 0.5}, 9)
    frames = load(tmp_path)
    found = accuracy_by_class(frames.classes).loc["sur", "dtd"]
    for class_id in found.index:
        mine = frames.classes.query("head == 'sur' and class_id == @class_id")
        assert found.loc[class_id, "accuracy"] == mine["correct"].sum() / mine["queries"].sum()
        assert found.loc[class_id, "episodes"] == len(mine)


def test_accuracy_against_ways_by_hand() -> None:
    found = accuracy_against([5, 5, 7, 12], [0.2, 0.4, 0.9, 0.5], [5, 6, 10, 20])
    assert found[0] == (5.0, pytest.approx(0.3), pytest.approx(1.96 * 0.1 / math.sqrt(2)), 2)
    assert found[1] == (7.0, 0.9, None, 1)
    assert accuracy_against([5], [0.2], [1, 3, 6])[0] == (2.0, None, None, 0)


def test_edges_hold_every_value() -> None:
    values = np.random.default_rng(0).integers(5, 51, 600)
    edges = edges_of(values)
    counts = [n for *_, n in accuracy_against(values, values / 100, edges)]
    assert sum(counts) == 600 and len(edges) <= 10
    assert edges_of([5, 5, 5])[0] == 5.0
    assert [n for *_, n in accuracy_against([5, 5, 5], [0.1] * 3, edges_of([5, 5, 5]))] == [3]
