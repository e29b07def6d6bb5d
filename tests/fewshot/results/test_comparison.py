"""Paired comparisons against scipy, statsmodels and hand-worked cases."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from episodes.faults import InputError
from fewshot.results.comparison import (
    compare,
    compare_pair,
    episodes_needed,
    holm,
    mean_over_sources,
    pair,
)
from fewshot.results.frames import load

NAMES = ("a", "b")


def test_a_case_by_hand() -> None:
    found = compare([0.5, 0.7, 0.6, 0.2], [0.4, 0.4, 0.6, 0.4], NAMES, "dtd")
    # Differences 0.1, 0.3, 0, -0.2: mean 0.05, variance (ddof 0) 0.0325.
    assert found.difference == pytest.approx(0.05)
    assert found.ci == pytest.approx(1.96 * math.sqrt(0.0325) / 2)
    assert found.superiority == 0.625
    assert (found.episodes, found.source, found.holm) == (4, "dtd", None)


def test_tests_are_scipys() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.uniform(0, 1, 80), draw.uniform(0, 1, 80)
    found = compare(a, b, NAMES, "dtd")
    assert found.t == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(a, b).pvalue, rel=1e-9)


def test_pairing_sees_what_two_intervals_do_not() -> None:
    draw = np.random.default_rng(0)
    hardness = draw.uniform(0, 0.8, 600)
    a, b = hardness + 0.02 + draw.normal(0, 0.05, 600), hardness + draw.normal(0, 0.05, 600)
    found = compare(a, b, NAMES, "dtd")
    apart = 1.96 * math.hypot(a.std(), b.std()) / math.sqrt(600)
    assert abs(found.difference) < apart
    assert found.ci is not None and found.t is not None
    assert found.difference > found.ci and found.t < 1e-6


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.25, 0.0)])
def test_differences_without_spread(shift: float, p: float) -> None:
    found = compare(np.array([0.1, 0.5, 0.3]) + shift, [0.1, 0.5, 0.3], NAMES, "dtd")
    assert found.t == pytest.approx(p, abs=1e-9)
    assert found.wilcoxon == (1.0 if shift == 0 else pytest.approx(0.25))
    assert found.superiority == (0.5 if shift == 0 else 1.0)


def test_one_episode_has_a_difference_and_no_test() -> None:
    found = compare([0.5], [0.25], NAMES, "dtd")
    assert (found.difference, found.ci, found.t, found.needed) == (0.25, None, None, None)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(expected), abs=1e-12)


@pytest.mark.parametrize("deviation", [0.02, 0.05, 0.1])
def test_episodes_needed_is_the_power_of_the_t_test(deviation: float) -> None:
    exact = TTestPower().solve_power(0.005 / deviation, power=0.8, alpha=0.05)
    assert episodes_needed(deviation) == pytest.approx(exact, abs=3)
    assert episodes_needed(0.0) == 2


def test_two_methods_source_by_source(tmp_path: Path, fill) -> None:
    skills = {("a", "dtd"): 0.6, ("b", "dtd"): 0.5, ("a", "fungi"): 0.5, ("b", "omniglot"): 0.5}
    fill(tmp_path, skills, 60)
    rows = load(tmp_path).episodes
    first, second = rows[rows["head"] == "a"], rows[rows["head"] == "b"]
    (found,) = compare_pair(first, second, NAMES, ["omniglot", "dtd", "fungi"])
    mine, theirs = (
        frame[frame["source"] == "dtd"]["accuracy"].to_numpy() for frame in (first, second)
    )
    assert (found.source, found.episodes) == ("dtd", 60)
    assert found.difference == pytest.approx((mine - theirs).mean())
    assert found.holm == found.t == pytest.approx(stats.ttest_rel(mine, theirs).pvalue)


def test_a_failed_episode_is_left_out_of_both(tmp_path: Path, fill) -> None:
    fill(tmp_path, {("a", "dtd"): 0.6, ("b", "dtd"): 0.5}, 10)
    rows = load(tmp_path).episodes
    first, second = rows[rows["head"] == "a"].copy(), rows[rows["head"] == "b"]
    first.loc[first["index"] == 3, "accuracy"] = math.nan
    together = pair(first, second, NAMES)
    assert sorted(together["index"]) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_other_images_are_refused_and_named(tmp_path: Path, fill) -> None:
    fill(tmp_path / "a", {("a", "dtd"): 0.6}, 5)
    fill(tmp_path / "b", {("b", "dtd"): 0.6}, 5, plans="other")
    fill(tmp_path / "c", {("c", "dtd"): 0.6}, 5, seed=1)
    a, b, c = (load(tmp_path / name).episodes for name in "abc")
    with pytest.raises(InputError, match=r"a and b: .*5 of 5 .*plan plan-dtd-0-0 in one and other"):
        pair(a, b, NAMES)
    with pytest.raises(InputError, match=r"no episode is shared; a has dtd.*seeds 0.*seeds 1"):
        pair(a, c, NAMES)


def test_the_mean_of_sources_adds_variances() -> None:
    rows = [
        compare([0.5, 0.7], [0.5, 0.5], NAMES, "x"),
        compare([0.9, 0.1], [0.5, 0.5], NAMES, "y"),
    ]
    mean, ci = mean_over_sources(rows)
    assert mean == pytest.approx(0.05)
    widths = (rows[0].ci, rows[1].ci)
    assert ci == pytest.approx(math.hypot(*widths) / 2)  # type: ignore[arg-type]
    assert mean_over_sources([compare([0.5], [0.2], NAMES, "x")])[1] is None
