"""The format of a results file: its tables, its version, and how older formats are read."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fewshot.results.rows import ClassCount

APPLICATION_ID = 0x4D445253  # "MDRS" in the file's header: tells our files from other SQLite files
FORMAT = 3

# A plan is kept once, whatever the number of heads and runs that saw it; a row is then small.
TABLES = """
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, settings TEXT NOT NULL,
    ingredients TEXT NOT NULL
);
CREATE TABLE calls (
    number INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs, record TEXT NOT NULL
);
CREATE TABLE heads (number INTEGER PRIMARY KEY, label TEXT NOT NULL UNIQUE);
CREATE TABLE plans (
    number INTEGER PRIMARY KEY, source TEXT NOT NULL, split TEXT NOT NULL, seed INTEGER NOT NULL,
    "index" INTEGER NOT NULL, hash TEXT NOT NULL, way INTEGER NOT NULL,
    support_size INTEGER NOT NULL, query_count INTEGER NOT NULL, classes BLOB,
    UNIQUE (source, split, seed, "index", hash)
);
CREATE TABLE episodes (
    run INTEGER NOT NULL REFERENCES runs, head INTEGER NOT NULL REFERENCES heads,
    plan INTEGER NOT NULL REFERENCES plans, accuracy REAL, correct INTEGER NOT NULL,
    class_correct BLOB, seconds REAL NOT NULL, status TEXT NOT NULL,
    PRIMARY KEY (run, head, plan)
) WITHOUT ROWID;
"""
# Few rows have details: the first of each source, and those of heads that tell of themselves.
DETAILS = """
CREATE TABLE details (
    run INTEGER NOT NULL REFERENCES runs, head INTEGER NOT NULL REFERENCES heads,
    plan INTEGER NOT NULL REFERENCES plans, guesses BLOB, told TEXT NOT NULL,
    PRIMARY KEY (run, head, plan)
) WITHOUT ROWID;
"""

FROM_1 = """
ALTER TABLE episodes RENAME TO episodes_1;
ALTER TABLE run RENAME TO run_1;
{tables}
INSERT INTO runs SELECT 1, 'first', coalesce((SELECT settings FROM run_1), '{{}}'), '{{}}'
    WHERE EXISTS (SELECT * FROM run_1) OR EXISTS (SELECT * FROM episodes_1);
INSERT INTO calls SELECT id, 1, record FROM provenance;
INSERT INTO heads (label) SELECT DISTINCT head FROM episodes_1 ORDER BY head;
INSERT INTO plans (source, split, seed, "index", hash, way, support_size, query_count)
    SELECT source, split, seed, "index", plan_hash, max(way), max(support_size), max(query_count)
    FROM episodes_1 GROUP BY source, split, seed, "index", plan_hash;
INSERT INTO episodes
    SELECT 1, heads.number, plans.number, accuracy, correct, NULL, seconds, 'ok'
    FROM episodes_1 JOIN heads ON heads.label = episodes_1.head JOIN plans
        ON plans.source = episodes_1.source AND plans.split = episodes_1.split
        AND plans.seed = episodes_1.seed AND plans."index" = episodes_1."index"
        AND plans.hash = episodes_1.plan_hash;
DROP TABLE episodes_1;
DROP TABLE run_1;
DROP TABLE provenance;
"""


def create_tables(database: sqlite3.Connection) -> None:
    """Make an empty file a results file; inside the caller's transaction."""
    _run_statements(database, TABLES + DETAILS)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {FORMAT}")


def bring_forward(database: sqlite3.Connection, version: int) -> None:
    """Turn a file of format 1 or 2 into one of this format; inside the caller's transaction.

    Format 1 held one run per file, and kept what its rows were made of with each call. Format 2
    had no details.
    """
    if version == 1:
        _split_runs(database)
    _run_statements(database, DETAILS)
    database.execute(f"PRAGMA user_version = {FORMAT}")


def _split_runs(database: sqlite3.Connection) -> None:
    _run_statements(database, FROM_1.format(tables=TABLES))
    made_of: dict[str, str] = {}
    for (record,) in database.execute("SELECT record FROM calls ORDER BY number").fetchall():
        made_of |= json.loads(record).get("ingredients", {})
    for (settings,) in database.execute("SELECT settings FROM runs").fetchall():
        name = run_id(json.loads(settings), made_of)
        database.execute("UPDATE runs SET id = ?, ingredients = ?", [name, json.dumps(made_of)])


def run_id(settings: Mapping[str, Any], ingredients: Mapping[str, str]) -> str:
    """Eight hexadecimal digits of what a run was begun with: the same on any machine."""
    canonical = json.dumps([settings, ingredients], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def pack_plan_classes(classes: tuple[ClassCount, ...]) -> bytes | None:
    """What the plan says of each class, [way, 3] little-endian 32-bit: class id, shot, queries."""
    if not classes:
        return None
    return np.array([c[:3] for c in classes], dtype="<i4").tobytes()


def pack_class_correct(classes: tuple[ClassCount, ...]) -> bytes | None:
    """What the head got right of each class, [way] little-endian 16-bit."""
    if not classes:
        return None
    return np.array([c.correct for c in classes], dtype="<u2").tobytes()


def pack_guesses(guesses: Sequence[int]) -> bytes | None:
    """The label guessed of each query, [query_count] little-endian 16-bit."""
    return np.array(guesses, dtype="<u2").tobytes() if guesses else None


def unpack_guesses(guesses: bytes | None) -> tuple[int, ...]:
    """The labels again; none where they were not kept."""
    return () if guesses is None else tuple(np.frombuffer(guesses, dtype="<u2").tolist())


def unpack_classes(plan: bytes | None, correct: bytes | None) -> tuple[ClassCount, ...]:
    """The classes of a row from its two packed parts.

    Raises:
        ValueError: the parts do not fit together.
    """
    if plan is None or correct is None:
        return ()
    table = np.frombuffer(plan, dtype="<i4").reshape(-1, 3).tolist()
    right = np.frombuffer(correct, dtype="<u2").tolist()
    return tuple(
        ClassCount(class_id, shot, queries, n)
        for (class_id, shot, queries), n in zip(table, right, strict=True)
    )


def _run_statements(database: sqlite3.Connection, text: str) -> None:
    for statement in text.split(";"):
        database.execute(statement)
