"""Friedman and Nemenyi against Demšar's paper."""

import numpy as np
import pytest
from scipy import stats

from fewshot.results.critical import critical_difference, find_critical_difference

# Demšar 2006, table 5a: q of the Nemenyi test at 0.05 by number of methods.
Q = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}


@pytest.mark.parametrize(("methods", "q"), Q.items())
def test_the_critical_values_are_the_papers(methods: int, q: float) -> None:
    # With N = k(k + 1)/6 sources the difference is q itself; take a hundred times as many.
    scale = (methods * (methods + 1) / (6 * 100)) ** 0.5
    assert critical_difference(methods, 100) == pytest.approx(q * scale, abs=0.001 * scale)


def test_the_papers_example() -> None:
    # Section 3.2.3: four methods, fourteen sources: 1.25 at 0.05.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_ranks_and_friedman() -> None:
    means = np.random.default_rng(0).uniform(0, 1, (4, 10)) + np.arange(4)[:, None] / 3
    found = find_critical_difference("abcd", means)
    assert found is not None
    ranks = stats.rankdata(-means, axis=0).mean(axis=1)
    assert dict(zip(found.methods, found.ranks, strict=True)) == pytest.approx(
        dict(zip("abcd", ranks, strict=True))
    )
    assert found.p == pytest.approx(stats.friedmanchisquare(*means).pvalue)
    assert list(found.ranks) == sorted(found.ranks)


def test_groups_are_maximal_and_only_of_what_is_not_told_apart() -> None:
    # Four methods, always in the same order: ranks 1, 2, 3, 4; the difference of ten sources is
    # 2.569 · √(20/60) = 1.483: neighbours are not told apart, others are.
    means = np.repeat([[0.9], [0.8], [0.7], [0.6]], 10, axis=1)
    found = find_critical_difference("abcd", means)
    assert found is not None and found.ranks == (1, 2, 3, 4)
    assert found.groups == ((0, 1), (1, 2), (2, 3))
    few = find_critical_difference("abcd", means[:, :2])  # 3.3 of two sources: nothing is
    assert few is not None and few.groups == ((0, 3),)


def test_ties_share_ranks_and_too_little_is_nothing() -> None:
    found = find_critical_difference("ab", [[0.5, 0.6], [0.5, 0.4]])
    assert found is not None and found.ranks == (1.25, 1.75) and found.p is None
    assert find_critical_difference("a", [[0.5, 0.6]]) is None
    assert find_critical_difference("ab", [[0.5], [0.6]]) is None
    equal = find_critical_difference("abc", [[0.5, 0.5]] * 3)
    assert equal is not None and equal.p is None and equal.groups == ((0, 2),)
