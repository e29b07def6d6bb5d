"""The sampler against the golden values and hashes of the official code, and its invariants."""

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import RandomState

from episodes import EpisodeProtocol, EpisodeSampler, InputError, Split, load_spec
from episodes.sampling import sample_images

SPECS = Path(__file__).parents[3] / "shared" / "data" / "dataset_specs"


def spec_in(folder, **entries):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_spec.json").write_text(json.dumps(entries))
    return load_spec(folder)


def numbered(values):
    return {str(number): value for number, value in enumerate(values)}


def make_flat(folder):
    sizes = [20, 35, 50, 8, 120, 600, 15, 3]
    return spec_in(
        folder,
        __class__="DatasetSpecification",
        name="flat",
        classes_per_split={"TRAIN": 8, "VALID": 0, "TEST": 0},
        images_per_class=numbered(sizes),
        class_names=numbered("abcdefgh"),
        file_pattern="{}.tfrecords",
    )


def make_bilevel(folder):
    return spec_in(
        folder,
        __class__="BiLevelDatasetSpecification",
        name="bilevel",
        superclasses_per_split={"TRAIN": 0, "VALID": 0, "TEST": 3},
        classes_per_superclass=numbered([5, 7, 9]),
        images_per_class=numbered([20] * 21),
        superclass_names=numbered("xyz"),
        class_names=numbered([f"c{i}" for i in range(21)]),
        file_pattern="{}.tfrecords",
    )


def make_dag(folder):
    leaves = [f"n{i:02d}" for i in range(12)]
    spans = {"n90": ["n91", "n92"], "n91": leaves[:6], "n92": leaves[5:]}
    nodes = [
        {"wn_id": node, "words": "", "children_ids": spans.get(node, []), "parents_ids": []}
        for node in [*leaves, *spans]
    ]
    counts = {leaf: 30 + 10 * i for i, leaf in enumerate(leaves)}
    return spec_in(
        folder,
        __class__="HierarchicalDatasetSpecification",
        name="dag",
        split_subgraphs={"TRAIN": nodes, "VALID": [], "TEST": []},
        images_per_class={"TRAIN": counts, "VALID": {}, "TEST": {}},
        class_names=numbered(leaves),
        file_pattern="{}.tfrecords",
    )


@pytest.fixture
def flat(tmp_path):
    return make_flat(tmp_path)


@pytest.fixture
def bilevel(tmp_path):
    return make_bilevel(tmp_path)


@pytest.fixture
def dag(tmp_path):
    return make_dag(tmp_path)


def describe(spec, split, seed, count, **rules):
    sampler = EpisodeSampler(spec, split, EpisodeProtocol(**rules))
    rng = RandomState(RandomState(seed).randint(0, 2**32, dtype=np.uint32))
    return [sampler.describe(rng) for _ in range(count)]


# ---- golden values: fact sheet, section 3.6 --------------------------------------------------


def test_flat_golden(flat):
    assert describe(flat, "train", 7, 3) == [
        [(3, 1, 1), (4, 12, 1), (6, 3, 1), (2, 8, 1), (7, 1, 1), (5, 42, 1), (0, 4, 1), (1, 5, 1)],
        [(0, 3, 4), (5, 93, 4), (6, 1, 4), (1, 5, 4), (3, 1, 4)],
        [(6, 3, 4), (4, 37, 4), (3, 2, 4), (0, 4, 4), (1, 8, 4), (5, 115, 4), (2, 13, 4)],
    ]


def test_flat_with_large_classes_only_golden(flat):
    assert describe(flat, "train", 7, 1, min_examples_in_class=10) == [
        [(2, 6, 7), (5, 54, 7), (4, 21, 7), (6, 5, 7), (0, 6, 7), (1, 7, 7)]
    ]


def test_fixed_way_and_shot_golden(flat):
    episodes = describe(flat, "train", 7, 2, ways=5, shots=1, queries=2)
    assert [[c for c, _, _ in e] for e in episodes] == [[3, 4, 5, 2, 6], [0, 1, 7, 5, 6]]
    assert {(k, q) for e in episodes for _, k, q in e} == {(1, 2)}


