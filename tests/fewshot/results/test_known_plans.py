"""Episodes are known by their hashes: those of the lists, and no others."""

from dataclasses import replace
from pathlib import Path

import pytest

from episodes.faults import InputError
from episodes.plan_file import draw_plans, write_plans
from episodes.sampling import EpisodeSampler
from episodes.source import find_spec
from fewshot.results.collection import collect_runs
from fewshot.results.frames import load_runs
from fewshot.results.known_plans import KnownPlans, faults_of_plans, read_known, write_known

EPISODES = 4


@pytest.fixture(scope="module")
def plans(miniature: Path):
    return draw_plans(EpisodeSampler(find_spec(miniature, "dtd"), "test"), 0, EPISODES)


@pytest.fixture
def run(plans, tmp_path: Path, fill):
    """A run on the planned episodes, and its rows."""
    rules = {"name": "md-v1", "version": 1, "hash": plans.protocol.hash}
    fill(tmp_path, {("sur", "dtd"): 0.5, ("finetune", "dtd"): 0.6}, EPISODES + 1, protocol=rules)
    (stored,) = collect_runs(tmp_path).runs
    rows = load_runs([stored]).episodes.copy()
    hashes = {plan.index: plan.hash for plan in plans.plans}
    rows["plan"] = [hashes.get(index, "further") for index in rows["index"]]
    return stored.run, rows


def test_known_episodes(plans, run) -> None:
    for benchmark in ("Meta-Dataset", ""):
        assert faults_of_plans(*run, [KnownPlans.of(plans, benchmark)]) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hash": "0" * 16}, "on dtd the test episodes of seed 0 are not those known"),
        ({"seed": 1}, "are on no list of known episodes"),
        ({"split": "valid"}, "are on no list"),
        ({"protocol_hash": "other"}, "are on no list"),
        ({"source": "fungi"}, "are on no list"),
        ({"benchmark": "miniature v1"}, "are those of miniature v1, not of Meta-Dataset"),
        ({"episodes": 9}, "known as lists of 9, and the run has no more than the first 5"),
    ],
)
def test_others_are_named(plans, run, change, words) -> None:
    known = replace(KnownPlans.of(plans, "Meta-Dataset"), **change)
    (fault,) = faults_of_plans(*run, [known])
    assert words in fault and "protocol md-v1 (" in fault


def test_any_list_may_hold_them(plans, run) -> None:
    right = KnownPlans.of(plans, "Meta-Dataset")
    others = [replace(right, benchmark="miniature v1"), replace(right, hash="0" * 16)]
    assert faults_of_plans(*run, [*others, right]) == []


def test_a_gap_is_not_skipped(plans, run) -> None:
    stored, rows = run
    (fault,) = faults_of_plans(stored, rows[rows["index"] != 2], [KnownPlans.of(plans)])
    assert "no more than the first 2" in fault


def test_lists_in_files(plans, tmp_path: Path) -> None:
    known = [KnownPlans.of(plans, "Meta-Dataset")]
    write_known(known, tmp_path / "plans.csv")
    assert read_known(tmp_path / "plans.csv") == known
    write_plans(plans, tmp_path / "dtd.parquet")
    assert read_known(tmp_path / "dtd.parquet") == [replace(known[0], benchmark="")]


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "\x00", None, "benchmark,protocol\nx\n", b"\xff\xfe", "SEED"]
)
def test_files_that_are_no_lists(plans, tmp_path: Path, text) -> None:
    path = tmp_path / "plans.csv"
    if text == "SEED":
        write_known([KnownPlans.of(plans)], path)
        text = path.read_text(encoding="utf-8").replace(",test,0,", ",test,zero,")
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"plans\.csv"):
        read_known(path)
