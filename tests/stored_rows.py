"""Stores filled with rows of known accuracies."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from fewshot.results import ClassCount, EpisodeRow, RowStore

Fill = Callable[..., str]
CARD = {
    "backbone": "resnet18",
    "source": "ilsvrc_2012",
    "split": "train",
    "classes": ["a", "b"],
    "image_size": 84,
    "weights": "0123456789abcdef",
    "training": {"epochs": 90},
}


def draw_rows(
    head: str,
    source: str,
    skill: float,
    episodes: Sequence[int],
    seed: int = 0,
    plans: str = "plan",
) -> list[EpisodeRow]:
    """Rows of a head that is right with a probability; plans depend on source, seed and index."""
    rows = []
    for index in episodes:
        plan = np.random.default_rng([seed, index, *source.encode()])
        way = int(plan.integers(2, 6))
        ids, shots = plan.permutation(20)[:way], plan.integers(1, 9, way)
        hardness = plan.normal(0, 0.1)
        draw = np.random.default_rng([seed, index, *source.encode(), *head.encode()])
        right = draw.binomial(10, np.clip(skill + hardness, 0, 1), way)
        classes = tuple(
            ClassCount(int(c), int(s), 10, int(n))
            for c, s, n in zip(ids, shots, right, strict=True)
        )
        total, support = int(right.sum()), int(shots.sum())
        name = f"{plans}-{source}-{seed}-{index}"
        rows.append(
            EpisodeRow(
                head, source, "test", seed, index, total / (10 * way), way, support,
                10 * way, total, name, 0.01, classes=classes,
            )
        )  # fmt: skip
    return rows


def fill_folder(
    folder: Path,
    skills: Mapping[tuple[str, str], float],
    episodes: int = 20,
    seed: int = 0,
    plans: str = "plan",
    **changes: object,
) -> str:
    """Make a run folder; the id of the run.

    `skills` has a probability of being right by (head, source).
    """
    heads = {head: {"name": head, "transductive": False, "settings": {}} for head, _ in skills}
    call = {
        "benchmark": "Meta-Dataset, md-v1",
        "protocol": {"name": "md-v1", "version": 1, "hash": "aaaa"},
        "image": {"size": 84, "rule": "official"},
        "split": "test",
        "seed": seed,
        "backbones": [CARD],
        "heads": heads,
        "versions": {"python": "3.11", "torch": "2.14.1"},
        "git": {"commit": "c" * 40, "dirty": False},
        "command": "run_meta_dataset.py",
        "device": "cpu",
        "platform": "Linux",
        "time": "2026-01-01T00:00:00+00:00",
    } | changes
    name, _, digest = call["protocol"].values()
    settings = {"seed": seed, "split": "test", **changes, "protocol": f"{name} ({digest})"}
    with RowStore(folder / "rows.sqlite") as store:
        run = store.begin(settings, {}, call).run
        for (head, source), skill in skills.items():
            store.add(run, draw_rows(head, source, skill, range(episodes), seed, plans))
    return run


@pytest.fixture
def fill() -> Fill:
    """`fill_folder`."""
    return fill_folder
