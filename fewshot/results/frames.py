"""Results as tidy pandas frames: one row per run, per episode, per class of an episode."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from episodes.faults import InputError
from fewshot.results.cards import pretraining, training_of
from fewshot.results.collection import StoredRun, collect_runs
from fewshot.results.format import run_id
from fewshot.results.store import RowStore

ROWS = """
    SELECT runs.id, label, plan, accuracy, correct, class_correct, seconds, status
    FROM episodes JOIN runs ON runs.number = run JOIN heads ON heads.number = head
"""
PLANS = """
    SELECT number, source, split, seed, "index", hash, way, support_size, query_count, classes
    FROM plans
"""
KEY = ["run", "head", "source", "split", "seed", "index"]
COUNTS = ["way", "shot", "support_size", "query_count", "correct"]
EPISODES = [*KEY, "accuracy", *COUNTS, "plan", "seconds", "status"]
NAMES = ["run", "head", "source", "split", "status"]


@dataclass(frozen=True)
class Frames:
    """The results of some runs.

    Attributes:
        runs: one row per run, by id: `path`, `experiment` (equal for runs that differ in their
            seed only), `benchmark`, `protocol`, `split`, `seed`, `image_size`, `image_rule`,
            `backbones`, `pretraining`, `training` (the leaderboard it belongs to), `transductive`
            (names of heads), `device`, `time`, `commit`, `command`.
        rows: one row per episode of a head, with packed counts by class; `episodes` and
            `classes` are made from it.
        faults: one message for each file that could not be read.
    """

    runs: pd.DataFrame
    rows: pd.DataFrame
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
    parts, told = [], list(faults)
    for path in dict.fromkeys(stored.path for stored in runs):
        wanted = {stored.run.id for stored in runs if stored.path == path}
        try:
            with RowStore(path, read_only=True) as store:
                part = _read_rows(store)
        except InputError as error:
            told.append(str(error))
            continue
        parts.append(part[part["run"].isin(wanted)])
    rows = pd.concat(parts, ignore_index=True) if parts else _empty_rows()
    rows = rows.sort_values(KEY, kind="stable").drop_duplicates(KEY)
    for name in NAMES:
        rows[name] = rows[name].astype("category")
    described = {stored.run.id: describe_run(stored) for stored in runs}
    table = pd.DataFrame.from_dict(described, orient="index").rename_axis("run")
    return Frames(table, rows.reset_index(drop=True), tuple(told))


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
        "device": last.get("device"),
        "time": last.get("time"),
        "commit": (last.get("git") or {}).get("commit"),
        "command": last.get("command"),
    }


def _read_rows(store: RowStore) -> pd.DataFrame:
    columns = ["run", "head", "number", "accuracy", "correct", "class_correct"]
    rows = pd.DataFrame(store.fetch(ROWS), columns=[*columns, "seconds", "status"])
    columns = ["number", "source", "split", "seed", "index", "plan", "way", "support_size"]
    plans = pd.DataFrame(store.fetch(PLANS), columns=[*columns, "query_count", "classes"])
    rows["accuracy"] = rows["accuracy"].astype(float)
    rows = rows.merge(plans, on="number").drop(columns="number")
    rows["shot"] = rows["support_size"] / rows["way"]
    return rows


def _empty_rows() -> pd.DataFrame:
    return pd.DataFrame(columns=[*EPISODES, "classes", "class_correct"])
