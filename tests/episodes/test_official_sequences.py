"""The sampler against a second one, written from the description of the official code.

The second sampler reads the raw JSON and shares no code with the project: it transcribes facts,
section 3.4, step by step, in the order A to E. Both get generators of the same seed, must give
the same episodes, refuse the same ones, and leave their generators in the same state.
"""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.random import RandomState

from episodes import EpisodeProtocol, EpisodeSampler, InputError, load_spec
from episodes.sampling import official_generators

DEFAULTS = {
    "num_ways": None,
    "num_support": None,
    "num_query": None,
    "min_ways": 5,
    "max_ways": 50,
    "max_num_query": 10,
    "max_support_set_size": 500,
    "max_contribution": 100,
    "log_weights": (-0.69314718055994529, 0.69314718055994529),
    "min_examples": 0,
    "max_leaves": 392,
    "hierarchy": True,
    "ignore_probability": 0.0,
}


class Refused(Exception):
    """The official code would raise here."""


# ---- the second sampler ----------------------------------------------------------------------


def read(raw, split):
    """Images per relative class id; then superclass sizes or (node → relative ids), or None."""
    order = ["TRAIN", "VALID", "TEST"]
    before = order[: order.index(split)]
    if raw["__class__"] == "DatasetSpecification":
        start = sum(raw["classes_per_split"][s] for s in before)
        count = raw["classes_per_split"][split]
        return [raw["images_per_class"][str(start + i)] for i in range(count)], None
    if raw["__class__"] == "BiLevelDatasetSpecification":
        first = sum(raw["superclasses_per_split"][s] for s in before)
        last = first + raw["superclasses_per_split"][split]
        per_superclass = [raw["classes_per_superclass"][str(i)] for i in range(last)]
        start, stop = sum(per_superclass[:first]), sum(per_superclass)
        sizes = [raw["images_per_class"][str(i)] for i in range(start, stop)]
        return sizes, per_superclass[first:]
    graph = {node["wn_id"]: node["children_ids"] for node in raw["split_subgraphs"][split]}
    names = {name: int(number) for number, name in raw["class_names"].items()}
    leaves = [node for node, children in graph.items() if not children]
    start = min(names[leaf] for leaf in leaves)
    sizes = [0] * len(leaves)
    for leaf in leaves:
        sizes[names[leaf] - start] = raw["images_per_class"][split][leaf]

    def below(node):
        if not graph[node]:
            return {node}
        return {leaf for child in graph[node] for leaf in below(child)}

    spans = {
        node: [names[leaf] - start for leaf in sorted(below(node))]
        for node, children in graph.items()
        if children
    }
    return sizes, spans


