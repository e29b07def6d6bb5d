"""A submission: runs as a folder of files that anybody can check without the machine they ran on.

`rows.parquet` holds every episode, `card.json` what the rows were made of, `config.yaml` the
settings. A leaderboard is rebuilt from such folders alone.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from episodes.faults import InputError, enumerate_some
from fewshot.results.collection import StoredRun, collect_runs
from fewshot.results.exchange import export_runs, import_file
from fewshot.results.file import ROWS_FILE
from fewshot.results.frames import load_runs
from fewshot.results.known_plans import KnownPlans, faults_of_plans
from fewshot.results.leaderboard import FEWEST_EPISODES
from fewshot.results.methods import Method, find_methods
from fewshot.results.paragraph import plans_of, write_paragraph
from fewshot.results.store import RowStore, Run
from fewshot.results.tables import write_text

ROWS, CARD, CONFIG = "rows.parquet", "card.json", "config.yaml"
MARK = "run_meta_dataset submission 1"
NAMED = 3
"""Rows with too few episodes that are named; the others are counted."""
NEEDED = (
    ("benchmark", "the benchmark"),
    ("protocol", "the protocol"),
    ("image", "image size and rule"),
    ("backbones", "the cards of the backbones"),
    ("heads", "the settings of the heads"),
    ("versions", "versions"),
    ("git", "the commit"),
    ("device", "the device"),
    ("command", "the command"),
)
"""What a run's last call must say, and what it is called."""


@dataclass(frozen=True, eq=False)
class Submission:
    """A folder that was submitted, read and found complete.

    Attributes:
        folder: where it lies.
        name: what its submitters call it.
        methods: its rows of a leaderboard.
        paragraphs: how each run was made.
        plans: hash of the episodes, by source, of each run.
    """

    folder: Path
    name: str
    methods: tuple[Method, ...]
    paragraphs: tuple[str, ...]
    plans: tuple[dict[str, str], ...]


def write_submission(
    runs: Sequence[StoredRun], out: Path, name: str, known: Sequence[KnownPlans] | None = None
) -> list[str]:
    """Write a submission.

    Args:
        runs: the runs of one method or of several; one run per seed.
        out: the folder, made when absent.
        name: what to call it.
        known: the episodes that the leaderboard knows; None accepts any.

    Returns:
        What `check_runs` finds against it; the folder is written all the same.

    Raises:
        InputError: a run cannot be read, or the folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    export_runs(runs, out / ROWS)
    read = [_read(stored) for stored in runs]
    last = runs[-1].run.calls[-1] if runs[-1].run.calls else {}
    card = {
        "format": MARK,
        "name": name,
        "runs": [
            {
                "id": run.id,
                "settings": run.settings,
                "plans": plans_of(rows),
                "paragraph": write_paragraph(run, rows),
                "provenance": run.calls[-1] if run.calls else None,
            }
            for run, rows in read
        ],
    }
    write_text(out / CARD, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    text = yaml.safe_dump(last.get("experiment", {}), sort_keys=False, allow_unicode=True)
    write_text(out / CONFIG, f"# command:  {last.get('command')}\n{text}")
    return check_runs(read, known)


def find_submissions(place: Path) -> list[Path]:
    """The submissions in a folder and below it.

    Raises:
        InputError: there is none.
    """
    found = sorted(path.parent for path in place.rglob(CARD))
    if not found:
        what = f"there is no submission here (a folder with {ROWS} and {CARD})."
        raise InputError(what, place, "Write one with `results submit`.")
    return found


def read_submission(folder: Path, known: Sequence[KnownPlans] | None = None) -> Submission:
    """Read a submission and check it.

    Args:
        folder: where it lies.
        known: the episodes that the leaderboard knows; None accepts any.

    Raises:
        InputError: a file is missing or damaged, or the submission is not complete; lists every
            fault.
    """
    name, claimed = _read_card(folder / CARD)
    with tempfile.TemporaryDirectory() as place:
        with RowStore(Path(place) / ROWS_FILE) as store:
            import_file(folder / ROWS, store)
        stored = collect_runs(Path(place)).runs
        read = [_read(one) for one in stored]
        methods = find_methods(load_runs(stored))
    faults = check_runs(read, known)
    plans = tuple(plans_of(rows) for _, rows in read)
    for (run, _), found in zip(read, plans, strict=True):
        if claimed.get(run.id) != found:
            faults.append(f"run {run.id}: the hashes of its episodes are not those of {CARD}")
    if len(claimed) != len(read):
        faults.append(f"{CARD} is of {len(claimed)} runs, {ROWS} of {len(read)}")
    if faults:
        raise InputError(f"is not complete: {'; '.join(faults)}.", folder, "Mend and submit again.")
    return Submission(
        folder, name, tuple(methods), tuple(write_paragraph(*one) for one in read), plans
    )


def check_runs(
    read: Sequence[tuple[Run, pd.DataFrame]], known: Sequence[KnownPlans] | None = None
) -> list[str]:
    """What is against runs on a leaderboard: every fault, in words.

    Args:
        read: runs with their rows.
        known: the episodes that the leaderboard knows; None accepts any.
    """
    faults = [] if read else ["there is no run in it"]
    counts: dict[tuple[str, str], int] = {}
    for run, rows in read:
        call: dict[str, Any] = run.calls[-1] if run.calls else {}
        missing = [words for name, words in NEEDED if not call.get(name)]
        bare = [
            card.get("backbone", "?")
            for card in call.get("backbones", [])
            if not (card.get("weights") and card.get("classes"))
        ]
        if bare:
            missing.append(f"weights and classes of {', '.join(bare)}")
        if missing:
            faults.append(f"run {run.id} does not say {', '.join(missing)}")
        if rows.empty:
            faults.append(f"run {run.id} has no rows")
        if failed := int(rows["accuracy"].isna().sum()):
            faults.append(f"run {run.id} has {failed} failed episodes")
        if (rows["plan"] == "").any():
            faults.append(f"run {run.id} has rows without the hash of their plan")
        elif known is not None:
            faults += faults_of_plans(run, rows, known)
        for (head, source), found in rows.groupby(["head", "source"], observed=True):
            key = (str(head), str(source))
            counts[key] = counts.get(key, 0) + int(found["accuracy"].count())
    few = [
        f"{head} on {source}: {count}"
        for (head, source), count in counts.items()
        if count < FEWEST_EPISODES
    ]
    if few:
        faults.append(f"fewer than {FEWEST_EPISODES} episodes ({enumerate_some(few, NAMED)})")
    return faults


def _read(stored: StoredRun) -> tuple[Run, pd.DataFrame]:
    return stored.run, load_runs([stored]).episodes


def _read_card(path: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """The name, and the hashes of the episodes that it claims, by run and source."""
    remedy = "Write it with `results submit`."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") != MARK:
            raise InputError("is not the card of a submission.", path, remedy)
        return str(content["name"]), {run["id"]: run["plans"] for run in content["runs"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"cannot be read: {type(error).__name__}: {error}."
        raise InputError(what, path, remedy) from error
