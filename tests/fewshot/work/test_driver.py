"""Pieces, and how they are given out, to crews that die as they are told."""

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from episodes import EpisodeReader
from fewshot.backbones import build_backbone
from fewshot.evaluation import Evaluation, line_up
from fewshot.heads import HEADS, build_head
from fewshot.shard import Shard
from fewshot.work.crew import Died, Finished, Joined, Rows
from fewshot.work.driver import LIVES, share_out
from fewshot.work.piece import EPISODES, Embedding, Scoring, divide

CPU = torch.device("cpu")


class Deadly:
    """A crew that does nothing, in any order, and dies with pieces that hold something deadly."""

    def __init__(self, size, kills=lambda piece: False, seed=0):
        self.size, self.kills, self.draw = size, kills, random.Random(seed)
        self.waiting, self.queue, self.given, self.workers = {}, [], [], 0

    def __enter__(self):
        for _ in range(self.size):
            self.join()
        return self

    def __exit__(self, *exception):
        pass

    def join(self):
        self.queue.append(Joined(self.workers))
        self.workers += 1

    def give(self, worker, piece):
        assert worker not in self.waiting
        self.waiting[worker] = piece
        self.given.append(piece)

    def report(self, follow):
        if self.queue:
            return self.queue.pop(0)
        worker = self.draw.choice([*self.waiting])
        piece = self.waiting.pop(worker)
        if self.kills(piece):
            self.join()
            return Died(worker, "signal 9")
        self.queue.append(Finished(worker))
        return Rows(worker, [piece])


def done(pieces):
    """How often each thing in pieces was done."""
    return Counter(
        (piece.source, label, index)
        for piece in pieces
        for label in (piece.labels if isinstance(piece, Scoring) else ("image",))
        for index in (piece.indices if isinstance(piece, Scoring) else piece.places)
    )


def make_divisions(sources=3):
    for number in range(sources):
        name = f"source{number}"
        yield [
            *(Embedding(name, tuple(range(k, k + 5))) for k in range(0, 20, 5)),
            *(Scoring(name, ("a", "b"), tuple(range(k, k + 4))) for k in range(0, 12, 4)),
            *(Scoring(name, ("tuned",), (k,), on_features=False) for k in range(4)),
        ]


@pytest.mark.parametrize("size", [1, 2, 7, 50])
def test_everything_is_done_once(size):
    crew = Deadly(size)
    found = [rows[0] for _, rows in share_out(make_divisions(), crew)]
    expected = done(piece for division in make_divisions() for piece in division)
    assert done(found) == expected and set(expected.values()) == {1}


@pytest.mark.parametrize("seed", range(5))
def test_images_of_a_source_come_before_heads_on_them(seed):
    crew = Deadly(4, seed=seed)
    embedded = Counter()
    for piece, _ in share_out(make_divisions(), crew):
        if isinstance(piece, Embedding):
            embedded[piece.source] += 1
    order = [type(piece) for piece in crew.given if piece.source == "source0"]
    last = max(n for n, kind in enumerate(order) if kind is Embedding)
    assert all(
        not piece.on_features
        for piece in [p for p in crew.given if p.source == "source0"][:last]
        if isinstance(piece, Scoring)
    )
    assert embedded == {f"source{n}": 4 for n in range(3)}


@pytest.mark.parametrize("seed", range(5))
def test_what_kills_is_found_and_given_up_and_the_rest_is_done(seed):
    def kills(piece):
        return isinstance(piece, Scoring) and "b" in piece.labels and 5 in piece.indices

    crew = Deadly(3, kills, seed)
    found, lost = [], []
    for piece, rows in share_out(make_divisions(), crew):
        (lost.append(piece) if isinstance(rows, Died) else found.append(rows[0]))
    assert [(p.labels, p.indices) for p in lost] == [(("b",), (5,))] * 3
    expected = done(piece for division in make_divisions() for piece in division)
    assert done(found) + done(lost) == expected
    alone = Counter(piece for piece in crew.given if piece in lost)
    assert set(alone.values()) == {LIVES}


