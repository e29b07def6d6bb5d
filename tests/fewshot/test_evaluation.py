"""Heads on episodes: labels of rows, accuracy, keys, resumption."""

import re
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from episodes import EpisodeReader
from episodes.faults import InputError
from fewshot import evaluation
from fewshot.backbones import build_backbone
from fewshot.evaluation import Evaluation, distinct_names, head_generator, line_up
from fewshot.heads import Head, build_head

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def reader(miniature):
    return EpisodeReader(miniature, "dtd", "test", size=32)


@pytest.fixture(scope="module")
def backbones():
    return [build_backbone(name, 3, 0).eval() for name in ("resnet18", "aa_resnet18")]


def evaluate(reader, backbones, heads, episodes=3, max_bytes=None, limit=60.0, **kwargs):
    made = [build_head(h) if isinstance(h, str) else h for h in heads]
    entries = line_up(made, [backbone.name for backbone in backbones])
    limits = {"max_bytes": max_bytes, "time_limit": limit}
    rows = Evaluation(reader, backbones, entries, CPU, **limits).rows(episodes, **kwargs)
    return [replace(row, seconds=0.0) for group in rows for row in group]


def one_class(plan):
    return {
        "class_ids": plan.class_ids[:1],
        "support_labels": np.zeros_like(plan.support_labels),
        "query_labels": np.zeros_like(plan.query_labels),
    }


def no_queries(plan):
    return {"query_labels": plan.query_labels[:0], "query_images": plan.query_images[:0]}


@dataclass(frozen=True)
class Fixed(Head):
    """Scores that the test chooses."""

    name = "fixed"
    value: float = 0.0

    def fit(self, support, labels, way, generator):
        return lambda query: torch.full((len(query[0]), way), self.value)


def test_labels_of_one_and_of_several_backbones():
    heads = [build_head("prototypical"), build_head("sur:steps=3")]
    one = line_up(heads, ["resnet18"])
    assert [(e.label, e.backbone) for e in one] == [("prototypical", 0), ("sur:steps=3", None)]
    two = line_up(heads, ["resnet18", "aa_resnet18"])
    assert [e.label for e in two] == [
        "prototypical @ resnet18",
        "prototypical @ aa_resnet18",
        "sur:steps=3",
    ]


def test_backbones_of_one_name_are_numbered():
    names = distinct_names(["resnet18", "aa_resnet18", "resnet18"])
    assert names == ["resnet18#1", "aa_resnet18", "resnet18#2"]


def test_a_transductive_head_is_marked():
    @dataclass(frozen=True)
    class Peeking(Fixed):
        name = "peeking"
        transductive = True

    assert line_up([Peeking()], ["resnet18"])[0].label == "peeking (transductive)"


def test_the_same_head_twice_is_refused():
    heads = [build_head("prototypical"), build_head("prototypical:distance=euclidean")]
    with pytest.raises(InputError, match="'prototypical' is asked for 2 times"):
        line_up(heads, ["resnet18"])


def test_a_tie_goes_to_the_lowest_label(reader, backbones):
    for row in evaluate(reader, backbones[:1], [Fixed()]):
        assert row.accuracy == pytest.approx(1 / row.way)  # queries are balanced
        assert row.correct == row.query_count // row.way


def test_rows_agree_with_a_direct_computation(reader, backbones):
    (row,) = evaluate(reader, backbones[:1], ["prototypical"], episodes=1)
    episode = reader[0]
    with torch.inference_mode():
        support = backbones[0].embed(episode.support_images)
        query = backbones[0].embed(episode.query_images)
    means = torch.stack([support[episode.support_labels == k].mean(0) for k in range(episode.way)])
    predicted = torch.cdist(query, means).argmin(1)
    assert row.correct == int((predicted == episode.query_labels).sum())
    assert (row.plan_hash, row.way) == (episode.plan.hash, episode.way)
    assert (row.support_size, row.query_count) == (len(support), len(query))
    assert (row.source, row.split, row.seed, row.index) == ("dtd", "test", 0, 0)
    by_class = [
        (class_id, shot, int((episode.query_labels == k).sum()))
        for k, (class_id, shot) in enumerate(
            zip(episode.plan.class_ids, episode.plan.shots, strict=True)
        )
    ]
    assert [c[:3] for c in row.classes] == by_class
    right = [int((predicted[episode.query_labels == k] == k).sum()) for k in range(episode.way)]
    assert [c.correct for c in row.classes] == right
    assert row.guesses == tuple(predicted.tolist())


