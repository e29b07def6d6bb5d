"""Means, intervals and ranks against hand-worked cases and the published leaderboard."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.results.aggregate import (
    Cell,
    build_table,
    mean_and_interval,
    rank_table,
    ranks,
)

PUBLISHED = Path(__file__).with_name("published_ranks.txt")

fractions = st.floats(0, 1)
cells = st.builds(Cell, fractions, st.floats(0, 0.1), st.just(600))


def make(mean: float, ci: float | None = 0.01) -> Cell:
    return Cell(mean, ci, 600)


def test_mean_and_interval_by_hand() -> None:
    # std (ddof 0) of 0.2, 0.4, 0.6, 0.8 is sqrt(0.05); 1.96 * sqrt(0.05) / 2 = 0.219134...
    mean, ci = mean_and_interval([0.2, 0.4, 0.6, 0.8])
    assert mean == 0.5
    assert ci == pytest.approx(0.98 * math.sqrt(0.05), rel=1e-14)
    assert mean_and_interval([0.25] * 3) == (0.25, 0.0)


def test_one_episode_has_no_interval_and_none_has_no_mean() -> None:
    assert mean_and_interval([0.75]) == (0.75, None)
    assert mean_and_interval([]) == (None, None)


def test_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_and_interval([0.5, math.nan])


@given(st.lists(fractions, min_size=2, max_size=50))
def test_the_interval_shrinks_with_the_root_of_the_episodes(values: list[float]) -> None:
    (mean, ci), (mean4, ci4) = mean_and_interval(values), mean_and_interval(values * 4)
    assert mean is not None and ci is not None
    assert mean4 == pytest.approx(mean, abs=1e-12)
    assert ci4 == pytest.approx(ci / 2, abs=1e-12)


def test_ranks_tie_with_the_best_left_and_not_in_a_chain() -> None:
    # Differences of 0.012 tie (sqrt 2 * 0.01 = 0.0141), of 0.024 do not: the third is not
    # the first's equal although it is the second's; it opens the next group, with the fourth.
    column = [make(0.500), make(0.488), make(0.476), make(0.465), make(0.300)]
    assert ranks(column) == (1.5, 1.5, 3.5, 3.5, 5.0)


def test_ranks_may_tie_cells_that_differ_from_each_other() -> None:
    # Both are within the wide interval of the best, so all three tie.
    assert ranks([make(0.50, 0.05), make(0.49, 0.001), make(0.46, 0.001)]) == (2.0, 2.0, 2.0)


def test_a_difference_equal_to_its_interval_still_ties() -> None:
    # In binary fractions, so exactly: 0.75 - 0.125 = 0.625 = sqrt(0.375² + 0.5²).
    assert ranks([make(0.75, 0.375), make(0.125, 0.5)]) == (1.5, 1.5)
    assert ranks([make(0.75, 0.375), make(0.124, 0.5)]) == (1.0, 2.0)


def test_cells_without_result_or_interval_get_no_rank() -> None:
    assert ranks([None, make(0.2), make(0.9, None), make(0.4)]) == (None, 2.0, None, 1.0)
    assert ranks([]) == ()


@given(st.lists(cells, max_size=12))
def test_ranks_share_out_the_places(column: list[Cell]) -> None:
    found = [rank for rank in ranks(column) if rank is not None]
    assert sum(found) == len(column) * (len(column) + 1) / 2
    if column:
        assert found[max(range(len(column)), key=lambda i: column[i].mean)] == min(found)


@given(st.lists(fractions, max_size=12), st.floats(0, 0.1))
def test_of_equal_intervals_the_higher_mean_never_ranks_lower(
    means: list[float], ci: float
) -> None:
    # Of unequal ones it may: a poor head with a wide interval ties where a better one does not.
    pairs = sorted(zip(means, ranks([make(mean, ci) for mean in means]), strict=True))
    found = [rank for _, rank in pairs]
    assert found == sorted(found, reverse=True)


@given(st.lists(cells, max_size=10, unique_by=lambda cell: cell.mean), st.randoms())
def test_ranks_do_not_depend_on_the_order(column: list[Cell], random: object) -> None:
    order = list(range(len(column)))
    random.shuffle(order)  # type: ignore[attr-defined]
    found = ranks(column)
    assert ranks([column[i] for i in order]) == tuple(found[i] for i in order)


def test_the_published_leaderboard_is_reproduced() -> None:
    lines = [line.split("; ") for line in PUBLISHED.read_text("utf-8").splitlines()]
    lines = [line for line in lines if not line[0].startswith("#")]
    numbers = [
        [tuple(map(float, re.findall(r"[\d.]+", cell))) for cell in line[2:]] for line in lines
    ]
    methods = [line[0] for line in lines]
    grid = [[Cell(mean / 100, ci / 100, 600) for mean, ci, _ in row] for row in numbers]
    table = rank_table(methods, [str(s) for s in range(10)], grid)
    assert [list(row) for row in table.ranks] == [[rank for *_, rank in row] for row in numbers]
    assert table.average_ranks == pytest.approx([float(line[1]) for line in lines], abs=1e-12)
    best = {method for method, top in zip(methods, table.best_average, strict=True) if top}
    assert best == {"TSA_resnet34"}
    bold = {s for s, top in enumerate(table.best[methods.index("CTX")]) if top}
    assert bold == {0, 1, 2, 5, 6, 7, 8}  # the README's bold cells of CTX


def test_a_table_by_hand() -> None:
    rows = {
        ("a", "x"): [0.8, 0.8, 0.6, 0.6],
        ("a", "y"): [0.5, 0.5],
        ("b", "x"): [0.7, 0.7],
        ("b", "y"): [0.1, 0.3],
    }
    table = build_table(rows, ["b", "a"], ["x", "y"])
    assert table.cells[1][0] == Cell(pytest.approx(0.7), pytest.approx(0.098), 4)
    assert table.ranks == ((1.5, 2.0), (1.5, 1.0))
    assert table.average_ranks == (1.75, 1.25)
    assert table.best == ((True, False), (True, True))
    assert table.best_average == (False, True)
    assert table.means[1] == Cell(pytest.approx(0.6), pytest.approx(0.049), 6)


def test_an_incomplete_head_is_shown_and_not_ranked() -> None:
    grid = [[make(0.9), None], [make(0.5), make(0.5)], [make(0.3), make(0.3)]]
    table = rank_table(["partial", "good", "poor"], ["x", "y"], grid)
    assert table.cells[0] == (make(0.9), None)
    assert table.ranks == ((None, None), (1.0, 1.0), (2.0, 2.0))
    assert table.average_ranks == (None, 1.0, 2.0)
    assert table.means[0] is None
    assert table.best == ((False, False), (True, True), (False, False))


def test_a_single_episode_is_shown_and_not_ranked() -> None:
    table = build_table({("a", "x"): [0.5], ("b", "x"): [0.2, 0.3]}, ["a", "b"], ["x"])
    assert table.cells[0][0] == Cell(0.5, None, 1)
    assert table.means[0] == Cell(0.5, None, 1)
    assert table.average_ranks == (None, 1.0)
    assert table.best == ((False,), (False,))  # nobody to be better than


def test_a_source_that_nobody_has_counts_for_nobody() -> None:
    grid = [[make(0.9), None], [make(0.5), None]]
    table = rank_table(["a", "b"], ["x", "y"], grid)
    assert table.average_ranks == (1.0, 2.0)
    assert table.means[0] == make(0.9)


def test_an_empty_table_is_a_table() -> None:
    table = build_table({}, ["a"], ["x"])
    assert (table.cells, table.means, table.average_ranks) == (((None,),), (None,), (None,))


@given(
    st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=5),
    st.lists(st.one_of(st.none(), cells), min_size=3, max_size=3).filter(lambda row: None in row),
)
def test_an_incomplete_head_never_moves_the_others(
    grid: list[list[Cell]], partial: list[Cell | None]
) -> None:
    heads = [str(h) for h in range(len(grid))]
    alone = rank_table(heads, "xyz", grid)
    beside = rank_table([*heads, "partial"], "xyz", [*grid, partial])
    assert beside.means[:-1] == alone.means
    assert beside.ranks[:-1] == alone.ranks
    assert beside.average_ranks == (*alone.average_ranks, None)


def test_many_rows_are_summed_without_loss() -> None:
    values = np.full(1_000_000, 0.1)
    assert mean_and_interval(values)[0] == pytest.approx(0.1, abs=1e-15)


def test_who_stands_apart_moves_nobodys_rank():
    accuracies = {
        ("a", "dtd"): [0.5, 0.52], ("b", "dtd"): [0.1, 0.12], ("c", "dtd"): [0.9, 0.92],
    }  # fmt: skip
    table = build_table(accuracies, ["a", "b", "c"], ["dtd"], apart=["c"])
    assert table.ranks == ((1.0,), (2.0,), (None,)) and table.average_ranks[2] is None
    assert table.best == ((True,), (False,), (False,))
    assert table.means[2].mean == pytest.approx(0.91)
