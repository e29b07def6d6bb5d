"""One row per episode, in one durable file per run; rows are only ever added."""

import contextlib
import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.faults import InputError

APPLICATION_ID = 0x4D445253  # "MDRS" in the file's header: tells our files from other SQLite files
SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE run (id INTEGER PRIMARY KEY CHECK (id = 1), settings TEXT NOT NULL);
CREATE TABLE provenance (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE episodes (
    head TEXT NOT NULL, source TEXT NOT NULL, split TEXT NOT NULL, seed INTEGER NOT NULL,
    "index" INTEGER NOT NULL, accuracy REAL NOT NULL, way INTEGER NOT NULL,
    support_size INTEGER NOT NULL, query_count INTEGER NOT NULL, correct INTEGER NOT NULL,
    plan_hash TEXT NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (head, source, split, seed, "index")
) WITHOUT ROWID;
"""

AGAIN = "Then run the same command again: it goes on where it stopped."
FAULTS = {
    sqlite3.SQLITE_FULL: ("the disk is full.", f"Free some space. {AGAIN}"),
    sqlite3.SQLITE_READONLY: ("the results cannot be written here.", "Choose another --output."),
    sqlite3.SQLITE_PERM: ("the results cannot be written here.", "Choose another --output."),
    sqlite3.SQLITE_CANTOPEN: (
        "the results file cannot be opened.",
        "Check that its folder exists and may be written, or choose another --output.",
    ),
    sqlite3.SQLITE_NOTADB: ("this is not a results file.", "Choose another --output."),
    sqlite3.SQLITE_CORRUPT: (
        "the results file is damaged.",
        "Restore it from a copy, or choose another --output.",
    ),
    sqlite3.SQLITE_BUSY: (
        "another process holds the results file.",
        f"Wait until it has ended. {AGAIN}",
    ),
    sqlite3.SQLITE_IOERR: (
        "the file system refused to read or write the results.",
        f"Check the disk for space, quota and faults. {AGAIN}",
    ),
}


@dataclass(frozen=True)
class EpisodeRow:
    """What one head did in one episode.

    Attributes:
        head: the head's label in the table.
        source: official name of the source, e.g. "cu_birds".
        split: "train", "valid" or "test".
        seed: seed of the episodes.
        index: the episode's number under that seed, 0 or more.
        accuracy: fraction of the query images predicted right.
        way: number of classes.
        support_size: support images of all classes together.
        query_count: query images of all classes together.
        correct: query images predicted right.
        plan_hash: hash of the episode's plan; rows of equal hash saw the same images.
        seconds: wall-clock time of the episode.

    Raises:
        ValueError: the accuracy is not a fraction, or not `correct` out of `query_count`.
    """

    head: str
    source: str
    split: str
    seed: int
    index: int
    accuracy: float
    way: int
    support_size: int
    query_count: int
    correct: int
    plan_hash: str
    seconds: float

    def __post_init__(self) -> None:
        expected = self.correct / self.query_count if self.query_count else math.nan
        # The tolerance admits an accuracy computed in single precision, and no NaN.
        if not (0 <= self.accuracy <= 1 and abs(self.accuracy - expected) < 1e-6):
            raise ValueError(
                f"{self.name}: accuracy {self.accuracy} with {self.correct} of "
                f"{self.query_count} query images right"
            )

    @property
    def name(self) -> str:
        """The row's key, as messages call it."""
        return f"{self.head} on {self.source} ({self.split}, seed {self.seed}, #{self.index})"


COLUMNS = tuple(f'"{field.name}"' for field in fields(EpisodeRow))
KEY = COLUMNS[:5]
INSERT = (
    f"INSERT INTO episodes ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT DO NOTHING"
)
PLAN_OF = f"SELECT plan_hash FROM episodes WHERE ({', '.join(KEY)}) = (?, ?, ?, ?, ?)"


class RowStore:
    """The rows of one run and its provenance, in one SQLite file.

    Every `add` is one durable transaction: a process killed at any moment loses at most the
    batch it was adding. Several processes may write at once; a writer waits for the others.

    Args:
        path: the file, made with its folder when absent.
        timeout_seconds: how long to wait for another process that writes.

    Raises:
        InputError: the file cannot be opened, written or understood; it is left as it is.
    """

    def __init__(self, path: str | Path, timeout_seconds: float = 60.0) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"the folder cannot be made ({error.strerror})."
            raise InputError(what, self.path.parent, "Choose another --output.") from error
        with self._plain_faults():
            # No implicit transactions: each one below is written out.
            self._db = sqlite3.connect(self.path, timeout_seconds, isolation_level=None)
            try:
                self._set_journal(timeout_seconds)
                self._set_schema()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> "RowStore":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; the store cannot be used afterwards."""
        self._db.close()

    def set_run(
        self, settings: Mapping[str, Any], provenance: Mapping[str, Any] | None = None
    ) -> None:
        """Say which run the rows belong to; the first call decides, later ones must agree.

        Args:
            settings: everything that decides a row's numbers (protocol, image rule, backbone,
                checkpoint, head settings …), JSON values, nested as you like. What only decides
                which rows there are (heads, sources, number of episodes) stays out, so that a run
                can grow.
            provenance: where and how this call was made; kept beside those of earlier calls.

        Raises:
            InputError: the file holds rows of other settings; lists each that differs.
        """
        wanted = _as_json(settings)
        with self._transaction():
            found = self.settings()
            if found is None:
                self._db.execute("INSERT INTO run VALUES (1, ?)", [json.dumps(wanted)])
            elif differences := _differences(found, wanted):
                raise InputError(
                    f"these are the results of another run: {'; '.join(differences)}.",
                    self.path,
                    "Choose another --output, or go back to the settings of this run.",
                )
            if provenance is not None:
                record = json.dumps(_as_json(provenance))
                self._db.execute("INSERT INTO provenance (record) VALUES (?)", [record])

    def settings(self) -> dict[str, Any] | None:
        """The settings given by `set_run`; None before."""
        with self._plain_faults():
            found = self._db.execute("SELECT settings FROM run").fetchone()
            return None if found is None else json.loads(found[0])

    def provenance(self) -> list[dict[str, Any]]:
        """One record per call of `set_run` that gave one, oldest first."""
        with self._plain_faults():
            records = self._db.execute("SELECT record FROM provenance ORDER BY id").fetchall()
            return [json.loads(record) for (record,) in records]

    def add(self, rows: Sequence[EpisodeRow]) -> None:
        """Store rows, all or none of them; on return they are on the disk.

        A row that is there already stays as it was first written.

        Raises:
            InputError: a row is there with another plan, or the file cannot be written. None of
                `rows` is added, everything stored before stays.
        """
        with self._transaction():
            before = self._db.total_changes
            self._db.executemany(INSERT, map(astuple, rows))
            if self._db.total_changes - before < len(rows):
                for row in rows:
                    self._check_same_plan(row)

    def done(self, head: str, source: str, split: str, seed: int) -> set[int]:
        """The indices of the episodes that have a row."""
        found = self._select('"index"', head=head, source=source, split=split, seed=seed)
        return {index for (index,) in found}

    def rows(
        self,
        head: str | None = None,
        source: str | None = None,
        split: str | None = None,
        seed: int | None = None,
    ) -> list[EpisodeRow]:
        """The rows of one head, source, split or seed (None: of all), in the order of these.

        Raises:
            InputError: the file is damaged.
        """
        chosen = self._select(", ".join(COLUMNS), head=head, source=source, split=split, seed=seed)
        try:
            return [EpisodeRow(*values) for values in chosen]
        except (TypeError, ValueError) as error:
            what, remedy = FAULTS[sqlite3.SQLITE_CORRUPT]
            raise InputError(f"{what} {error}.", self.path, remedy) from error

    def accuracies(
        self, split: str, seed: int, episodes: int | None = None
    ) -> dict[tuple[str, str], NDArray[np.float64]]:
        """Accuracies by (head, source), each ordered by episode index.

        Args:
            split, seed: of the episodes.
            episodes: only the first so many; None takes all there are.
        """
        found = [
            values
            for *values, index in self._select(
                'head, source, accuracy, "index"', split=split, seed=seed
            )
            if episodes is None or index < episodes
        ]
        return {
            key: np.array([accuracy for *_, accuracy in group], dtype=np.float64)
            for key, group in groupby(found, key=lambda values: (values[0], values[1]))
        }

    def _select(self, columns: str, **filters: str | int | None) -> list[tuple[Any, ...]]:
        wanted = {column: value for column, value in filters.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in wanted) or "TRUE"
        query = f"SELECT {columns} FROM episodes WHERE {where} ORDER BY {', '.join(KEY)}"
        with self._plain_faults():
            return self._db.execute(query, tuple(wanted.values())).fetchall()

    def _check_same_plan(self, row: EpisodeRow) -> None:
        (stored,) = self._db.execute(PLAN_OF, astuple(row)[: len(KEY)]).fetchone()
        if stored != row.plan_hash:
            raise InputError(
                f"{row.name} is stored with plan {stored[:12]} and now has plan "
                f"{row.plan_hash[:12]}: the two did not see the same images.",
                self.path,
                "Choose another --output.",
            )

    def _set_journal(self, timeout_seconds: float) -> None:
        """Write ahead where the file system can, so that readers and writers do not block.

        SQLite does not wait by itself when two processes switch the journal at the same time.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                code = _primary_code(error)
                if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL):
                    self._db.execute("PRAGMA journal_mode = DELETE")
                    break
                if code != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self._db.execute("PRAGMA synchronous = FULL")

    def _set_schema(self) -> None:
        with self._transaction():
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables == 0:
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                return
            if self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                what, remedy = FAULTS[sqlite3.SQLITE_NOTADB]
                raise InputError(what, self.path, remedy)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise InputError(
                    f"the results file has format {version}, this program knows {SCHEMA_VERSION}.",
                    self.path,
                    "Use the program's version that wrote it, or choose another --output.",
                )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._plain_faults():
            # Immediate: take the write lock at once, while waiting for it is still possible.
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _plain_faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError, json.JSONDecodeError) as error:
            # What SQLite has no code for (text that is no text, a column that is gone) is damage.
            code = _primary_code(error)
            what, remedy = FAULTS.get(code, FAULTS[sqlite3.SQLITE_CORRUPT])
            raise InputError(f"{what[:-1]} ({error}).", self.path, remedy) from error


def _primary_code(error: Exception) -> int:
    """SQLite's result code without the detail in its upper bytes; 0 for errors of Python's own."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _as_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it comes back from the file: tuples are lists, paths are strings."""
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return plain


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as {"outer.inner": text}."""
    flat: dict[str, str] = {}
    for name, value in record.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return flat


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    flat_old, flat_new = _flat(old), _flat(new)
    names = list(flat_old) + [name for name in flat_new if name not in flat_old]
    pairs = [(name, flat_old.get(name, "not set"), flat_new.get(name, "not set")) for name in names]
    return [f"{name}: {before} -> {now}" for name, before, now in pairs if before != now]
