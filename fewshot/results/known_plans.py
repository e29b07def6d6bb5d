"""Episodes that a leaderboard knows, by their hashes.

A run says by the hash of its plans which images it saw. Whether these were the benchmark's can be
told only beside hashes that somebody made from the benchmark's own specifications. A list of known
hashes is a CSV file; a plan file, as `plan` writes it, is a list of one.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from episodes.faults import InputError
from episodes.plan import hash_of_hashes
from episodes.plan_file import PlanFile, read_plans
from fewshot.results.store import Run
from fewshot.results.tables import write_text

REMEDY = "Write it with `leaderboard plans`, or give a plan file of `plan`."


@dataclass(frozen=True)
class KnownPlans:
    """The first episodes of one source.

    Attributes:
        benchmark: whose images they are of, e.g. "Meta-Dataset"; empty where that is not said.
        protocol, protocol_hash: the rules they were drawn by.
        source, split, seed: what they were drawn from.
        episodes: how many, from number 0 on.
        hash: of their plans (`episodes.plan.hash_plans`).
        specification: fingerprint of the `dataset_spec.json` they were drawn from.
    """

    benchmark: str
    protocol: str
    protocol_hash: str
    source: str
    split: str
    seed: int
    episodes: int
    hash: str
    specification: str

    @classmethod
    def of(cls, plans: PlanFile, benchmark: str = "") -> "KnownPlans":
        """All episodes of a plan file."""
        return cls(
            benchmark,
            plans.protocol.name,
            plans.protocol.hash,
            plans.source,
            plans.split.value,
            plans.seed,
            len(plans),
            plans.hash,
            plans.spec_fingerprint,
        )

    @property
    def of_what(self) -> tuple[str, str, str, int]:
        """What episodes are looked up by."""
        return self.protocol_hash, self.source, self.split, self.seed


def read_known(path: Path) -> list[KnownPlans]:
    """The lists in a CSV file, or that of a plan file (.parquet).

    Raises:
        InputError: the file is missing or damaged, or is neither.
    """
    if path.suffix == ".parquet":
        return [KnownPlans.of(read_plans(path))]
    try:
        return parse_known(path.read_text(encoding="utf-8").splitlines(), path)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"cannot be read: {reason}.", path, REMEDY) from error


def parse_known(lines: Iterable[str], where: Path | str) -> list[KnownPlans]:
    """The lists in the lines of a CSV file with the names of `KnownPlans` on top.

    Raises:
        InputError: a line is not a list of episodes.
    """
    known = []
    try:
        for row in csv.DictReader(lines, strict=True):
            known.append(_parsed(row))
    except (csv.Error, ValueError, TypeError) as error:
        what = f"line {len(known) + 2} is not a list of episodes ({error})."
        raise InputError(what, where, REMEDY) from error
    if not known:
        raise InputError("holds no list of episodes.", where, REMEDY)
    return known


def _parsed(row: dict[str, Any]) -> KnownPlans:
    names = [field.name for field in fields(KnownPlans)]
    if absent := [name for name in names if row.get(name) is None]:
        raise ValueError(f"no {', '.join(absent)}")
    texts = {name: row[name] for name in names}
    return KnownPlans(**texts | {name: int(texts[name]) for name in ("seed", "episodes")})


def write_known(known: Sequence[KnownPlans], path: Path) -> None:
    """Write lists as a CSV file.

    Raises:
        InputError: the file cannot be written.
    """
    lines = [",".join(field.name for field in fields(KnownPlans))]
    lines += [",".join(map(str, asdict(one).values())) for one in known]
    write_text(path, "\n".join(lines) + "\n")


def faults_of_plans(run: Run, rows: pd.DataFrame, known: Sequence[KnownPlans]) -> list[str]:
    """Which episodes of a run are not those that anybody knows, in words.

    Of each source and seed the first episodes are compared, as many as the longest known list
    that the run has reached.

    Args:
        run: what it says of itself.
        rows: its rows, of `Frames.episodes`.
        known: lists of episodes, of any benchmarks.
    """
    call: dict[str, Any] = run.calls[-1] if run.calls else {}
    rules: dict[str, Any] = call.get("protocol") or {}
    claimed = str(call.get("benchmark", "")).partition(",")[0]
    by_key: dict[tuple[str, str, str, int], list[KnownPlans]] = {}
    for one in known:
        by_key.setdefault(one.of_what, []).append(one)
    by_fault: dict[str, list[str]] = {}
    plans = rows.drop_duplicates(["source", "split", "seed", "index"]).sort_values("index")
    for (source, split, seed), found in plans.groupby(["source", "split", "seed"], observed=True):
        key = (str(rules.get("hash")), str(source), str(split), int(str(seed)))
        hashes = dict(zip(found["index"].tolist(), found["plan"].tolist(), strict=True))
        fault = _fault(hashes, by_key.get(key, []), claimed)
        if fault:
            words = f"the {split} episodes of seed {seed} are {fault}"
            by_fault.setdefault(words, []).append(str(source))
    named = f"{rules.get('name')} ({rules.get('hash')})"
    return [
        f"run {run.id}, protocol {named}: on {', '.join(sources)} {fault}"
        for fault, sources in by_fault.items()
    ]


def _fault(hashes: dict[int, str], lists: Sequence[KnownPlans], claimed: str) -> str | None:
    """What is against the plans of one source and seed, by number; None if they are known."""
    if not lists:
        return "on no list of known episodes"
    reached = 0
    while reached in hashes:
        reached += 1
    within = [one for one in lists if one.episodes <= reached]
    if not within:
        fewest = min(one.episodes for one in lists)
        return f"known as lists of {fewest}, and the run has no more than the first {reached}"
    same = [
        one
        for one in within
        if hash_of_hashes([hashes[index] for index in range(one.episodes)]) == one.hash
    ]
    if not same:
        return "not those known: drawn from another dataset_spec.json, or by other code"
    if any(one.benchmark in ("", claimed) for one in same):
        return None
    return f"those of {same[0].benchmark}, not of {claimed or 'a benchmark that is named'}"