def test_the_first_rows_keep_guesses_and_all_keep_what_heads_tell(reader, backbones, monkeypatch):
    monkeypatch.setattr(evaluation, "KEPT", 2)
    rows = evaluate(reader, backbones, ["sur", "prototypical"])
    kept = [row.index for row in rows if row.guesses]
    assert sorted(kept) == [0, 0, 0, 1, 1, 1]
    for row in rows:
        assert len(row.guesses) in (0, row.query_count)
        assert (row.told.keys() == {"selection"}) is (row.head == "sur")
    assert all(sum(row.told["selection"]) == pytest.approx(1, abs=1e-3) for row in rows[:1])
    told = [row.told["selection"] for row in rows if row.head == "sur"]
    assert len(told) == 3 and all(len(weights) == 2 for weights in told)


TELLER = """
import torch
from dataclasses import dataclass
from fewshot.heads.batch import EpisodeHead

@dataclass(frozen=True)
class Teller(EpisodeHead):
    name = "teller"
    def fit_episodes(self, support):
        support.told["norm"] = support.features[0].norm(dim=2).mean(1)[:, None]
        support.told["nothing"] = torch.full((len(support.ways), 1), torch.nan)
        return lambda queries: queries.features[0][:, :, : support.members.shape[2]]
"""


def test_a_users_head_may_tell_of_itself(reader, backbones, tmp_path):
    (tmp_path / "mine.py").write_text(TELLER, encoding="utf-8")
    (row,) = evaluate(
        reader, backbones[:1], [build_head(f"{tmp_path / 'mine.py'}:Teller")], episodes=1
    )
    assert list(row.told) == ["norm"] and row.told["norm"][0] > 0


def test_windows_and_workers_do_not_move_a_row(reader, backbones, monkeypatch):
    heads = ["prototypical", "finetune:steps=5", "sur:steps=3"]
    expected = evaluate(reader, backbones, heads, episodes=5)
    monkeypatch.setattr(evaluation, "WINDOW", 2)
    assert evaluate(reader, backbones, heads, episodes=5) == expected


def test_finished_rows_are_not_computed_again(reader, backbones):
    expected = evaluate(reader, backbones[:1], ["prototypical", "sur:steps=3"])
    done = lambda label, plan: plan.index == 1 or label == "prototypical"  # noqa: E731
    found = evaluate(reader, backbones[:1], ["prototypical", "sur:steps=3"], done=done)
    assert found == [r for r in expected if r.head != "prototypical" and r.index != 1]


def test_nothing_is_read_when_all_is_done(reader, backbones, monkeypatch):
    monkeypatch.setattr(type(reader.images), "read", lambda *a: pytest.fail("an image was read"))
    assert evaluate(reader, backbones[:1], ["prototypical"], done=lambda *a: True) == []


def test_rows_come_as_soon_as_they_are_known(reader, backbones):
    heads = [build_head(name) for name in ("prototypical", "finetune:layers=all,steps=1")]
    evaluation = Evaluation(reader, backbones[:1], line_up(heads, ["resnet18"]), CPU)
    groups = [sorted((row.head, row.index) for row in rows) for rows in evaluation.rows(3)]
    frozen, tuned = groups[0][0][0], groups[1][0][0]
    assert groups == [
        *([(frozen, 0)], [(tuned, 0)]),
        *([(frozen, 1), (frozen, 2)], [(tuned, 1)], [(tuned, 2)]),
    ]


