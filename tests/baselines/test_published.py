"""The published leaderboards are reproduced to the last digit, and own rows find their place."""

import csv
import json
import math
from collections import Counter
from pathlib import Path

import pytest

from baselines.published import place_among, read_known_plans, read_published, read_references
from episodes.plan_file import draw_plans
from episodes.protocol import PROTOCOLS, SOURCES, Split, find_protocol
from episodes.sampling import EpisodeSampler
from episodes.source import find_spec
from episodes.spec import parse_spec
from fewshot.results.frames import load
from fewshot.results.leaderboard import COLUMNS, TRAININGS, build_leaderboard
from fewshot.results.methods import find_methods

PROJECT = Path(__file__).resolve().parents[2]
SHARED = Path("/work/shared/data/published_results.csv")
OFFICIAL = f"md-v1 ({find_protocol('md-v1').hash})"


def ranks_of_the_notebook(means, intervals):
    """Ranks of one column, in percent, as the leaderboard's notebook computes them.

    Written from its description alone: standard deviations from intervals, a two-sided z-test at
    95 % of every remaining row against the best remaining one.
    """
    deviation = [ci * math.sqrt(600) / 1.96 for ci in intervals]
    ranks, left, place = [0.0] * len(means), list(range(len(means))), 1
    while left:
        best = next(i for i in left if means[i] == max(means[j] for j in left))
        tied = [
            i
            for i in left
            if i == best
            or not abs(means[best] - means[i])
            > 1.96 * math.sqrt(deviation[best] ** 2 / 600 + deviation[i] ** 2 / 600)
        ]
        for i in tied:
            ranks[i] = place + (len(tied) - 1) / 2
        left = [i for i in left if i not in tied]
        place += len(tied)
    return ranks


@pytest.mark.parametrize(("training", "methods"), [("imagenet", 16), ("all", 19)])
def test_ranks_and_marks_are_those_of_the_notebook(training, methods):
    board = build_leaderboard("", training, read_published(training))
    assert board.ranked == methods
    rows = board.entries[:methods]
    columns = []
    for column in COLUMNS.values():
        cells = [entry.cells[column] for entry in rows]
        means, intervals = ([round(100 * v, 2) for v in part] for part in (
            [cell.mean for cell in cells], [cell.ci for cell in cells]
        ))  # fmt: skip
        columns.append(ranks_of_the_notebook(means, intervals))
    expected = [list(ranks) for ranks in zip(*columns, strict=True)]
    assert [list(ranks) for ranks in board.table.ranks[:methods]] == expected
    averages = [sum(ranks) / 10 for ranks in expected]
    assert board.table.average_ranks[:methods] == pytest.approx(averages, abs=1e-12)
    assert [list(best) for best in board.table.best[:methods]] == [
        [rank == min(column) for rank, column in zip(ranks, columns, strict=True)]
        for ranks in expected
    ]
    assert {board.table.heads[h] for h, best in enumerate(board.table.best_average) if best} == {
        {"imagenet": "DIPA", "all": "TSA"}[training]
    }


def test_a_row_more_moves_ranks_only_as_it_should():
    # The state of the ImageNet table before DIPA came is recorded from the README of that time.
    lines = (PROJECT / "tests/fewshot/results/published_ranks.txt").read_text("utf-8").splitlines()
    recorded = {line.split("; ")[0]: float(line.split("; ")[1]) for line in lines[2:]}
    before = [e for e in read_published("imagenet") if e.method in recorded]
    found = build_leaderboard("", "imagenet", before).table
    averages = dict(zip(found.heads, found.average_ranks, strict=True))
    assert averages == pytest.approx(recorded, abs=1e-12)


def test_recent_results_have_no_interval_and_no_rank():
    for training in TRAININGS:
        board = build_leaderboard("", training, read_published(training))
        recent = board.entries[board.ranked :]
        assert len(recent) == {"imagenet": 4, "all": 5}[training]
        for h, entry in enumerate(recent, start=board.ranked):
            assert "without intervals" in entry.why_unranked[0] and entry.backbone
            assert board.table.average_ranks[h] is None
            assert all(cell.ci is None for cell in entry.cells.values())


def test_every_number_has_its_reference():
    references = read_references()
    assert [ref.number for ref in references.values()] == list(range(1, len(references) + 1))
    used = set()
    for training in TRAININGS:
        for entry in read_published(training):
            assert entry.references and set(entry.cells) == set(COLUMNS.values())
            used |= set(entry.references)
    assert used == set(references.values())
    assert all(ref.url.startswith("https://") and ref.citation for ref in used)


