"""A results folder: every run of every results file in it, found by id or by place."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from episodes.faults import InputError, unknown_name
from fewshot.results.file import ROWS_FILE
from fewshot.results.store import RowStore, Run


@dataclass(frozen=True)
class StoredRun:
    """A run and the results file that holds it."""

    path: Path
    run: Run


@dataclass(frozen=True)
class Collection:
    """What a results folder holds.

    Attributes:
        runs: of all files, in the order of the files' names.
        faults: one message for each file that cannot be read; the others are not affected.
    """

    runs: tuple[StoredRun, ...]
    faults: tuple[str, ...]


def find_files(place: Path) -> list[Path]:
    """The results files in a folder and all folders below it; a file stands for itself.

    Raises:
        InputError: there is no such place.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise InputError("there is no such results folder.", place, "Check --results.")
    return sorted(place.rglob(ROWS_FILE))


def collect_runs(place: Path) -> Collection:
    """Every run in a folder.

    Raises:
        InputError: there is no such place.
    """
    runs: list[StoredRun] = []
    faults = []
    for path in find_files(place):
        try:
            with RowStore(path, read_only=True) as store:
                runs += [StoredRun(path, run) for run in store.runs()]
        except InputError as error:
            faults.append(str(error))
    return Collection(tuple(runs), tuple(faults))


def find_run(name: str, place: Path) -> StoredRun:
    """The run that a user names.

    Args:
        name: an id or its beginning; or a folder or file with one run; or FOLDER@ID.
        place: where to look for an id.

    Raises:
        InputError: there is no such run, or more than one.
    """
    folder, _, wanted = name.rpartition("@")
    if not folder and Path(name).exists():
        folder, wanted = name, ""
    if os.sep in wanted or not (folder or place.is_dir()):
        ids = "" if place.is_dir() else f", and no folder {place} in which it could be a run's id"
        what = f"there is no such run, file or folder{ids}."
        raise InputError(what, name, "Name runs, or set --results to where they are.")
    collection = collect_runs(Path(folder) if folder else place)
    found = [stored for stored in collection.runs if stored.run.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{stored.path.parent}@{stored.run.id}" for stored in found)
        raise InputError(f"'{name}' means {len(found)} runs.", remedy=f"Say which: {names}.")
    if not collection.runs:
        unread = " ".join(collection.faults)
        raise InputError(f"there are no runs here. {unread}".strip(), folder or place)
    raise unknown_name("run", wanted, dict.fromkeys(one.run.id for one in collection.runs))


def find_runs(names: Iterable[str], place: Path) -> Collection:
    """The runs that a user names, a folder standing for all in it; without names, all of `place`.

    A file that cannot be read is told in `faults` and hides no other.

    Raises:
        InputError: there is no such run, or nothing can be read.
    """
    runs: list[StoredRun] = []
    faults: list[str] = []
    for name in list(names) or [str(place)]:
        if not Path(name).exists() and names:
            runs.append(find_run(name, place))
            continue
        collection = collect_runs(Path(name))
        runs += collection.runs
        faults += collection.faults
        if not collection.runs:
            raise InputError(f"there are no runs here. {' '.join(faults)}".strip(), name)
    distinct = {(stored.path.resolve(), stored.run.id): stored for stored in runs}
    return Collection(tuple(distinct.values()), tuple(faults))
