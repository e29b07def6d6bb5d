"""Results are rows first: one row per episode is stored, every table is computed from rows."""

from fewshot.results.aggregate import Cell, Table, build_table, mean_and_interval, rank_table, ranks
from fewshot.results.provenance import collect
from fewshot.results.rows import ClassCount, EpisodeRow
from fewshot.results.store import Beginning, RowStore, Run
from fewshot.results.tables import render_console, table_notes, write_tables

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
    "mean_and_interval",
    "rank_table",
    "ranks",
    "render_console",
    "table_notes",
    "write_tables",
]
