"""Many methods over several sources: Friedman's test and Nemenyi's critical difference.

Source: J. Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class CriticalDifference:
    """What the average ranks of methods over sources can tell apart.

    Attributes:
        methods: the names, best average rank first.
        ranks: [methods] average rank over the sources, of plain means: 1 is best.
        p: of Friedman's test that all methods are equal; None for fewer than three methods.
        difference: the average ranks of two methods must differ by this to differ significantly.
        groups: methods that are not told apart, from the first to the last position of each
            group; none lies in another.
        sources: how many there are.
    """

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    p: float | None
    difference: float
    groups: tuple[tuple[int, int], ...]
    sources: int


def find_critical_difference(
    methods: Sequence[str], means: ArrayLike, level: float = 0.05
) -> CriticalDifference | None:
    """Rank methods over sources; None when there are fewer than two methods or two sources.

    Args:
        methods: [M] names.
        means: [M, S] mean accuracies, without gaps.
        level: of the tests.
    """
    values = np.asarray(means, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2:
        return None
    count, sources = values.shape
    averages = stats.rankdata(-values, axis=0).mean(axis=1)
    order = np.argsort(averages, kind="stable")
    ranks = averages[order]
    # A column of ties only leaves nothing to test.
    testable = count > 2 and np.ptp(values, axis=0).any()
    p = float(stats.friedmanchisquare(*values).pvalue) if testable else None
    difference = critical_difference(count, sources, level)
    return CriticalDifference(
        methods=tuple(methods[i] for i in order),
        ranks=tuple(float(rank) for rank in ranks),
        p=p,
        difference=difference,
        groups=_groups(ranks.tolist(), difference),
        sources=sources,
    )


def critical_difference(methods: int, sources: int, level: float = 0.05) -> float:
    """Nemenyi's critical difference, q·√(k(k+1)/(6N)) with q the studentized range over √2.

    Args:
        methods: k.
        sources: N.
        level: of the test.
    """
    q = stats.studentized_range.ppf(1 - level, methods, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(methods * (methods + 1) / (6 * sources)))


def _groups(ranks: Sequence[float], difference: float) -> tuple[tuple[int, int], ...]:
    groups: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(i for i in range(first, len(ranks)) if ranks[i] - ranks[first] < difference)
        if last > first and not (groups and last <= groups[-1][1]):
            groups.append((first, last))
    return tuple(groups)
