"""The durable store: the rows of many runs in one SQLite file; rows are only ever added."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.faults import InputError
from fewshot.results.file import FAULTS, ResultsFile
from fewshot.results.format import (
    pack_class_correct,
    pack_guesses,
    pack_plan_classes,
    run_id,
    unpack_classes,
    unpack_guesses,
)
from fewshot.results.rows import OK, EpisodeRow

KEY = 'label, source, split, seed, "index"'
JOINED = """
    episodes JOIN runs ON runs.number = run JOIN heads ON heads.number = head
    JOIN plans ON plans.number = plan
"""
WITH_DETAILS = f"""
    {JOINED} LEFT JOIN
    (SELECT run AS of_run, head AS of_head, plan AS of_plan, guesses, told FROM details)
    ON of_run = run AND of_head = head AND of_plan = plan
"""
ADD_PLAN = """
    INSERT INTO plans (source, split, seed, "index", hash, way, support_size, query_count, classes)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET classes = coalesce(classes, excluded.classes)
"""
ADD_ROW = """
    INSERT INTO episodes (run, head, plan, accuracy, correct, class_correct, seconds, status)
    SELECT ?, heads.number, plans.number, ?, ?, ?, ?, ? FROM heads, plans
    WHERE label = ? AND source = ? AND split = ? AND seed = ? AND "index" = ? AND hash = ?
    ON CONFLICT DO UPDATE SET accuracy = excluded.accuracy, correct = excluded.correct,
        class_correct = excluded.class_correct, seconds = excluded.seconds, status = excluded.status
    WHERE episodes.status <> 'ok'
"""
ADD_DETAILS = """
    INSERT INTO details (run, head, plan, guesses, told)
    SELECT ?, heads.number, plans.number, ?, ? FROM heads, plans
    WHERE label = ? AND source = ? AND split = ? AND seed = ? AND "index" = ? AND hash = ?
    ON CONFLICT DO NOTHING
"""
OTHER_PLAN = f"""
    SELECT hash FROM {JOINED}
    WHERE run = ? AND label = ? AND source = ? AND split = ? AND seed = ? AND "index" = ?
    AND hash <> ?