@pytest.mark.skipif(not SHARED.exists(), reason="the independent copy of the table is not here")
def test_the_numbers_are_those_of_an_independent_copy():
    with SHARED.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 350
    ours = {(t, e.method): e for t in TRAININGS for e in read_published(t)}
    for row in rows:
        cell = ours[row["training"], row["method"]].cells[row["source"]]
        assert round(100 * cell.mean, 9) == float(row["accuracy"])
        assert round(100 * cell.ci, 9) == float(row["ci95"])
        assert cell.episodes == int(row["episodes"])


# ---- own rows --------------------------------------------------------------------------------


def own(fill, folder, heads=(("mine", 0.9),), sources=SOURCES, episodes=600, **changes):
    makings = {"protocol": {"name": "md-v1", "version": 1, "hash": find_protocol("md-v1").hash}}
    skills = {(head, source): skill for head, skill in heads for source in sources}
    fill(folder, skills, episodes, **(makings | changes))
    return find_methods(load(folder))


def test_a_complete_row_is_slotted_in(tmp_path, fill):
    methods = own(fill, tmp_path)
    board = place_among(methods, "imagenet")
    assert board.ranked == 17 and board.entries[16].method == "mine"
    assert methods[0].setting.protocol == OFFICIAL
    alone = build_leaderboard("", "imagenet", read_published("imagenet"))
    for h in range(16):
        assert board.table.cells[h] == alone.table.cells[h]
        for s in range(10):
            moved = board.table.ranks[h][s] - alone.table.ranks[h][s]
            assert 0 <= moved <= 1
    places = [sum(column) for column in zip(*board.table.ranks[:17], strict=True)]
    assert places == [17 * 18 / 2] * 10


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("miniature", {"benchmark": "miniature v1 (not Meta-Dataset), md-v1"}),
        ("protocol 5w1s", {"protocol": {"name": "5w1s", "version": 1, "hash": "b"}}),
        ("no results on Omniglot", {"sources": [s for s in SOURCES if s != "omniglot"]}),
        ("10 episodes, fewer than 600", {"episodes": 10}),
        ("valid classes", {"split": "valid"}),
        ("transductive", {"heads": [("mine (transductive)", 0.9)]}),
    ],
)
def test_a_row_that_may_not_be_ranked_says_why_and_moves_nobody(tmp_path, fill, reason, changes):
    changes = {"episodes": 2} | changes
    board = place_among(own(fill, tmp_path, **changes), "imagenet")
    assert board.ranked == 16
    assert any(reason in why for why in board.entries[-1].why_unranked)
    alone = build_leaderboard("", "imagenet", read_published("imagenet"))
    assert board.table.average_ranks[:16] == alone.table.average_ranks[:16]
    assert board.table.ranks[:16] == alone.table.ranks[:16]


def test_another_training_is_never_ranked(tmp_path, fill):
    methods = own(fill, tmp_path, episodes=2)
    (why,) = place_among(methods, "all").entries[-1:]
    assert "trained on ilsvrc_2012, 2 train classes" in why.why_unranked
    assert not any(
        "trained on" in w for w in place_among(methods, "imagenet").entries[-1].why_unranked
    )


def test_the_tables_hold_no_method_twice():
    for training in TRAININGS:
        assert set(Counter(e.method for e in read_published(training)).values()) == {1}


def specs_of(benchmark, miniature):
    """A function from the name of a source to its specification; None where it is not here."""
    if benchmark != "Meta-Dataset":
        return lambda source: find_spec(miniature, source)
    folder = SHARED.parent / "dataset_specs"
    if not folder.is_dir():
        pytest.skip("the official specifications are not here")

    def read(source):
        path = folder / f"{source}_dataset_spec.json"
        return parse_spec(json.loads(path.read_text(encoding="utf-8")), path)

    return read


@pytest.mark.parametrize("benchmark", ["miniature v1 (not Meta-Dataset)", "Meta-Dataset"])
def test_known_plans_are_those_drawn(benchmark, miniature):
    read_spec = specs_of(benchmark, miniature)
    known = [one for one in read_known_plans() if one.benchmark == benchmark]
    drawn = {}
    for one in known[:: len(known) // 4]:
        spec = drawn.setdefault(one.source, read_spec(one.source))
        sampler = EpisodeSampler(spec, one.split, one.protocol)
        plans = draw_plans(sampler, one.seed, one.episodes)
        assert plans.hash == one.hash and plans.protocol.hash == one.protocol_hash
        assert spec.fingerprint == one.specification


def test_every_protocol_is_known_whole():
    known = {(one.benchmark, one.protocol_hash, one.source, one.seed) for one in read_known_plans()}
    benchmarks = {benchmark for benchmark, *_ in known}
    assert len(benchmarks) == 2 and len(known) == len(read_known_plans())
    assert known == {
        (benchmark, protocol.hash, source, seed)
        for benchmark in benchmarks
        for protocol in PROTOCOLS.values()
        for source in protocol.sources(Split.TEST)
        for seed in range(5)
    }