def test_shot_range_golden(flat):
    rules = {"ways": 5, "shots": (1, 3), "min_examples_in_class": 10}
    episodes = describe(flat, "train", 7, 3, **rules)
    assert [[c for c, _, _ in e] for e in episodes] == [
        [2, 5, 4, 6, 0],
        [0, 1, 6, 2, 5],
        [2, 5, 6, 0, 1],
    ]
    assert [{(k, q) for _, k, q in e} for e in episodes][::2] == [{(1, 10)}] * 2
    assert {k for _, k, _ in episodes[1]} == {3}


def test_bilevel_golden(bilevel):
    assert describe(bilevel, "test", 7, 3) == [
        [(3, 1, 10), (4, 2, 10), (0, 4, 10), (2, 3, 10), (1, 2, 10)],
        [(1, 6, 10), (3, 5, 10), (4, 6, 10), (0, 9, 10), (2, 6, 10)],
        [(6, 4, 10), (7, 1, 10), (11, 2, 10), (8, 2, 10), (5, 4, 10), (10, 2, 10), (9, 2, 10)],
    ]


def test_dag_golden(dag):
    assert describe(dag, "train", 7, 4, max_ways=6) == [
        [(8, 74, 10), (1, 17, 10), (6, 80, 10), (11, 118, 10), (7, 37, 10), (10, 72, 10)],
        [(5, 19, 10), (3, 39, 10), (8, 20, 10), (7, 27, 10), (4, 17, 10), (2, 29, 10)],
        [(10, 20, 10), (11, 15, 10), (7, 19, 10), (6, 27, 10), (5, 22, 10), (9, 17, 10)],
        [(0, 20, 10), (1, 18, 10), (2, 12, 10), (3, 50, 10), (4, 60, 10), (5, 50, 10)],
    ]


OFFICIAL_HASHES = {
    ("ilsvrc_2012", "train"): "c08b8704b31bcedc",
    ("ilsvrc_2012", "valid"): "2c223a1823362757",
    ("ilsvrc_2012", "test"): "bbef5e08a6470db9",
    ("ilsvrc_2012_v2", "train"): "9480069ffebc4da1",
    ("omniglot", "train"): "ac65d9ed7c509cc9",
    ("omniglot", "valid"): "18a0034918f3a17d",
    ("omniglot", "test"): "b7d66512a567f73e",
    ("aircraft", "train"): "c8925adbfa3486d6",
    ("aircraft", "valid"): "d6bfa56239d512a0",
    ("aircraft", "test"): "d6bfa56239d512a0",
    ("cu_birds", "test"): "2893cdd0f9396755",
    ("dtd", "test"): "bea6304a241bd6d2",
    ("quickdraw", "test"): "76bc6be2de0dc020",
    ("fungi", "train"): "3705d7e988e2d9c9",
    ("fungi", "test"): "45a777b1ccb6b2dc",
    ("vgg_flower", "test"): "cd000e6a28458dfb",
    ("traffic_sign", "test"): "6faaea84b9d728c9",
    ("mscoco", "valid"): "29f49d3bb2fcd2e6",
    ("mscoco", "test"): "93b89444ce17c1ee",
}


@pytest.mark.skipif(not SPECS.is_dir(), reason="the official specifications are not at hand")
@pytest.mark.parametrize(("source", "split"), OFFICIAL_HASHES)
def test_600_official_episodes(source, split, tmp_path):
    shutil.copy(SPECS / f"{source}_dataset_spec.json", tmp_path / "dataset_spec.json")
    episodes = describe(load_spec(tmp_path), split, 1234, 600)
    compact = json.dumps(episodes, separators=(",", ":"))
    digest = hashlib.sha256(compact.encode()).hexdigest()
    assert digest[:16] == OFFICIAL_HASHES[source, split]


# ---- plans -----------------------------------------------------------------------------------


def test_plan_is_a_function_of_its_key(flat):
    sampler = EpisodeSampler(flat, "train")
    alone = sampler.plan(3, 17)
    for index in range(17):
        sampler.plan(3, index)
    assert sampler.plan(3, 17).hash == alone.hash
    assert EpisodeSampler(flat, Split.TRAIN).plan(3, 17).hash == alone.hash
    others = [(3, 16), (3, 18), (2, 17), (4, 17), (4, 16), (17, 3)]
    hashes = {sampler.plan(*key).hash for key in others} | {alone.hash}
    assert len(hashes) == len(others) + 1


