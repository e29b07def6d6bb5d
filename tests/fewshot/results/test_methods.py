"""Which runs make one row of a table, and which never share one."""

from pathlib import Path

import pytest

from episodes.faults import InputError
from fewshot.results import RowStore
from fewshot.results.aggregate import mean_and_interval
from fewshot.results.frames import load
from fewshot.results.methods import find_methods, sort_sources, table_of

SKILLS = {("sur", "dtd"): 0.5, ("finetune", "dtd"): 0.7, ("sur", "fungi"): 0.2}


def test_seeds_of_an_experiment_are_one_method(tmp_path: Path, fill) -> None:
    runs = [fill(tmp_path / str(seed), SKILLS, 5, seed) for seed in (0, 1)]
    finetune, sur = find_methods(load(tmp_path))
    assert (finetune.name, sur.name, sur.runs) == ("finetune", "sur", tuple(runs))
    assert sur.sources == ("dtd", "fungi") and len(sur.rows) == 20
    assert sur.pretraining == "ilsvrc_2012, 2 train classes" and not sur.transductive
    table = table_of([finetune, sur])
    expected = load(tmp_path).episodes.query("head == 'sur' and source == 'fungi'")["accuracy"]
    cell = table.cells[1][1]
    assert cell is not None and (cell.mean, cell.ci) == mean_and_interval(expected)
    assert cell.episodes == 10
    assert table.average_ranks[0] is None  # finetune misses fungi


def test_names_tell_methods_apart(tmp_path: Path, fill) -> None:
    fill(tmp_path / "a", SKILLS, 2)
    fill(tmp_path / "b", SKILLS, 2, image={"size": 126, "rule": "official"})
    names = [method.name for method in find_methods(load(tmp_path))]
    assert sorted(names) == [
        "finetune @ 126 px official",
        "finetune @ 84 px official",
        "sur @ 126 px official",
        "sur @ 84 px official",
    ]


def test_a_second_run_of_one_seed_is_never_pooled(tmp_path: Path, fill) -> None:
    fill(tmp_path, {("sur", "dtd"): 0.5}, 4)
    with RowStore(tmp_path / "rows.sqlite") as store:
        (run,) = store.runs()
        store.begin(run.settings, {"the head sur": "1"})
        other = store.begin(run.settings, {"the head sur": "2"})
        store.add(other.run, store.rows(run.id))
    first, second = find_methods(load(tmp_path))
    assert len(first.rows) == len(second.rows) == 4 and first.name != second.name


def test_settings_are_never_mixed(tmp_path: Path, fill) -> None:
    fill(tmp_path / "a", SKILLS, 2)
    fill(tmp_path / "b", SKILLS, 2, protocol={"name": "5w1s", "version": 1, "hash": "bbbb"})
    with pytest.raises(InputError, match=r"2 settings.*md-v1 \(aaaa\).*5w1s \(bbbb\)"):
        table_of(find_methods(load(tmp_path)))


def test_a_failed_episode_takes_the_rank(tmp_path: Path, fill) -> None:
    fill(tmp_path, {("a", "dtd"): 0.5, ("b", "dtd"): 0.7, ("c", "dtd"): 0.2}, 30)
    with RowStore(tmp_path / "rows.sqlite") as store:
        store._db.execute(
            "UPDATE episodes SET status = 'failed: x', accuracy = NULL, correct = 0 "
            "WHERE plan = 1 AND head = 1"
        )
    table = table_of(find_methods(load(tmp_path)))
    cell = table.cells[0][0]
    assert cell is not None and (cell.episodes, cell.failed) == (29, 1)
    assert table.average_ranks == (None, 1.0, 2.0)


def test_sources_are_in_the_benchmarks_order() -> None:
    names = ["mine", "mscoco", "omniglot", "a", "ilsvrc_2012"]
    assert sort_sources(names) == ("ilsvrc_2012", "omniglot", "mscoco", "a", "mine")


def test_nothing_is_no_method(tmp_path: Path) -> None:
    assert find_methods(load(tmp_path)) == []