def test_a_head_that_tunes_the_backbone_leaves_it_alone(reader, backbones):
    before = {n: w.clone() for n, w in backbones[0].state_dict().items()}
    rows = evaluate(reader, backbones[:1], ["finetune:layers=all,steps=2"], episodes=1)
    assert len(rows) == 1
    assert all(torch.equal(w, before[n]) for n, w in backbones[0].state_dict().items())


def test_a_head_whose_scores_are_not_finite_fails_and_the_others_finish(reader, backbones):
    rows = evaluate(reader, backbones[:1], [Fixed(value=float("nan")), "prototypical"])
    failed = [row for row in rows if row.head == "fixed:value=nan"]
    assert [row.status for row in failed] == ["failed: gave scores that are not finite"] * 3
    assert all(row.accuracy is None for row in failed)
    others = [row for row in rows if row.head == "prototypical"]
    assert others == evaluate(reader, backbones[:1], ["prototypical"])


def test_a_heads_generator_is_a_function_of_plan_and_label(reader):
    draw = lambda plan, label: torch.rand(1, generator=head_generator(plan, label)).item()  # noqa: E731
    plans = [reader.plan(0), reader.plan(1)]
    assert draw(plans[0], "a") == draw(reader.plan(0), "a")
    assert len({draw(plan, label) for plan in plans for label in "ab"}) == 4


USERS = """
import time; from dataclasses import dataclass
import torch
from fewshot.heads import Head

@dataclass(frozen=True)
class Mine(Head):
    name = "mine"
    what: str = "none"
    def fit(self, support, labels, way, generator):
        if self.what == "raises":
            raise ValueError("oh no")
        if self.what == "exits":
            raise SystemExit(0)
        while self.what == "sleeps":
            time.sleep(0.01)
        while self.what == "swallows":
            try:
                time.sleep(0.01)
            except Exception:
                pass
        if self.what == "writes":
            labels.zero_()
        wrong = {"none": None, "array": 3, "row": torch.zeros(1, way)}
        wrong["narrow"] = torch.zeros(5, way - 1)
        right = lambda query: torch.zeros(len(query[0]), way, requires_grad=True)
        return (lambda query: wrong[self.what]) if self.what in wrong else right
"""


TOGETHER = """
import time; from dataclasses import dataclass
import torch
from fewshot.heads import EpisodeHead

@dataclass(frozen=True)
class Mine(EpisodeHead):
    name = "mine"
    sleeps: bool = False
    def fit_episodes(self, support):
        drawn = torch.stack([torch.rand(50, generator=one) for one in support.generators])
        while self.sleeps:
            time.sleep(0.01)
        if len(drawn) > 1:
            raise MemoryError
        return lambda queries: drawn[:, None, : support.members.shape[2]].expand(
            -1, queries.items.shape[1], -1
        )
"""


