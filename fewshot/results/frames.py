"""Results as tidy pandas frames: one row per run, per episode, per class of an episode."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from episodes.faults import InputError
from episodes.protocol import SOURCES
from fewshot.results.cards import pretraining, training_of
from fewshot.results.collection import StoredRun, collect_runs
from fewshot.results.format import run_id
from fewshot.results.store import RowStore

# Tables are joined here, by numbers: five times as fast as SQLite joins them by names.
ROWS = """
    SELECT run, head, plan, accuracy, correct, class_correct, seconds, status FROM episodes
"""
PLANS = """
    SELECT number, source, split, seed, "index", hash, way, support_size, query_count, classes
    FROM plans
"""
DETAILS = "SELECT run, head, plan, guesses, told FROM details"
KEY = ["run", "head", "source", "split", "seed", "index"]
COUNTS = ["way", "shot", "support_size", "query_count", "correct"]
EPISODES = [*KEY, "accuracy", *COUNTS, "plan", "seconds", "status"]
NAMES = ["run", "head", "source", "split", "status"]
ROW = ["accuracy", "correct", "class_correct", "seconds", "status"]
PLAN = [*KEY[2:], "plan", "way", "support_size", "query_count", "classes"]
DETAIL = ["guesses", "told"]


@dataclass(frozen=True)
class Frames:
    """The results of some runs.

    Attributes:
        runs: one row per run, by id: `path`, `experiment` (equal for runs that differ in their
            seed only), `benchmark`, `protocol`, `split`, `seed`, `image_size`, `image_rule`,
            `backbones`, `pretraining`, `training` (the leaderboard it belongs to), `transductive`
            (names of heads), `asked` (by head and source, the episodes it was asked for),
            `device`, `time`, `commit`, `command`.
        rows: one row per episode of a head, with packed counts by class; `episodes` and
            `classes` are made from it.
        details: packed guesses and what heads told, where there are some; `guesses` and `told`
            are made from it.
        faults: one message for each file that could not be read.
    """

    runs: pd.DataFrame
    rows: pd.DataFrame
    details: pd.DataFrame
    faults: tuple[str, ...] = ()

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """One row per run, head and episode, in the order of these.

        `accuracy` is a fraction, NaN where `status` is not "ok"; `shot` the mean number of
        support images of a class; `plan` the hash that paired rows share.
        """
        return self.rows[EPISODES]

    @cached_property
    def classes(self) -> pd.DataFrame:
        """One row per class of an episode that went well: `class_id`, `shot`, `queries`, `correct`.

        Rows stored without counts by class (of format 1) have none here.
        """
        known = self.rows.dropna(subset=["class_correct", "classes"])
        known = known[known["status"] == "ok"]
        plans = np.frombuffer(b"".join(known["classes"]), dtype="<i4").reshape(-1, 3)
        times = known["way"].to_numpy()
        frame = known[[*KEY, "way"]].loc[known.index.repeat(times)].reset_index(drop=True)
        for position, name in enumerate(("class_id", "shot", "queries")):
            frame[name] = plans[:, position]
        frame["correct"] = np.frombuffer(b"".join(known["class_correct"]), dtype="<u2")
        return frame

    @cached_property
    def guesses(self) -> pd.DataFrame:
        """One row per query image of a source's first episodes: its number, and `guess`, a label.

        Queries are in the order of the plan, by label: those of class 0 of `classes` come first.
        """
        known = self.details.dropna(subset="guesses")
        counts = known["guesses"].str.len() // 2
        frame = known[KEY].loc[known.index.repeat(counts)].reset_index(drop=True)
        frame["query"] = frame.groupby(KEY, observed=True).cumcount()
        frame["guess"] = np.frombuffer(b"".join(known["guesses"]), dtype="<u2")
        return frame

    @cached_property
    def told(self) -> pd.DataFrame:
        """One row per number that a head told of itself: `name`, `position` (0, 1, …), `value`."""
        lines = [
            (place, name, position, value)
            for place, text in self.details["told"].items()
            for name, values in json.loads(text).items()
            for position, value in enumerate(values)
        ]
        columns = ["place", "name", "position", "value"]
        frame = pd.DataFrame(lines, columns=columns).set_index("place")
        return self.details[KEY].join(frame, how="inner").reset_index(drop=True)


def load(*places: str | Path) -> Frames:
    """The results in folders or files, as pandas frames.

    Args:
        places: results folders, run folders or results files.

    Raises:
        InputError: there is no such place.
    """
    collections = [collect_runs(Path(place)) for place in places]
    runs = [stored for collection in collections for stored in collection.runs]
    faults = [fault for collection in collections for fault in collection.faults]
    return load_runs(runs, faults)


def load_runs(runs: Sequence[StoredRun], faults: Sequence[str] = ()) -> Frames:
    """The results of these runs; a run that is in several files is joined into one.

    Args:
        runs: which ones.
        faults: of files that could not be read before; those that cannot be read now are added.
    """
    parts: list[pd.DataFrame] = []
    details: list[pd.DataFrame] = []
    told = list(faults)
    for path in dict.fromkeys(stored.path for stored in runs):
        wanted = {stored.run.id for stored in runs if stored.path == path}
        try:
            with RowStore(path, read_only=True) as store:
                found = _read_tables(store)
        except InputError as error:
            told.append(str(error))
            continue
        except (TypeError, ValueError, KeyError, ArithmeticError) as error:
            told.append(f"{path}: the results file is damaged ({error}).")
            continue
        for part, tables in zip((parts, details), found, strict=True):
            part.append(tables[tables["run"].isin(wanted)])
    described = {stored.run.id: describe_run(stored) for stored in runs}
    table = pd.DataFrame.from_dict(described, orient="index").rename_axis("run")
    return Frames(
        table,
        _joined(parts, [*EPISODES, "classes", "class_correct"]),
        _joined(details, [*KEY, *DETAIL]),
        tuple(told),
    )


def _joined(parts: Sequence[pd.DataFrame], empty: Sequence[str]) -> pd.DataFrame:
    """The rows of all files in order, each once."""
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*empty])
    for name in {*NAMES} & {*rows.columns}:
        rows[name] = rows[name].astype("category")  # by number, files may differ
    if "accuracy" in rows:  # where one file has a failure and another a result, the result counts
        rows = rows.iloc[rows["accuracy"].isna().argsort(kind="stable")]
    return rows.sort_values(KEY, kind="stable").drop_duplicates(KEY).reset_index(drop=True)


def describe_run(stored: StoredRun) -> dict[str, Any]:
    """The facts of a run that tables group by and lists show; None where they are not known."""
    last: dict[str, Any] = stored.run.calls[-1] if stored.run.calls else {}
    settings = stored.run.settings
    protocol, image = last.get("protocol", {}), last.get("image", {})
    named = protocol and f"{protocol.get('name')} ({protocol.get('hash')})"
    return {
        "path": str(stored.path.parent),
        "experiment": run_id({k: v for k, v in settings.items() if k != "seed"}, {}),
        "benchmark": last.get("benchmark"),
        "protocol": named or settings.get("protocol"),
        "split": settings.get("split"),
        "seed": settings.get("seed"),
        "image_size": image.get("size", settings.get("image_size")),
        "image_rule": image.get("rule", settings.get("image_rule")),
        "backbones": " + ".join(str(card.get("backbone")) for card in last.get("backbones", []))
        or " + ".join(map(str, settings.get("backbone", []))),
        "pretraining": " + ".join(dict.fromkeys(map(pretraining, last.get("backbones", []))))
        or None,
        "training": training_of(last.get("backbones", [])),
        "transductive": tuple(
            label
            for call in stored.run.calls
            for label, head in call.get("heads", {}).items()
            if head.get("transductive")
        ),
        "asked": _asked(stored.run.calls),
        "device": last.get("device"),
        "time": last.get("time"),
        "commit": (last.get("git") or {}).get("commit"),
        "command": last.get("command"),
    }


def _asked(calls: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """By head and source, the most episodes that any call asked for."""
    asked: dict[str, dict[str, int]] = {}
    for call in calls:
        experiment = call.get("experiment", {})
        sources, episodes = experiment.get("sources", ()), experiment.get("episodes", 0)
        names = SOURCES if "all" in sources else (str(name).partition("=")[0] for name in sources)
        for source in names:
            for head in call.get("heads", {}):
                most = asked.setdefault(head, {})
                most[source] = max(most.get(source, 0), episodes)
    return asked


def _read_tables(store: RowStore) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and details of a file."""
    names = {
        name: dict(store.fetch(f"SELECT number, {text} FROM {table}"))
        for name, text, table in (("run", "id", "runs"), ("head", "label", "heads"))
    }
    plans = pd.DataFrame(store.fetch(PLANS), columns=["number", *PLAN]).set_index("number")
    for name in ("source", "split"):
        plans[name] = plans[name].astype("category")
    read = []
    for query, columns in ((ROWS, ROW), (DETAILS, DETAIL)):
        rows = pd.DataFrame(store.fetch(query), columns=["run", "head", "number", *columns])
        for name, by_number in names.items():
            rows[name] = pd.Categorical(rows[name].map(by_number), sorted(by_number.values()))
        read.append(rows)
    rows, details = read
    rows["accuracy"] = rows["accuracy"].astype(float)
    rows["status"] = rows["status"].astype("category")
    rows = rows.join(plans, on="number", how="inner").drop(columns="number")
    rows["shot"] = rows["support_size"] / rows["way"]
    details = details.join(plans[KEY[2:]], on="number", how="inner").drop(columns="number")
    return rows, details
