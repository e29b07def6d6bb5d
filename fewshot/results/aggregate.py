"""From one accuracy per episode to the table: means, intervals, ranks.

Source: Meta-Dataset (Triantafillou et al., ICLR 2020), section 4, for mean and interval; the
leaderboard notebook of google-research/meta-dataset for the ranks.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

NORMAL_975 = 1.96  # the field's rounding of the normal's 97.5 % quantile


@dataclass(frozen=True)
class Cell:
    """A head's result on one source.

    Attributes:
        mean: mean accuracy, a fraction.
        ci: half-width of its 95 % interval, a fraction; None when one episode is all there is.
        episodes: number of episodes behind it.
        failed: number of episodes that gave no accuracy and are not in it.
        missing: number of episodes that were asked for and not evaluated yet.
    """

    mean: float
    ci: float | None
    episodes: int
    failed: int = 0
    missing: int = 0


@dataclass(frozen=True)
class Table:
    """Heads by sources, with ranks.

    A head that misses a source that another head has (or episodes of it, or has a single one, or
    failed in one) is incomplete: its cells are shown, but it has no ranks, and the ranks of the
    others are as if it were not there. A source of which no head has anything counts for nobody.

    Attributes:
        heads: one row each, in the order given.
        sources: one column each, in the order given.
        cells: [head][source]; None where there is no result.
        ranks: [head][source]; None where the head is not ranked.
        average_ranks: [head], mean of the head's ranks; None for an incomplete head.
        means: [head], the mean over the sources, each with the same weight, and its interval;
            None where a source is missing.
        best: [head][source], whether the head has the best rank there, tied or alone. Nothing is
            best where only one head is ranked.
        best_average: [head], whether the head has the best average rank.
    """

    heads: tuple[str, ...]
    sources: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]
    ranks: tuple[tuple[float | None, ...], ...]
    average_ranks: tuple[float | None, ...]
    means: tuple[Cell | None, ...]
    best: tuple[tuple[bool, ...], ...]
    best_average: tuple[bool, ...]


def mean_and_interval(accuracies: ArrayLike) -> tuple[float | None, float | None]:
    """Mean accuracy and the half-width of its 95 % interval, 1.96·std/√n with ddof 0.

    One episode has no spread, so its interval is missing (None) rather than zero; no episode has
    no mean either.

    Args:
        accuracies: [n] fractions, one per episode.

    Raises:
        ValueError: a value is not finite.

    Source: Meta-Dataset, the interval of its trainer and tables.
    """
    values = np.asarray(accuracies, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("an accuracy is not finite")
    if values.size == 0:
        return None, None
    if values.size == 1:
        return float(values.mean()), None
    return float(values.mean()), float(NORMAL_975 * values.std() / math.sqrt(values.size))


def ranks(column: Sequence[Cell | None]) -> tuple[float | None, ...]:
    """Ranks of the cells of one source, 1 the best; tied cells share the mean of their places.

    The best of those left ties with every one left that its interval cannot tell from it
    (|m1 - m2| > √(ci1² + ci2²) tells them apart); then the next best of the rest, and so on. So
    two cells that differ significantly may still tie, when both tie with a third that is best.

    Args:
        column: cells of one source; None or a cell without interval gets no rank.

    Source: the leaderboard notebook of google-research/meta-dataset.
    """
    ranked: list[float | None] = [None] * len(column)
    left = {i: (c.mean, c.ci) for i, c in enumerate(column) if c is not None and c.ci is not None}
    place = 1
    while left:
        best_mean, best_ci = max(left.values(), key=lambda cell: cell[0])  # the first, if equal
        tied = [
            i
            for i, (mean, ci) in left.items()
            if not best_mean - mean > math.sqrt(best_ci**2 + ci**2)
        ]
        for i in tied:
            ranked[i] = place + (len(tied) - 1) / 2
            del left[i]
        place += len(tied)
    return tuple(ranked)


def build_table(
    accuracies: Mapping[tuple[str, str], ArrayLike],
    heads: Sequence[str],
    sources: Sequence[str],
    failures: Mapping[tuple[str, str], Sequence[str]] | None = None,
    asked: Mapping[tuple[str, str], int] | None = None,
    apart: Collection[str] = (),
) -> Table:
    """The table of these accuracies.

    Args:
        accuracies: by (head, source), [n] fractions each; as `RowStore.accuracies` gives them.
        heads: the rows; one without accuracies is an empty row.
        sources: the columns.
        failures: by (head, source), one reason per failed episode; as `RowStore.failures`.
        asked: by (head, source), how many episodes there should be.
        apart: heads that are shown and ranked with no other: transductive ones.
    """

    def cell(head: str, source: str) -> Cell | None:
        values = np.asarray(accuracies.get((head, source), ()), dtype=np.float64)
        mean, ci = mean_and_interval(values)
        failed = len((failures or {}).get((head, source), ()))
        missing = max(0, (asked or {}).get((head, source), 0) - values.size - failed)
        return None if mean is None else Cell(mean, ci, values.size, failed, missing)

    cells = [[cell(head, source) for source in sources] for head in heads]
    return rank_table(heads, sources, cells, [head not in apart for head in heads])


def rank_table(
    heads: Sequence[str],
    sources: Sequence[str],
    cells: Sequence[Sequence[Cell | None]],
    eligible: Sequence[bool] | None = None,
) -> Table:
    """The table of these cells, with ranks and means.

    Args:
        heads: [H] rows.
        sources: [S] columns.
        cells: [H][S].
        eligible: [H] which heads may be ranked, if they are complete; None: all.
    """
    counted = [s for s in range(len(sources)) if any(row[s] is not None for row in cells)]
    complete = [
        bool(counted) and may and all(_is_whole(row[s]) for s in counted)
        for row, may in zip(cells, eligible or [True] * len(heads), strict=True)
    ]
    # Incomplete heads enter no column, so they cannot move the ranks of the others.
    columns = [
        ranks([row[s] if whole else None for row, whole in zip(cells, complete, strict=True)])
        for s in range(len(sources))
    ]
    by_head = tuple(tuple(column[h] for column in columns) for h in range(len(heads)))
    averages = tuple(_average(row) for row in by_head)
    contest = sum(complete) > 1
    tops = [min((rank for rank in column if rank is not None), default=None) for column in columns]
    top_average = min((rank for rank in averages if rank is not None), default=None)
    return Table(
        heads=tuple(heads),
        sources=tuple(sources),
        cells=tuple(tuple(row) for row in cells),
        ranks=by_head,
        average_ranks=averages,
        means=tuple(_mean_over_sources([row[s] for s in counted]) for row in cells),
        best=tuple(
            tuple(
                contest and rank is not None and rank == top
                for rank, top in zip(row, tops, strict=True)
            )
            for row in by_head
        ),
        best_average=tuple(
            contest and rank is not None and rank == top_average for rank in averages
        ),
    )


def _is_whole(cell: Cell | None) -> bool:
    return cell is not None and cell.ci is not None and not cell.failed and not cell.missing


def _average(ranks_of_head: Sequence[float | None]) -> float | None:
    present = [rank for rank in ranks_of_head if rank is not None]
    return sum(present) / len(present) if present else None


def _mean_over_sources(cells: Sequence[Cell | None]) -> Cell | None:
    """Mean of the sources' means; the sources' errors are independent, so variances add."""
    present = [cell for cell in cells if cell is not None]
    partial = any(cell.failed or cell.missing for cell in present)
    if not present or len(present) < len(cells) or partial:
        return None
    mean = math.fsum(cell.mean for cell in present) / len(present)
    widths = [cell.ci for cell in present if cell.ci is not None]
    ci = math.hypot(*widths) / len(present) if len(widths) == len(present) else None
    return Cell(mean, ci, sum(cell.episodes for cell in present))