SPOILER = """
from fewshot.heads import Head

class Spoiler(Head):
    name = "spoiler"
    adapts_backbone = True
    def fit_backbone(self, backbone, images, labels, way, generator):
        backbone.train()
        next(backbone.parameters()).data.mul_(1.001)
        return lambda query: query.flatten(1)[:, :way]
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(USERS, encoding="utf-8")
    return lambda what: build_head(f"{tmp_path / 'mine.py'}:Mine:what={what}")


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("raises", r"failed: ValueError: oh no \(.*mine.py, line 12\)"),
        ("exits", r"failed: SystemExit: 0 \(.*line 14\)"),
        ("none", "failed: gave scores NoneType, not real numbers"),
        ("array", "failed: gave scores int"),
        ("narrow", r"failed: gave scores \[5, \d+\], not real numbers \[\d+, \d+\]"),
        ("row", r"failed: gave scores \[1, \d+\]"),
        ("sleeps", "failed: took more than 0.2 s"),
        ("swallows", "failed: took more than 0.2 s"),
    ],
)
def test_a_users_head_that_fails_has_failed_rows(reader, backbones, mine, what, status):
    rows = evaluate(reader, backbones[:1], [mine(what), "prototypical"], limit=0.2)
    found = [row.status for row in rows if row.head.startswith("mine")]
    assert len(found) == 3 and all(re.match(status, one) for one in found)
    assert sum(row.ok for row in rows if row.head == "prototypical") == 3


def test_a_head_that_takes_too_long_is_given_up(reader, backbones, mine):
    began = time.monotonic()
    rows = evaluate(reader, backbones[:1], [mine("sleeps")], episodes=30, limit=0.1)
    assert len(rows) == 30 and time.monotonic() - began < 60
    assert [row.status for row in rows[3:]] == ["failed: not tried after 3 that took too long"] * 27


def test_a_batch_that_fails_is_tried_by_halves_with_the_same_draws(reader, backbones, tmp_path):
    (tmp_path / "mine.py").write_text(TOGETHER, encoding="utf-8")
    head = build_head(f"{tmp_path / 'mine.py'}:Mine")
    together, alone = (
        evaluate(reader, backbones[:1], [head], episodes=4, max_bytes=size) for size in (2**30, 1)
    )
    assert together == alone and all(row.ok for row in alone)


def test_a_batch_that_takes_too_long_is_given_up(reader, backbones, tmp_path):
    (tmp_path / "mine.py").write_text(TOGETHER, encoding="utf-8")
    head = build_head(f"{tmp_path / 'mine.py'}:Mine:sleeps=true")
    rows = evaluate(reader, backbones[:1], [head], episodes=7, max_bytes=2**30, limit=0.1)
    assert len(rows) == 7 and {row.status for row in rows} == {
        "failed: took more than 0.1 s",
        "failed: not tried after 3 that took too long",
    }


def test_a_head_that_changes_the_backbone_fails_and_it_is_put_back(reader, backbones, tmp_path):
    (tmp_path / "mine.py").write_text(SPOILER, encoding="utf-8")
    before = {name: value.clone() for name, value in backbones[0].state_dict().items()}
    spoiler = build_head(f"{tmp_path / 'mine.py'}:Spoiler")
    (row,) = evaluate(reader, backbones[:1], [spoiler], episodes=1)
    assert row.status == "failed: changed the backbone, which was put back"
    assert all(torch.equal(v, before[k]) for k, v in backbones[0].state_dict().items())
    assert not backbones[0].training


def test_a_head_of_the_project_with_a_wrong_setting_stops_with_a_message(reader, backbones):
    with pytest.raises(InputError, match="Train one with train-urt"):
        evaluate(reader, [backbones[0], backbones[1]], ["urt"])


def test_memory_moves_no_row(reader, backbones):
    heads = ["prototypical", "sur:steps=3", "mahalanobis", "bd_cspn", "knn"]
    expected = evaluate(reader, backbones, heads, episodes=5)
    for max_bytes in (0, 10**7, 10**9):
        assert evaluate(reader, backbones, heads, episodes=5, max_bytes=max_bytes) == expected


def test_an_episode_of_one_class_or_without_queries_is_refused(reader, backbones, monkeypatch):
    plan = reader.plan(0)
    for found, message in (
        (replace(plan, **one_class(plan)), "episode 0 has one class"),
        (replace(plan, **no_queries(plan)), "episode 0 has no query image"),
    ):
        monkeypatch.setattr(type(reader), "plan", lambda self, index, found=found: found)
        with pytest.raises(InputError, match=message):
            evaluate(reader, backbones[:1], ["prototypical"], episodes=1)


def test_a_head_cannot_change_the_plan_for_the_next(reader, backbones, mine):
    alone = evaluate(reader, backbones[:1], ["prototypical"])
    both = evaluate(reader, backbones[:1], [mine("writes"), "prototypical"])
    assert [row for row in both if row.head == "prototypical"] == alone
