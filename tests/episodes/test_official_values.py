"""The sampler against the golden values and hashes of the official code (facts, section 3.6)."""

import hashlib
import json

import numpy as np
import pytest
from numpy.random import RandomState

from episodes import EpisodeProtocol, EpisodeSampler, Split, hash_plans
from episodes.sampling import official_generators, sample_dag_classes


def describe(spec, split, seed, count, **rules):
    sampler = EpisodeSampler(spec, split, EpisodeProtocol(**rules))
    rng = next(official_generators(seed))
    return [sampler.describe(rng) for _ in range(count)]


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


@pytest.mark.parametrize(("source", "split"), OFFICIAL_HASHES)
def test_600_official_episodes(official_spec, source, split):
    episodes = describe(official_spec(source), split, 1234, 600)
    compact = json.dumps(episodes, separators=(",", ":"))
    digest = hashlib.sha256(compact.encode()).hexdigest()
    assert digest[:16] == OFFICIAL_HASHES[source, split]


@pytest.mark.parametrize(
    ("source", "split", "nodes", "too_small", "too_large", "cut", "largest", "covered"),
    [
        ("ilsvrc_2012", "train", 113, 182, 4, 16, 392, 712),
        ("ilsvrc_2012", "valid", 18, 24, 0, 4, 158, 158),
        ("ilsvrc_2012", "test", 15, 35, 0, 1, 130, 130),
        ("ilsvrc_2012_v2", "train", 145, 247, 7, 19, 358, 994),
    ],
)
def test_nodes_of_imagenet(
    official_spec, source, split, nodes, too_small, too_large, cut, largest, covered
):
    """The table of facts, section 3.4."""
    spec = official_spec(source)
    sampler = EpisodeSampler(spec, split)
    spans = [len(span) for span in spec.ontology[Split(split)].spanned_leaves.values()]
    assert len(sampler.nodes) == nodes
    assert (sum(s < 5 for s in spans), sum(s > 392 for s in spans)) == (too_small, too_large)
    assert sum(len(node) > 50 for node in sampler.nodes) == cut
    assert max(map(len, sampler.nodes)) == largest
    assert len(set().union(*sampler.nodes)) == covered


def test_the_six_classes_of_imagenet_v2_that_never_appear(official_spec):
    spec = official_spec("ilsvrc_2012_v2")
    sampler, rng = EpisodeSampler(spec, "train"), RandomState(0)
    seen = set()
    for _ in range(20_000):
        seen.update(sample_dag_classes(rng, sampler.nodes, sampler.protocol))
    words = spec.ontology[Split.TRAIN].words
    never = [words[name] for i, name in enumerate(spec.class_names) if i not in seen]
    assert len(never) == 6
    for word in ("stage", "pillow", "necklace", "daisy", "teddy", "yellow lady's slipper"):
        assert any(word in name for name in never)


@pytest.mark.parametrize(
    ("source", "classes"),
    [
        ("aircraft", 15),
        ("cu_birds", 30),
        ("dtd", 7),
        ("quickdraw", 52),
        ("fungi", 200),
        ("vgg_flower", 16),
        ("traffic_sign", 43),
        ("mscoco", 40),
    ],
)
def test_mean_ways_of_official_test_plans(official_spec, source, classes):
    """Uniform from 5 to at most 50: the mean is known, and so is the error of 600 draws."""
    sampler = EpisodeSampler(official_spec(source), "test")
    ways = [sampler.plan(0, i).way for i in range(600)]
    most = min(50, classes)
    error = np.sqrt(((most - 5 + 1) ** 2 - 1) / 12 / 600)
    assert abs(np.mean(ways) - (5 + most) / 2) < 4 * error
    assert (min(ways), max(ways)) == (5, most)


OFFICIAL_PLANS = {
    "ilsvrc_2012": "a6d8181d228e3471",
    "omniglot": "968551071e73cd91",
    "aircraft": "bdb56ceacc8638c3",
    "cu_birds": "09c6600ec7e671a1",
    "dtd": "98d495217fe4754c",
    "quickdraw": "2c90e69d64ba197e",
    "fungi": "2afd6749f33b4b49",
    "vgg_flower": "240ec256ed8a9b26",
    "traffic_sign": "afe90eb2dbcdb037",
    "mscoco": "ad273da6b3926779",
}
"""Hashes of test episodes 0 to 599 of seed 0: published results name them."""


@pytest.mark.parametrize("source", OFFICIAL_PLANS)
def test_official_plans_are_pinned(official_spec, source):
    sampler = EpisodeSampler(official_spec(source), "test")
    assert hash_plans([sampler.plan(0, i) for i in range(600)]) == OFFICIAL_PLANS[source]