@pytest.mark.parametrize("seed", range(5))
def test_random_deaths_lose_nothing(seed):
    draw = random.Random(seed)
    crew = Deadly(3, lambda piece: draw.random() < 0.2, seed)
    found = [rows[0] for _, rows in share_out(make_divisions(), crew) if not isinstance(rows, Died)]
    lost = done(piece for division in make_divisions() for piece in division) - done(found)
    assert sum(lost.values()) <= 3  # three deaths in a row with one thing: 0.8 % of 84


def test_without_work_nobody_is_called():
    class Nobody(Deadly):
        def __enter__(self):
            raise AssertionError

    assert list(share_out(iter([[], []]), Nobody(2))) == []


def test_halves():
    piece = Scoring("dtd", ("a", "b", "c"), (4,), frozenset({("a", 4)}))
    assert [half.labels for half in piece.halves()] == [("a", "b"), ("c",)]
    assert [half.indices for half in replace(piece, indices=(4, 7, 9)).halves()] == [(4, 7), (9,)]
    assert Embedding("dtd", (3,)).halves() == [Embedding("dtd", (3,))]


def test_shards_part_the_episodes():
    for count in (0, 1, 7, 600):
        parts = [Shard.parse(f"{part}/4").of(count) for part in (1, 2, 3, 4)]
        assert sorted(index for part in parts for index in part) == list(range(count))
    assert Shard.parse("2/4").of(600)[:3] == Shard.parse("2/4").of(1200)[:3] == range(1, 13, 4)
    assert Shard.parse(None).is_whole and not Shard.parse(" 1 / 2 ").is_whole


@pytest.fixture(scope="module")
def given(miniature):
    reader = EpisodeReader(miniature, "dtd", "test", size=32)
    return reader, [build_backbone("resnet18", 3, 0).eval()]


def test_pieces_of_a_source(given):
    reader, backbones = given
    heads = [build_head(text) for text in ("prototypical", "pmf", "knn")]
    entries = line_up(heads, ["resnet18"])
    evaluation = Evaluation(reader, backbones, entries, CPU)
    plans = evaluation.plans(100)
    stored = {"prototypical": {0: "x"}, "pmf": {1: "x"}, "knn": dict.fromkeys(range(100), "x")}
    pieces = divide(plans, entries, stored, evaluation.store, 2)
    images = [place for p in pieces if isinstance(p, Embedding) for place in p.places]
    assert images == evaluation.store.missing(plans[1:]).tolist()
    scoring = [piece for piece in pieces if isinstance(piece, Scoring)]
    assert done(scoring) == Counter(
        [("dtd", "prototypical", n) for n in range(1, 100)]
        + [("dtd", "pmf", n) for n in range(100) if n != 1]
    )
    assert all(len(p.indices) <= EPISODES for p in scoring)
    (alone,) = divide(plans, entries, stored, evaluation.store, 1)
    assert alone.labels == ("prototypical", "pmf") and len(alone.indices) == 100
    everything = {label: dict.fromkeys(range(100), "x") for label in stored}
    assert divide(plans, entries, everything, evaluation.store, 2) == []
    assert divide([], entries, stored, evaluation.store, 2) == []


FEW_STEPS = {"steps": 2, "epochs": 2, "iterations": 2}


@pytest.mark.parametrize("name", [name for name in HEADS if name != "urt"])
def test_what_shares_a_batch_moves_no_guess(given, name):
    reader, backbones = given
    known = HEADS[name].__dataclass_fields__
    head = build_head(name, **{k: v for k, v in FEW_STEPS.items() if k in known})
    count = 2 if head.adapts_backbone else 6

    def guesses(*parts):
        found = {}
        for part in parts:
            evaluation = Evaluation(reader, backbones, line_up([head], ["resnet18"]), CPU)
            for rows in evaluation.rows(part):
                found |= {row.index: (row.status, row.correct, row.guesses) for row in rows}
        return dict(sorted(found.items()))

    together = guesses(list(range(count)))
    assert guesses(*([n] for n in reversed(range(count)))) == together
    assert guesses(list(range(1, count)), [0]) == together
    assert {status for status, *_ in together.values()} == {"ok"}
