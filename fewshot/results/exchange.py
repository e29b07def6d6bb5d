"""Results that travel: to a file and back, and from many results files into one."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from episodes.faults import InputError, unknown_name, writing
from episodes.tfrecord import replacing
from fewshot.results.collection import StoredRun
from fewshot.results.rows import ClassCount, EpisodeRow
from fewshot.results.shapes import check_row, check_run, check_told
from fewshot.results.store import RowStore, Run

FORMATS = ("parquet", "json", "csv")
MARK = "run_meta_dataset results 1"
BATCH = 10_000
WHAT_TO_GIVE = "Give a file that `results export` wrote as parquet or json."
TEXTS = ("classes", "guesses", "told")
COLUMNS = [field.name for field in fields(EpisodeRow)]
TYPES = {
    "run": pa.string(),
    **dict.fromkeys(COLUMNS, pa.int64()),
    **dict.fromkeys(("head", "source", "split", "plan_hash", "status"), pa.string()),
    **dict.fromkeys(TEXTS, pa.string()),
    **dict.fromkeys(("accuracy", "seconds"), pa.float64()),
}


@dataclass(frozen=True)
class Merged:
    """What became of the rows of a run that was put into a store.

    Attributes:
        run: id of the run they belong to there.
        added: rows that were not there.
        known: rows that were there already.
        differing: of those, rows with another accuracy; what was there first is kept.
    """

    run: str
    added: int
    known: int
    differing: int


# ---- out -------------------------------------------------------------------------------------


def export_runs(runs: Sequence[StoredRun], path: Path) -> int:
    """Write runs to one file, whole or not at all; the ending of its name says the format.

    parquet and json hold everything and can be imported; csv holds the rows, for other programs.
    In each, `classes` is a text: "class id:shot:queries:correct" for each class; `guesses` the
    labels guessed, in the order of the queries; `told` a JSON mapping.

    Returns:
        How many rows there are.

    Raises:
        InputError: a run cannot be read, or the file cannot be written.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise unknown_name("format", kind, FORMATS)
    records = [record for stored in runs for record in _records(stored)]
    described = [asdict(stored.run) for stored in runs]
    columns = {name: [record[name] for record in records] for name in TYPES}
    table = pa.table(columns, schema=pa.schema(TYPES))
    sink = io.BytesIO()
    if kind == "parquet":
        metadata = {"format": MARK, "runs": json.dumps(described)}
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), sink)
    elif kind == "csv":
        pyarrow.csv.write_csv(table, sink)
    else:
        content = {"format": MARK, "runs": described, "rows": records}
        sink.write(json.dumps(content, indent=0).encode())
    with writing(path, "choose another --out"), replacing(path) as temporary:
        temporary.write_bytes(sink.getbuffer())
    return len(records)


def _records(stored: StoredRun) -> Iterator[dict[str, Any]]:
    with RowStore(stored.path, read_only=True) as store:
        for row in store.rows(stored.run.id):
            record = {name: getattr(row, name) for name in COLUMNS}
            classes = " ".join(":".join(map(str, counts)) for counts in row.classes)
            texts = {"classes": classes, "guesses": " ".join(map(str, row.guesses))}
            told = json.dumps({**row.told}) if row.told else ""
            yield {"run": stored.run.id, **record, **texts, "told": told}


# ---- in --------------------------------------------------------------------------------------


def import_file(path: Path, store: RowStore) -> list[Merged]:
    """Put the runs of an exported file into a store.

    Raises:
        InputError: the file cannot be read, is not one that `export_runs` wrote, or a row in it
            contradicts itself or the store.
    """
    return [merge_run(store, run, rows) for run, rows in read_export(path)]


def read_export(path: Path) -> list[tuple[Run, list[EpisodeRow]]]:
    """The runs of an exported file, and the rows of each.

    Raises:
        InputError: the file cannot be read, is not one that `export_runs` wrote, or a row in it
            contradicts itself.
    """
    if not path.is_file():
        raise InputError("there is no such file.", path, WHAT_TO_GIVE)
    if path.suffix == ".csv":
        raise InputError("holds rows, but not how they were made.", path, WHAT_TO_GIVE)
    described, records = _read_parquet(path) if path.suffix == ".parquet" else _read_json(path)
    number = -1
    try:
        runs = [
            Run(run["id"], run["settings"], run["ingredients"], tuple(run["calls"]))
            for run in described
        ]
        for run in runs:
            check_run(run)
        rows: dict[str, list[EpisodeRow]] = {run.id: [] for run in runs}
        for record in records:
            number += 1
            rows[record["run"]].append(_row(record))
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        place = f"row {number}" if number >= 0 else "the runs"
        what = f"is damaged in {place}: {type(error).__name__}: {error}."
        raise InputError(what, path, WHAT_TO_GIVE) from error
    return [(run, rows[run.id]) for run in runs]


def _row(record: Mapping[str, Any]) -> EpisodeRow:
    classes = tuple(
        ClassCount(*map(int, counts.split(":"))) for counts in record["classes"].split()
    )
    # Files of earlier programs have no details.
    guesses = tuple(map(int, (record.get("guesses") or "").split()))
    told = check_told(json.loads(record.get("told") or "{}"))
    values = {name: record[name] for name in COLUMNS if name not in TEXTS}
    row = EpisodeRow(**values, classes=classes, guesses=guesses, told=told)
    check_row(row)
    return row


def _read_parquet(path: Path) -> tuple[list[Any], list[dict[str, Any]]]:
    try:
        table = pyarrow.parquet.read_table(path)
        metadata = table.schema.metadata or {}
        if metadata.get(b"format") != MARK.encode():
            raise InputError("is not a file of exported results.", path, WHAT_TO_GIVE)
        runs: list[Any] = json.loads(metadata[b"runs"])
        records: list[dict[str, Any]] = table.to_pylist()
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise InputError(f"cannot be read: {error}.", path, WHAT_TO_GIVE) from error
    return runs, records


def _read_json(path: Path) -> tuple[list[Any], list[dict[str, Any]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot be read: {error}.", path, WHAT_TO_GIVE) from error
    if not isinstance(content, dict) or content.get("format") != MARK:
        raise InputError("is not a file of exported results.", path, WHAT_TO_GIVE)
    return content.get("runs", []), content.get("rows", [])


def merge_run(store: RowStore, run: Run, rows: Sequence[EpisodeRow]) -> Merged:
    """Put a run into a store: into the run there that is the same experiment, or as a new one.

    Two halves of one experiment that were computed on two machines become one run.

    Raises:
        InputError: a row is there with another plan. Batches before it stay.
    """
    name = store.begin(run.settings, run.ingredients, elsewhere=run.id).run
    (target,) = [found for found in store.runs() if found.id == name]
    for call in run.calls:
        if call not in target.calls:
            store.begin(run.settings, run.ingredients, call)
    there = {_key(row): row.accuracy for row in store.rows(name) if row.ok}
    new = [row for row in rows if _key(row) not in there]
    known = [row for row in rows if _key(row) in there and row.ok]
    for start in range(0, len(new), BATCH):
        store.add(name, new[start : start + BATCH])
    store.add(name, known)  # adds nothing; refuses another plan
    differing = sum(there[_key(row)] != row.accuracy for row in known)
    return Merged(name, len(new), len(rows) - len(new), differing)


def _key(row: EpisodeRow) -> tuple[str, str, str, int, int]:
    return row.head, row.source, row.split, row.seed, row.index
