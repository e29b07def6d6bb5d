"""How accuracies spread: over episodes, over the classes of a source, over ways and shots."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fewshot.results.aggregate import NORMAL_975, mean_and_interval
from fewshot.results.frames import KEY

RESAMPLES = 2000
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Spread:
    """A head's accuracies on one source.

    Attributes:
        mean, ci: mean and half-width of the interval over episodes, as in the table.
        data: interval of the mean over data: were the source's classes drawn once more; None
            where rows have no counts by class.
        quantiles: at `QUANTILES`.
        episodes, failed: how many gave an accuracy, and how many did not.
        classes: how many classes appeared.
    """

    mean: float
    ci: float | None
    data: tuple[float, float] | None
    quantiles: tuple[float, ...]
    episodes: int
    failed: int
    classes: int


def measure_spread(episodes: pd.DataFrame, classes: pd.DataFrame) -> Spread | None:
    """The spread of one head's rows on one source; None when no episode has an accuracy.

    Args:
        episodes: rows of `Frames.episodes`.
        classes: the rows of `Frames.classes` of the same head and source.
    """
    accuracies = episodes["accuracy"].to_numpy(float)
    accuracies = accuracies[np.isfinite(accuracies)]
    mean, ci = mean_and_interval(accuracies)
    if mean is None:
        return None
    name = f"{episodes['source'].iloc[0]}/{episodes['head'].iloc[0]}"
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    queries = classes.groupby(KEY, observed=True)["queries"].transform("sum").to_numpy(float)
    data = None
    if len(classes):
        data = interval_over_classes(
            classes["class_id"],
            classes["correct"].to_numpy(float) / queries,
            classes["queries"].to_numpy(float) / queries,
            np.random.default_rng(seed),
        )
    return Spread(
        mean=mean,
        ci=ci,
        data=data,
        quantiles=tuple(float(q) for q in np.quantile(accuracies, QUANTILES)),
        episodes=len(accuracies),
        failed=len(episodes) - len(accuracies),
        classes=classes["class_id"].nunique(),
    )


def interval_over_classes(
    class_ids: ArrayLike,
    right: ArrayLike,
    weight: ArrayLike,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """95 % interval of a mean accuracy, were the classes of the source drawn once more.

    Episodes share classes, so more episodes do not tell more about other classes: the interval
    over episodes shrinks to nothing as they grow, this one does not. The classes are resampled
    with replacement, each with all that was asked of it (a cluster bootstrap, percentiles).

    Args:
        class_ids: [n] class of each part, one part per class of an episode.
        right: [n] its share of the episode's accuracy: correct over the episode's queries.
        weight: [n] its share of the episode's queries.
        generator: draws the resamples.
        resamples: how many.

    Source: Lafargue et al., TMLR 2024, arXiv 2409.02850, on what the field's interval leaves out.
    """
    names, position = np.unique(np.asarray(class_ids), return_inverse=True)
    by_class = np.stack(
        [
            np.bincount(position, np.asarray(part, dtype=np.float64), len(names))
            for part in (right, weight)
        ],
        axis=1,
    )
    times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    sums = times @ by_class
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return float(low), float(high)


def accuracy_by_class(classes: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each class over all its queries.

    Args:
        classes: rows of `Frames.classes`.

    Returns:
        By head, source and class_id: `accuracy`, `queries`, `episodes`.
    """
    sums = classes.groupby(["head", "source", "class_id"], observed=True).agg(
        correct=("correct", "sum"), queries=("queries", "sum"), episodes=("correct", "size")
    )
    sums["accuracy"] = sums["correct"] / sums["queries"]
    return sums[["accuracy", "queries", "episodes"]]


def accuracy_against(
    values: ArrayLike, accuracies: ArrayLike, edges: Sequence[float]
) -> list[tuple[float, float | None, float | None, int]]:
    """Mean accuracy of the episodes (or classes) whose way or shot lies in each interval.

    Args:
        values: [n] way or shot.
        accuracies: [n] fractions.
        edges: [k + 1] ascending; interval i is from edges[i] to below edges[i + 1].

    Returns:
        [k] (mean of the values there, mean accuracy, half-width of its 95 % interval, how many).
    """
    x, y = np.asarray(values, dtype=np.float64), np.asarray(accuracies, dtype=np.float64)
    bins = np.digitize(x, edges) - 1
    found = []
    for i in range(len(edges) - 1):
        there = bins == i
        center = x[there].mean() if there.any() else (edges[i] + edges[i + 1]) / 2
        found.append((float(center), *mean_and_interval(y[there]), int(there.sum())))
    return found


def edges_of(values: ArrayLike, most: int = 8) -> list[float]:
    """Edges of intervals that hold about equally many of whole-numbered values.

    Args:
        values: [n], n at least 1.
        most: no more intervals than this.
    """
    x = np.asarray(values, dtype=np.float64)
    inner = np.unique(np.quantile(x, np.linspace(0, 1, most + 1), method="lower"))
    first = inner[:-1] if len(inner) > 1 else inner  # the greatest values join the last interval
    return [*map(float, first), math.nextafter(float(x.max()), math.inf)]


def half_width(values: NDArray[np.float64]) -> float:
    """1.96·std/√n with ddof 0, the field's 95 % interval, of any sample."""
    return float(NORMAL_975 * values.std() / math.sqrt(len(values)))
