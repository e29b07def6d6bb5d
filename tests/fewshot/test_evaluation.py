"""Heads on episodes: labels of rows, accuracy, keys, resumption."""

from dataclasses import dataclass, replace

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


def evaluate(reader, backbones, heads, episodes=3, **kwargs):
    made = [build_head(h) if isinstance(h, str) else h for h in heads]
    entries = line_up(made, [backbone.name for backbone in backbones])
    rows = Evaluation(reader, backbones, entries, CPU).rows(episodes, **kwargs)
    return [replace(row, seconds=0.0) for group in rows for row in group]


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


def test_a_head_that_tunes_the_backbone_leaves_it_alone(reader, backbones):
    before = {n: w.clone() for n, w in backbones[0].state_dict().items()}
    rows = evaluate(reader, backbones[:1], ["finetune:layers=all,steps=2"], episodes=1)
    assert len(rows) == 1
    assert all(torch.equal(w, before[n]) for n, w in backbones[0].state_dict().items())


def test_scores_that_are_not_finite_name_head_and_episode(reader, backbones):
    with pytest.raises(InputError, match="head fixed:value=nan: the scores of dtd episode 0"):
        evaluate(reader, backbones[:1], [Fixed(value=float("nan"))])


def test_a_heads_generator_is_a_function_of_plan_and_label(reader):
    draw = lambda plan, label: torch.rand(1, generator=head_generator(plan, label)).item()  # noqa: E731
    plans = [reader.plan(0), reader.plan(1)]
    assert draw(plans[0], "a") == draw(reader.plan(0), "a")
    assert len({draw(plan, label) for plan in plans for label in "ab"}) == 4


USERS = """
from dataclasses import dataclass
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
        if self.what == "writes":
            labels.zero_()
        wrong = {"none": None, "array": 3, "row": torch.zeros(1, way)}
        wrong["narrow"] = torch.zeros(5, way - 1)
        right = lambda query: torch.zeros(len(query[0]), way, requires_grad=True)
        return (lambda query: wrong[self.what]) if self.what in wrong else right
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(USERS, encoding="utf-8")
    return lambda what: build_head(f"{tmp_path / 'mine.py'}:Mine:what={what}")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("raises", r"head mine:what=raises: fails on dtd episode 0: ValueError: oh no.*line 12"),
        ("exits", "fails on dtd episode 0: SystemExit"),
        ("none", "gives scores NoneType"),
        ("array", "gives scores int"),
        ("narrow", r"gives scores \[5, \d+\] for dtd episode 0, not real numbers"),
        ("row", r"gives scores \[1, \d+\]"),
    ],
)
def test_a_users_head_that_fails_is_one_message(reader, backbones, mine, what, message):
    with pytest.raises(InputError, match=message):
        evaluate(reader, backbones[:1], [mine(what)])


def test_a_head_cannot_change_the_plan_for_the_next(reader, backbones, mine):
    alone = evaluate(reader, backbones[:1], ["prototypical"])
    both = evaluate(reader, backbones[:1], [mine("writes"), "prototypical"])
    assert [row for row in both if row.head == "prototypical"] == alone