def second_sampler(raw, split, rules, r):
    """Episodes without end; raises Refused where the official code raises."""
    rules = {**DEFAULTS, **rules}
    sizes, hierarchy = read(raw, split)
    kept = [i for i in range(len(sizes)) if sizes[i] >= rules["min_examples"]]
    if len(kept) < rules["min_ways"]:
        raise Refused
    is_dag, is_bilevel = isinstance(hierarchy, dict), isinstance(hierarchy, list)
    use = rules["hierarchy"] and hierarchy is not None
    if use and rules["num_ways"] is not None:
        raise Refused
    if use and is_bilevel and rules["min_examples"] > 0:
        raise Refused
    eligible = []
    if is_dag:
        for node in sorted(hierarchy):
            classes = [i for i in hierarchy[node] if i in set(kept)]
            if rules["min_ways"] <= len(classes) <= rules["max_leaves"]:
                eligible.append(classes)
    while True:
        hierarchical = use and r.random_sample() < 1 - rules["ignore_probability"]
        if hierarchical and is_dag:  # A
            classes = eligible[r.randint(0, len(eligible))]
            if len(classes) > rules["max_ways"]:
                chosen = r.permutation(len(classes))[: rules["max_ways"]]
                classes = [classes[i] for i in chosen]
        elif hierarchical:  # B
            j = r.randint(0, len(hierarchy))
            if hierarchy[j] < rules["min_ways"]:
                raise Refused
            ways = r.randint(rules["min_ways"], min(rules["max_ways"], hierarchy[j]) + 1)
            offset = sum(hierarchy[:j])
            classes = [offset + i for i in r.permutation(hierarchy[j])[:ways]]
        else:  # C
            ways = rules["num_ways"]
            if ways is None:
                ways = r.randint(rules["min_ways"], min(rules["max_ways"], len(kept)) + 1)
            if ways > len(kept):
                raise Refused
            classes = [kept[i] for i in r.permutation(len(kept))[:ways]]
        n = [sizes[i] for i in classes]
        fixed = rules["num_support"]
        if rules["num_query"] is not None:  # D
            q = rules["num_query"]
        elif fixed is None:
            q = min(rules["max_num_query"], *(size // 2 for size in n))
        else:
            largest = fixed if isinstance(fixed, int) else fixed[1]
            q = min(rules["max_num_query"], *(size - largest for size in n))
        if q < 1:
            raise Refused
        if isinstance(fixed, int):  # E
            shots = [fixed] * len(n)
        elif fixed is not None:
            if any(fixed[1] + q > size for size in n):
                raise Refused
            shots = [r.randint(fixed[0], fixed[1] + 1)] * len(n)
        else:
            left = [size - q for size in n]
            if min(left) < 1 or len(n) > rules["max_support_set_size"]:
                raise Refused
            beta = r.uniform()
            total = sum(int(np.floor(beta * min(rules["max_contribution"], x) + 1)) for x in left)
            total = min(rules["max_support_set_size"], total)
            a = [r.uniform(*rules["log_weights"]) for _ in n]  # one double per class, in order
            w = np.array([size * np.exp(x) for size, x in zip(n, a, strict=True)])
            p = w / w.sum()
            k = [int(np.floor(x * (total - len(n)))) + 1 for x in p]
            shots = [min(x, most) for x, most in zip(k, left, strict=True)]
        if any(k + q > size for k, size in zip(shots, n, strict=True)):
            raise Refused
        yield [(int(i), int(k), q) for i, k in zip(classes, shots, strict=True)]


# ---- comparison ------------------------------------------------------------------------------


def as_protocol(rules):
    """The same rules in the project's words."""
    rules = {**DEFAULTS, **rules}
    return EpisodeProtocol(
        ways=rules["num_ways"],
        shots=rules["num_support"],
        queries=rules["num_query"],
        min_ways=rules["min_ways"],
        max_ways=rules["max_ways"],
        max_queries=rules["max_num_query"],
        max_support=rules["max_support_set_size"],
        max_support_per_class=rules["max_contribution"],
        min_log_weight=rules["log_weights"][0],
        max_log_weight=rules["log_weights"][1],
        min_examples_in_class=rules["min_examples"],
        max_leaves=rules["max_leaves"],
        ignore_dag=not rules["hierarchy"],
        ignore_bilevel=not rules["hierarchy"],
        ignore_hierarchy_probability=rules["ignore_probability"],
    )


def assert_equal_sequences(spec, raw, split, rules, seed, count):
    """Returns how many episodes were compared."""
    ours, theirs = RandomState(seed), RandomState(seed)
    second = second_sampler(raw, split, rules, theirs)
    try:
        sampler = EpisodeSampler(spec, split.lower(), as_protocol(rules))
    except InputError:  # refused before the first draw; the official code may need some draws
        with pytest.raises((Refused, ValueError)):
            for _ in range(1000):
                next(second)
        return 0
    for done in range(count):
        try:
            expected = next(second)
        except Refused:
            with pytest.raises(InputError):
                sampler.describe(ours)
            return done
        assert sampler.describe(ours) == expected
    states = [r.get_state() for r in (ours, theirs)]
    assert states[0][2] == states[1][2] and np.array_equal(states[0][1], states[1][1])
    return count


def numbered(values):
    return {str(number): value for number, value in enumerate(values)}


SPLITS = ("TRAIN", "VALID", "TEST")
class_sizes = st.one_of(st.integers(2, 60), st.integers(2, 1500), st.just(20))


@st.composite
def flat_specs(draw):
    splits = [draw(st.integers(5, 60)) for _ in SPLITS]
    total = sum(splits)
    sizes = draw(st.lists(class_sizes, min_size=total, max_size=total))
    return {
        "__class__": "DatasetSpecification",
        "name": "made",
        "classes_per_split": dict(zip(SPLITS, splits, strict=True)),
        "images_per_class": numbered(sizes),
        "class_names": numbered([f"c{i}" for i in range(total)]),
    }


@st.composite
def bilevel_specs(draw):
    splits = [draw(st.integers(1, 5)) for _ in SPLITS]
    superclasses = draw(st.lists(st.integers(4, 60), min_size=sum(splits), max_size=sum(splits)))
    total = sum(superclasses)
    images = draw(st.integers(2, 60))
    return {
        "__class__": "BiLevelDatasetSpecification",
        "name": "made",
        "superclasses_per_split": dict(zip(SPLITS, splits, strict=True)),
        "classes_per_superclass": numbered(superclasses),
        "images_per_class": numbered([images + i % 3 for i in range(total)]),
        "class_names": numbered([f"c{i}" for i in range(total)]),
    }


@st.composite
def dag_specs(draw):
    """Random graphs: nodes with several parents, in an order that is not that of their names."""
    graphs, counts, names = {}, {}, []
    for split in SPLITS:
        leaves, inner = draw(st.integers(5, 80)), draw(st.integers(1, 12))
        order = draw(st.permutations(range(leaves + inner)))
        ids = [f"n{split[:2]}{place:03d}" for place in order]
        children = {leaf: [] for leaf in ids[:leaves]}
        for i, node in enumerate(ids[leaves:]):
            below = draw(st.sets(st.integers(0, leaves + i - 1), min_size=1, max_size=60))
            children[node] = [ids[j] for j in sorted(below)]
        graphs[split] = [
            {"wn_id": node, "words": "", "children_ids": below, "parents_ids": []}
            for node, below in children.items()
        ]
        sizes = draw(st.lists(class_sizes, min_size=leaves, max_size=leaves))
        counts[split] = dict(zip(ids[:leaves], sizes, strict=True))
        names += sorted(ids[:leaves])
    return {
        "__class__": "HierarchicalDatasetSpecification",
        "name": "made",
        "split_subgraphs": graphs,
        "images_per_class": counts,
        "class_names": numbered(names),
    }


@st.composite
def rule_sets(draw):
    low = draw(st.integers(2, 8))
    first = draw(st.floats(-2, 2))
    return {
        "num_ways": draw(st.one_of(st.none(), st.none(), st.integers(1, 12))),
        "num_support": draw(
            st.one_of(
                st.none(),
                st.none(),
                st.integers(1, 6),
                st.tuples(st.integers(1, 3), st.integers(3, 6)),
            )
        ),
        "num_query": draw(st.one_of(st.none(), st.none(), st.integers(1, 15))),
        "min_ways": low,
        "max_ways": low + draw(st.integers(0, 50)),
        "max_num_query": draw(st.integers(1, 15)),
        "max_support_set_size": draw(st.sampled_from([20, 60, 500, 2000])),
        "max_contribution": draw(st.sampled_from([1, 7, 100, 1000])),
        "log_weights": (first, first + draw(st.floats(0, 3))),
        "min_examples": draw(st.one_of(st.just(0), st.integers(0, 40))),
        "max_leaves": draw(st.sampled_from([15, 60, 392])),
        "hierarchy": draw(st.booleans()),
        "ignore_probability": draw(st.sampled_from([0.0, 0.3, 0.5, 0.9])),
    }


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    raw=st.one_of(flat_specs(), bilevel_specs(), dag_specs()),
    split=st.sampled_from(SPLITS),
    rules=st.one_of(st.just({}), rule_sets()),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_on_random_sources_and_rules(tmp_path_factory, raw, split, rules, seed):
    folder = tmp_path_factory.mktemp("made")
    (folder / "dataset_spec.json").write_text(json.dumps(raw))
    assert_equal_sequences(load_spec(folder), raw, split, rules, seed, 40)


def test_the_comparison_compares(make, tmp_path):
    """Not every random case is refused: a plain one runs to its end."""
    spec = make.flat(tmp_path)
    raw = json.loads((tmp_path / "dataset_spec.json").read_text())
    assert assert_equal_sequences(spec, raw, "TRAIN", {}, 5, 500) == 500
    with pytest.raises(AssertionError):
        assert_equal_sequences(make.flat(tmp_path, sizes=[21, *[20] * 7]), raw, "TRAIN", {}, 5, 50)


CASES = [
    ("ilsvrc_2012", SPLITS),
    ("ilsvrc_2012_v2", ("TRAIN",)),
    ("omniglot", SPLITS),
    ("aircraft", SPLITS),
    ("cu_birds", SPLITS),
    ("dtd", SPLITS),
    ("quickdraw", SPLITS),
    ("fungi", SPLITS),
    ("vgg_flower", SPLITS),
    ("traffic_sign", ("TEST",)),
    ("mscoco", ("VALID", "TEST")),
]
VARIANTS = [
    {},
    {"num_ways": 5, "num_support": 1, "num_query": 3, "hierarchy": False},
    {"num_support": 3},
    {"num_ways": 7, "num_support": (1, 3), "hierarchy": False},
    {"min_examples": 30, "hierarchy": False},
    {"ignore_probability": 0.5},
    {"max_ways": 20, "max_support_set_size": 200, "max_contribution": 40, "max_num_query": 5},
]


@pytest.mark.parametrize(("source", "splits"), CASES)
def test_equal_on_the_official_sources(official_spec, source, splits):
    spec = official_spec(source)
    raw = json.loads((spec.folder / "dataset_spec.json").read_text())
    compared = 0
    for split in splits:
        for number, rules in enumerate(VARIANTS):
            compared += assert_equal_sequences(spec, raw, split, rules, 90 + number, 300)
    assert compared >= 300 * (len(VARIANTS) - 1)  # omniglot has no class of 30 images


def test_seeds_of_successive_samplers():
    """Facts, section 3.1: a run of seed 1234 seeds its first samplers with these."""
    generators = official_generators(1234)
    for seed in (822569775, 2137449171):
        assert np.array_equal(
            next(generators).randint(0, 2**31, 9), RandomState(seed).randint(0, 2**31, 9)
        )
