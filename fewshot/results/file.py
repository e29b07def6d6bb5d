"""A results file: opened with care, changed in durable transactions, its faults in plain words."""

import contextlib
import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from episodes.faults import InputError
from fewshot.results.format import APPLICATION_ID, FORMAT, bring_forward, create_tables

ROWS_FILE = "rows.sqlite"
"""Name of a results file."""

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


class ResultsFile:
    """An open results file; `RowStore` says what is in it.

    Args:
        path: the file, made with its folder when absent.
        timeout_seconds: how long to wait for another process that writes.
        read_only: read it as it is, wherever it lies; nothing is made, changed or locked.

    Raises:
        InputError: the file cannot be opened, written or understood; it is left as it is.
    """

    def __init__(
        self, path: str | Path, timeout_seconds: float = 60.0, read_only: bool = False
    ) -> None:
        self.path = Path(path)
        if read_only and not self.path.is_file():
            raise InputError("there is no such results file.", self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"the folder cannot be made ({error.strerror})."
            raise InputError(what, self.path.parent, "Choose another --output.") from error
        with self._plain_faults():
            self._db = self._open_copy() if read_only else self._open(timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; the store cannot be used afterwards."""
        self._db.close()

    def fetch(self, query: str, *values: str | int) -> list[tuple[Any, ...]]:
        """The rows of a SELECT over the tables that `format.py` describes."""
        with self._plain_faults():
            return self._db.execute(query, values).fetchall()

    def _open(self, timeout_seconds: float) -> sqlite3.Connection:
        # No implicit transactions: each one below is written out.
        self._db = sqlite3.connect(self.path, timeout_seconds, isolation_level=None)
        try:
            self._set_journal(timeout_seconds)
            self._set_format()
        except BaseException:
            self._db.close()
            raise
        return self._db

    def _open_copy(self) -> sqlite3.Connection:
        """The file as it is now, copied to memory: it may be read-only, or of an older format."""
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        try:
            try:
                self._copy_from(self.path)
            except sqlite3.OperationalError:
                # Beside a file in a read-only folder SQLite cannot make what it reads the
                # write-ahead log with; it can beside a copy of both.
                with tempfile.TemporaryDirectory() as folder:
                    for path in self.path.parent.glob(self.path.name + "*"):
                        if not path.name.endswith("-shm"):
                            shutil.copy(path, folder)
                    self._copy_from(Path(folder) / self.path.name)
            self._set_format()
        except BaseException:
            self._db.close()
            raise
        return self._db

    def _copy_from(self, path: Path) -> None:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as source:
            source.backup(self._db)

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
                code = primary_code(error)
                if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL):
                    self._db.execute("PRAGMA journal_mode = DELETE")
                    break
                if code != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self._db.execute("PRAGMA synchronous = FULL")

    def _set_format(self) -> None:
        with self._transaction():
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables == 0:
                create_tables(self._db)
                return
            if self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                what, remedy = FAULTS[sqlite3.SQLITE_NOTADB]
                raise InputError(what, self.path, remedy)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version in range(1, FORMAT):
                bring_forward(self._db, version)
            elif version != FORMAT:
                raise InputError(
                    f"the results file has format {version}, this program knows 1 to {FORMAT}.",
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
            what, remedy = FAULTS.get(primary_code(error), FAULTS[sqlite3.SQLITE_CORRUPT])
            raise InputError(f"{what[:-1]} ({error}).", self.path, remedy) from error


def primary_code(error: Exception) -> int:
    """SQLite's result code without the detail in its upper bytes; 0 for errors of Python's own."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