def test_plan_hash_is_pinned(flat):
    """A change here means that every published episode has changed: raise the version."""
    assert EpisodeSampler(flat, "train").plan(0, 0).hash == "9a20891764850c4e"


def test_neighbouring_seeds_share_no_episode(flat):
    sampler = EpisodeSampler(flat, "train")
    zero, one = ({tuple(sampler.plan(s, i).support_images) for i in range(50)} for s in (0, 1))
    assert not zero & one


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**40), index=st.integers(0, 10**6), kind=st.sampled_from(range(3)))
def test_plan_invariants(seed, index, kind, each_kind):
    spec, split = each_kind[kind]
    sampler = EpisodeSampler(spec, split)
    plan, protocol = sampler.plan(seed, index), sampler.protocol
    first = spec.split_classes[Split(split)].start
    sizes = sampler.class_sizes[plan.class_ids - first]
    assert len(set(plan.class_ids)) == plan.way
    assert protocol.min_ways <= plan.way <= protocol.max_ways
    assert all(np.diff(plan.support_labels) >= 0) and all(np.diff(plan.query_labels) >= 0)
    queries = np.bincount(plan.query_labels, minlength=plan.way)
    assert set(queries) == {min(10, min(sizes) // 2)}
    assert plan.shots.min() >= 1 and plan.shots.sum() <= protocol.max_support
    for label, size in enumerate(sizes):
        support = plan.support_images[plan.support_labels == label]
        query = plan.query_images[plan.query_labels == label]
        together = [*support, *query]
        assert len(set(together)) == len(together) <= size
        assert min(together) >= 0 and max(together) < size


@pytest.fixture(scope="module")
def each_kind(tmp_path_factory):
    folder = tmp_path_factory.mktemp("specs")
    return [
        (make_flat(folder / "flat"), "train"),
        (make_bilevel(folder / "bilevel"), "test"),
        (make_dag(folder / "dag"), "train"),
    ]


def test_every_image_is_equally_likely_wherever_it_lies():
    rng = RandomState(0)
    counts = Counter(
        int(i) for _ in range(6000) for i in sample_images(rng, np.array([12]), [5])[0]
    )
    expected = 6000 * 5 / 12
    chi2 = sum((counts[i] - expected) ** 2 / expected for i in range(12))
    assert chi2 < 31.3  # 99.9 % point of chi-squared with 11 degrees of freedom


@given(st.integers(1, 400), st.data())
def test_drawn_images_are_distinct(population, data):
    count = data.draw(st.integers(1, population))
    (drawn,) = sample_images(RandomState(count), np.array([population]), [count])
    assert len(set(drawn.tolist())) == count and drawn.min() >= 0 and drawn.max() < population


def test_a_draw_of_the_whole_class_is_a_permutation():
    assert sorted(sample_images(RandomState(5), np.array([300]), [300])[0]) == list(range(300))


# ---- refusals --------------------------------------------------------------------------------


def test_too_few_classes(flat):
    with pytest.raises(InputError, match="valid split has 0 classes"):
        EpisodeSampler(flat, "valid")


def test_fixed_ways_need_the_hierarchy_ignored(dag, bilevel):
    with pytest.raises(InputError, match="ignore_dag"):
        EpisodeSampler(dag, "train", EpisodeProtocol(ways=5))
    with pytest.raises(InputError, match="ignore_bilevel"):
        EpisodeSampler(bilevel, "test", EpisodeProtocol(ways=5))
    rules = EpisodeProtocol(ways=5, ignore_dag=True)
    assert len(EpisodeSampler(dag, "train", rules).describe(RandomState(0))) == 5


def test_a_class_too_small_for_the_shots(flat):
    sampler = EpisodeSampler(flat, "train", EpisodeProtocol(ways=8, shots=5, queries=2))
    with pytest.raises(InputError, match="cannot give 5 support and 2 query"):
        sampler.describe(RandomState(0))


def test_unknown_split_and_protocol(flat):
    with pytest.raises(InputError, match="Did you mean 'valid'"):
        EpisodeSampler(flat, "validd")
    with pytest.raises(InputError, match="unknown protocol 'md-v9'"):
        EpisodeSampler(flat, "train", "md-v9")
