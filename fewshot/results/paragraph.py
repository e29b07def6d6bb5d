"""A run in the words of a paper's experiments section: everything that a reader needs to repeat it.

Source: the questions that readers of few-shot papers ask most: how many episodes, which seeds,
what resolution, which classes the backbone has seen, how the interval is computed.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from episodes.plan import hash_of_hashes
from fewshot.results.cards import pretraining
from fewshot.results.methods import sort_sources
from fewshot.results.store import Run

UNKNOWN = "not recorded"
UNUSED: tuple[object, ...] = (0, "none", "", None, [], ())
"""Settings of a training that say no more than that something was not used."""


def write_paragraph(run: Run, rows: pd.DataFrame) -> str:
    """The paragraph.

    Args:
        run: what is known of its making.
        rows: its rows, of `Frames.episodes`.
    """
    call: dict[str, Any] = run.calls[-1] if run.calls else {}
    sentences = [
        _what(run, call, rows),
        _episodes(rows),
        _images(run, call),
        *(_backbone(card) for card in call.get("backbones", [])),
        *(_head(label, head) for label, head in _heads(run).items()),
        "Accuracies are means over episodes with 95 % intervals, 1.96·σ/√n.",
        _failures(rows),
        _program(call),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def plans_of(rows: pd.DataFrame) -> dict[str, str]:
    """By source, the hash of the episodes evaluated: two runs that share it are paired."""
    plans = rows.drop_duplicates(["source", "seed", "index"]).sort_values(["seed", "index"])
    found = {str(source): one["plan"] for source, one in plans.groupby("source", observed=True)}
    return {source: hash_of_hashes(found[source].tolist()) for source in sort_sources(list(found))}


def _what(run: Run, call: dict[str, Any], rows: pd.DataFrame) -> str:
    heads, sources = (list(map(str, rows[name].unique())) for name in ("head", "source"))
    sources = list(sort_sources(sources))
    rules = f"protocol {run.settings.get('protocol', UNKNOWN)}"
    if protocol := call.get("protocol"):
        name, version, digest = (protocol.get(key) for key in ("name", "version", "hash"))
        rules = f"protocol {name} version {version} ({digest})"
    split = call.get("split", run.settings.get("split", UNKNOWN))
    return (
        f"We evaluate {_listed(heads)} on the {split} classes of {_listed(sources)} "
        f"({call.get('benchmark', UNKNOWN)}; {rules})."
    )


def _episodes(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "No episode has been evaluated yet."
    episodes = rows.drop_duplicates(["source", "seed", "index"])
    counts = episodes.groupby("source", observed=True).size()
    low, high = counts.min(), counts.max()
    count = str(low) if low == high else f"{low} to {high}"
    ways, supports, queries = (
        _span(episodes[name]) for name in ("way", "support_size", "query_count")
    )
    plans = ", ".join(f"{source} {name}" for source, name in plans_of(rows).items())
    seeds = sorted(map(str, rows["seed"].unique()))
    return (
        f"Each source has {count} episodes (seed {_listed(seeds)}) of "
        f"{ways} classes, {supports} support and {queries} query images. "
        f"Hashes of the episodes: {plans}."
    )


def _images(run: Run, call: dict[str, Any]) -> str:
    image = call.get("image", {})
    size = image.get("size", run.settings.get("image_size", UNKNOWN))
    rule = image.get("rule", run.settings.get("image_rule", UNKNOWN))
    return f"Images have {size} × {size} pixels by the image rule {rule}."


def _backbone(card: dict[str, Any]) -> str:
    recipe = ", ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in card.get("training", {}).items()
        if value not in UNUSED or name == "seed"
    )
    trained = f"trained on {pretraining(card)} at {card.get('image_size')} pixels"
    return (
        f"The backbone {card.get('backbone')} (weights {card.get('weights', UNKNOWN)}) was "
        f"{trained}{f' ({recipe})' if recipe else ''}."
    )


def _heads(run: Run) -> dict[str, dict[str, Any]]:
    heads: dict[str, dict[str, Any]] = {}
    for call in run.calls:
        heads |= call.get("heads", {})
    return heads


def _head(label: str, head: dict[str, Any]) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in head.get("settings", {}).items())
    kind = "transductive" if head.get("transductive") else "inductive"
    return f"{label} is {kind}{f', with {settings}' if settings else ''}."


def _failures(rows: pd.DataFrame) -> str:
    failed = rows[rows["accuracy"].isna()]
    if failed.empty:
        return ""
    reasons = "; ".join(map(str, failed["status"].unique()))
    return f"{len(failed)} episodes gave no accuracy and are in no mean ({reasons})."


def _program(call: dict[str, Any]) -> str:
    if not call:
        return ""
    versions = ", ".join(f"{name} {v}" for name, v in call.get("versions", {}).items() if v)
    git = call.get("git") or {}
    changed = " with uncommitted changes" if git.get("dirty") else ""
    commit = f"commit {str(git.get('commit'))[:12]}{changed}" if git else "no commit recorded"
    return (
        f"Computed on {call.get('device', UNKNOWN)} ({call.get('platform', UNKNOWN)}) with "
        f"{versions}; {commit}; last command {call.get('time', UNKNOWN)}: {call.get('command')}"
    )


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names) or "nothing"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _span(values: "pd.Series[int]") -> str:
    low, high = values.min(), values.max()
    return str(low) if low == high else f"{low} to {high} (mean {values.mean():.1f})"