"""


@dataclass(frozen=True)
class Run:
    """One run of a store.

    Attributes:
        id: eight hexadecimal digits of what it was begun with.
        settings: everything that decides its numbers.
        ingredients: hash of each thing its rows were made of, by name.
        calls: one record of provenance per command that worked on it, oldest first.
    """

    id: str
    settings: dict[str, Any]
    ingredients: dict[str, str]
    calls: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Beginning:
    """What `RowStore.begin` found.

    Attributes:
        run: id of the run that rows go to.
        is_new: whether it was not there before.
        differences: of a new run, what differs from the most similar run that is there, as
            "name: before -> now"; empty for the first run of a file.
    """

    run: str
    is_new: bool
    differences: tuple[str, ...]


class RowStore(ResultsFile):
    """The rows of runs and their provenance, in one SQLite file.

    Every `add` is one durable transaction: a process killed at any moment loses at most the
    batch it was adding. Several processes may write at once; a writer waits for the others.

    Args:
        path: the file, made with its folder when absent.
        timeout_seconds: how long to wait for another process that writes.
        read_only: read it as it is, wherever it lies; nothing is made, changed or locked.

    Raises:
        InputError: the file cannot be opened, written or understood; it is left as it is.
    """

    def begin(
        self,
        settings: Mapping[str, Any],
        ingredients: Mapping[str, str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        elsewhere: str | None = None,
    ) -> Beginning:
        """The run that rows of these makings belong to: one that is there, or a new one.

        Args:
            settings: everything that decides a row's numbers (protocol, image rule, backbone,
                checkpoint …), JSON values, nested as you like. What only decides which rows there
                are (heads, sources, number of episodes) stays out, so that a run can grow.
            ingredients: hash of each thing rows are made of, by name. A run goes on while those
                it knows are unchanged; new names are added to it.
            provenance: where and how this call was made; kept beside those of earlier calls.
            elsewhere: id of the run in the file it comes from, which it keeps if it is new here.

        Raises:
            InputError: the file cannot be written.
        """
        wanted, made_of = _as_json(settings), dict(ingredients or {})
        with self._transaction():
            runs = self.runs()
            fitting = [run for run in runs if not _differences(run, wanted, made_of)]
            if fitting:
                run, differences = fitting[-1].id, []
                self._db.execute(
                    "UPDATE runs SET ingredients = ? WHERE id = ?",
                    [json.dumps(fitting[-1].ingredients | made_of), run],
                )
            else:
                taken = {run.id for run in runs}
                free = elsewhere if elsewhere not in taken else None
                run = free or run_id(wanted, made_of)
                told = [_differences(old, wanted, made_of) for old in reversed(runs)]
                differences = min(told, key=len, default=[])
                self._db.execute(
                    "INSERT INTO runs (id, settings, ingredients) VALUES (?, ?, ?)",
                    [run, json.dumps(wanted), json.dumps(made_of)],
                )
            if provenance is not None:
                self._db.execute(
                    "INSERT INTO calls (run, record) SELECT number, ? FROM runs WHERE id = ?",
                    [json.dumps(_as_json(provenance)), run],
                )
        return Beginning(run, not fitting, tuple(differences))

    def find(self, settings: Mapping[str, Any], ingredients: Mapping[str, str]) -> str | None:
        """Id of the run that `begin` would go on with; None if it would begin a new one."""
        wanted, made_of = _as_json(settings), dict(ingredients)
        fitting = [run.id for run in self.runs() if not _differences(run, wanted, made_of)]
        return fitting[-1] if fitting else None

    def runs(self) -> list[Run]:
        """Every run, in the order they were begun."""
        with self._plain_faults():
            found = self._db.execute("SELECT * FROM runs ORDER BY number").fetchall()
            calls = self._db.execute("SELECT run, record FROM calls ORDER BY number").fetchall()
        with self._damage():
            return [
                Run(
                    name,
                    json.loads(settings),
                    json.loads(ingredients),
                    tuple(json.loads(record) for run, record in calls if run == number),
                )
                for number, name, settings, ingredients in found
            ]

    def add(self, run: str, rows: Sequence[EpisodeRow]) -> None:
        """Store rows of a run, all or none of them; on return they are on the disk.

        A row that is there already stays as it was first written, unless it failed.

        Raises:
            InputError: a row is there with another plan, or the file cannot be written. None of
                `rows` is added, everything stored before stays.
        """
        with self._transaction():
            number = self._number_of(run)
            for row in rows:
                plan = (row.source, row.split, row.seed, row.index, row.plan_hash)
                self._refuse_other_plan(number, row)
                self._db.execute(
                    "INSERT INTO heads (label) VALUES (?) ON CONFLICT DO NOTHING", [row.head]
                )
                counts = (row.way, row.support_size, row.query_count)
                self._db.execute(ADD_PLAN, [*plan, *counts, pack_plan_classes(row.classes)])
                right = pack_class_correct(row.classes)
                values = (row.accuracy, row.correct, right, row.seconds, row.status)
                self._db.execute(ADD_ROW, [number, *values, row.head, *plan])
                if row.guesses or row.told:
                    details = (pack_guesses(row.guesses), json.dumps({**row.told}))
                    self._db.execute(ADD_DETAILS, [number, *details, row.head, *plan])

    def rows(
        self,
        run: str | None = None,
        head: str | None = None,
        source: str | None = None,
        split: str | None = None,
        seed: int | None = None,
        index: int | None = None,
    ) -> list[EpisodeRow]:
        """The rows of one run, head, source … (None: of all), in the order of these.

        Raises:
            InputError: the file is damaged.
        """
        columns = f"""{KEY}, accuracy, way, support_size, query_count, correct, hash, seconds,
            status, classes, class_correct, guesses, told"""
        filters = {"run": run, "head": head, "source": source, "split": split, "seed": seed}
        chosen = self._select(columns, WITH_DETAILS, **filters, index=index)
        with self._damage():
            return [
                EpisodeRow(  # type: ignore[misc]
                    *values,
                    classes=unpack_classes(plan, correct),
                    guesses=unpack_guesses(guesses),
                    told=json.loads(told or "{}"),
                )
                for *values, plan, correct, guesses, told in chosen
            ]

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """What is stored and cannot be understood, as a message."""
        try:
            yield
        except (TypeError, ValueError, AttributeError) as error:
            what, remedy = FAULTS[sqlite3.SQLITE_CORRUPT]
            raise InputError(f"{what} {error}.", self.path, remedy) from error

    def done(self, run: str, head: str, source: str) -> dict[int, str]:
        """Index → plan hash of the episodes that need no computing; those that failed do."""
        found = self._select('"index", hash', run=run, head=head, source=source, status=OK)
        return dict(found)

    def accuracies(
        self, run: str, episodes: int | None = None
    ) -> dict[tuple[str, str], NDArray[np.float64]]:
        """Accuracies of a run by (head, source), each ordered by seed and index; none that failed.

        Args:
            run: its id.
            episodes: only the first so many; None takes all there are.
        """
        found = [
            values
            for *values, index in self._select(
                'label, source, accuracy, "index"', run=run, status=OK
            )
            if episodes is None or index < episodes
        ]
        with self._damage():
            return {
                key: np.array([accuracy for *_, accuracy in group], dtype=np.float64)
                for key, group in groupby(found, key=lambda values: (values[0], values[1]))
            }

    def failures(self, run: str, episodes: int | None = None) -> dict[tuple[str, str], list[str]]:
        """Why episodes failed, by (head, source), in the order of the episodes."""
        reasons: dict[tuple[str, str], list[str]] = {}
        for head, source, index, status in self._select('label, source, "index", status', run=run):
            if status != OK and (episodes is None or index < episodes):
                reasons.setdefault((head, source), []).append(status)
        return reasons

    def _select(
        self, columns: str, tables: str = JOINED, **filters: str | int | None
    ) -> list[tuple[Any, ...]]:
        names = {"run": "runs.id", "head": "label", "index": '"index"'}
        wanted = {names.get(k, k): value for k, value in filters.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in wanted) or "TRUE"
        query = f"SELECT {columns} FROM {tables} WHERE {where} ORDER BY {KEY}, run"
        with self._plain_faults():
            return self._db.execute(query, tuple(wanted.values())).fetchall()

    def _number_of(self, run: str) -> int:
        found = self._db.execute("SELECT number FROM runs WHERE id = ?", [run]).fetchone()
        if found is None:
            raise InputError(f"there is no run {run}.", self.path)
        number: int = found[0]
        return number

    def _refuse_other_plan(self, run: int, row: EpisodeRow) -> None:
        key = (run, row.head, row.source, row.split, row.seed, row.index, row.plan_hash)
        for (stored,) in self._db.execute(OTHER_PLAN, key):
            raise InputError(
                f"{row.name} is stored with plan {stored[:12]} and now has plan "
                f"{row.plan_hash[:12]}: the two did not see the same images.",
                self.path,
                "Choose another --output.",
            )


def _as_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it comes back from the file: tuples are lists, paths are strings."""
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return plain


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as ("outer.inner", text)."""
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, json.dumps(value, ensure_ascii=False, sort_keys=True)


def _differences(
    run: Run, settings: Mapping[str, Any], ingredients: Mapping[str, str]
) -> list[str]:
    """What keeps a run from going on: settings that differ, ingredients that changed."""
    old, new = dict(_flat(run.settings)), dict(_flat(settings))
    names = dict.fromkeys([*old, *new])
    pairs = [(name, old.get(name, "not set"), new.get(name, "not set")) for name in names]
    known = {name: run.ingredients.get(name, now) for name, now in ingredients.items()}
    return [f"{name}: {before} -> {now}" for name, before, now in pairs if before != now] + [
        f"{name}: changed" for name, now in ingredients.items() if known[name] != now
    ]
