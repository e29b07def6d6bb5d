"""Results are rows first: one row per episode is stored, every table is computed from rows."""

from pathlib import Path
from typing import TYPE_CHECKING

from fewshot.results.aggregate import Cell, Table, build_table, mean_and_interval, rank_table, ranks
from fewshot.results.provenance import collect
from fewshot.results.rows import ClassCount, EpisodeRow
from fewshot.results.store import Beginning, RowStore, Run
from fewshot.results.tables import render_console, table_notes, write_tables

if TYPE_CHECKING:
    from fewshot.results.frames import Frames

__all__ = [
    "Beginning",
    "Cell",
    "ClassCount",
    "EpisodeRow",
    "RowStore",
    "Run",
    "Table",
    "build_table",
    "collect",
    "load",
    "mean_and_interval",
    "rank_table",
    "ranks",
    "render_console",
    "table_notes",
    "write_tables",
]


def load(*places: str | Path) -> "Frames":
    """The results in folders or files, as pandas frames; see `frames.Frames`.

    Args:
        places: results folders, run folders or results files.

    Raises:
        InputError: there is no such place.
    """
    from fewshot.results import frames  # pandas, which an evaluation does not need

    return frames.load(*places)
