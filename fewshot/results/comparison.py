"""Two or more methods on the very same episodes: what their difference is, and how sure it is.

Episodes differ far more from each other than methods do on one episode. Paired differences take
the first out, so they resolve what two overlapping intervals cannot.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from episodes.faults import InputError
from fewshot.results.spread import half_width

RESOLVED = 0.005
"""A difference worth resolving, a fraction: half a point."""
LEVEL, POWER = 0.05, 0.8


@dataclass(frozen=True)
class Paired:
    """A method minus another on one source, episode by episode.

    Attributes:
        first, second: names of the methods.
        source: of the episodes.
        episodes: how many both have an accuracy of.
        difference: mean of first minus second, a fraction.
        ci: half-width of its 95 % interval over episodes, 1.96·std/√n; None for one episode.
        t: p-value of the paired t-test, two-sided; None for one episode.
        wilcoxon: p-value of Wilcoxon's signed-rank test, two-sided; None for one episode.
        holm: `t` corrected for the number of sources (Holm); None where there is no `t`.
        superiority: how often the first does better, ties counted half.
        needed: episodes that would resolve half a point (5 % level, 80 % power).
    """

    first: str
    second: str
    source: str
    episodes: int
    difference: float
    ci: float | None
    t: float | None
    wilcoxon: float | None
    holm: float | None
    superiority: float
    needed: int | None


def pair(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """The episodes that two methods share, side by side.

    Args:
        first, second: rows of `Frames.episodes`, each of one method.
        names: what the methods are called.

    Returns:
        `source`, `seed`, `index`, `plan`, `first` and `second`, the accuracies; one row per
        episode of which both have an accuracy.

    Raises:
        InputError: an episode of the same number has other images, or no episode is shared.
    """
    key = ["source", "split", "seed", "index"]
    columns = [*key, "plan", "accuracy"]
    both = first[columns].merge(second[columns], on=key, suffixes=("_first", "_second"))
    other = both[both["plan_first"] != both["plan_second"]]
    if len(other):
        row = other.iloc[0]
        raise InputError(
            f"cannot be paired: {len(other)} of {len(both)} episodes have other images; episode "
            f"{row['index']} of {row['source']} (seed {row['seed']}) has plan {row['plan_first']} "
            f"in one and {row['plan_second']} in the other.",
            " and ".join(names),
            "They came from other records, another protocol or other plan files: evaluate both "
            "on the same (--plans).",
        )
    if not len(both):
        told = [
            f"{name} has {', '.join(sorted(map(str, frame['source'].unique())))} "
            f"({'/'.join(map(str, sorted(frame['split'].unique())))} classes, seeds "
            f"{', '.join(map(str, sorted(frame['seed'].unique())))})"
            for name, frame in zip(names, (first, second), strict=True)
        ]
        what = f"cannot be paired: no episode is shared; {'; '.join(told)}."
        raise InputError(what, " and ".join(names), "Evaluate both with the same --seed.")
    both = both.dropna(subset=["accuracy_first", "accuracy_second"])
    return both.rename(
        columns={"accuracy_first": "first", "accuracy_second": "second", "plan_first": "plan"}
    )[["source", "seed", "index", "plan", "first", "second"]]


def compare_pair(
    first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str], sources: Sequence[str]
) -> list[Paired]:
    """Compare two methods source by source, corrected over the sources.

    Args:
        first, second: rows of `Frames.episodes`, each of one method.
        names: what the methods are called.
        sources: in the order wanted; those that the two do not share are left out.

    Raises:
        InputError: they cannot be paired.
    """
    together = pair(first, second, names)
    found = []
    for source in sources:
        rows = together[together["source"] == source]
        if len(rows):
            found.append(compare(rows["first"], rows["second"], names, source))
    corrected = iter(holm([row.t for row in found if row.t is not None]))
    return [
        Paired(**{**vars(row), "holm": None if row.t is None else next(corrected)}) for row in found
    ]


def compare(first: ArrayLike, second: ArrayLike, names: tuple[str, str], source: str) -> Paired:
    """Compare the accuracies of two methods on the same episodes of one source.

    Args:
        first, second: [n] fractions, n at least 1, in the same order.
        names: what the methods are called.
        source: of the episodes.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    differences = a - b
    several = len(differences) > 1
    return Paired(
        first=names[0],
        second=names[1],
        source=source,
        episodes=len(differences),
        difference=float(differences.mean()),
        ci=half_width(differences) if several else None,
        t=_t_test(differences) if several else None,
        wilcoxon=_wilcoxon(differences) if several else None,
        holm=None,
        superiority=float(((a > b) + 0.5 * (a == b)).mean()),
        needed=episodes_needed(float(differences.std(ddof=1))) if several else None,
    )


def mean_over_sources(rows: Sequence[Paired]) -> tuple[float, float | None]:
    """Mean of the differences, each source with the same weight, and its interval.

    Episodes of different sources are independent, so variances add.
    """
    mean = math.fsum(row.difference for row in rows) / len(rows)
    widths = [row.ci for row in rows if row.ci is not None]
    return mean, math.hypot(*widths) / len(rows) if len(widths) == len(rows) else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction of p-values for their number, in the order given.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for place, i in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = highest
    return corrected


def episodes_needed(deviation: float, difference: float = RESOLVED) -> int:
    """Episodes with which a true difference is found significant at 5 % four times out of five.

    n = ((z(0.975) + z(0.8))·σ/δ)², at least 2.

    Args:
        deviation: standard deviation of the paired differences, a fraction.
        difference: the true mean difference, a fraction.
    """
    z = stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER)
    return max(2, math.ceil((z * deviation / difference) ** 2))


def _t_test(differences: NDArray[np.float64]) -> float:
    if np.ptp(np.round(differences, 12)) == 0:  # no spread: equal methods, or a constant lead
        return 0.0 if np.round(differences[0], 12) else 1.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def _wilcoxon(differences: NDArray[np.float64]) -> float:
    # Differences of counts divided differ in the last bits; equal ones must tie.
    rounded = np.round(differences, 12)
    return float(stats.wilcoxon(rounded).pvalue) if rounded.any() else 1.0
