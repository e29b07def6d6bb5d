"""The sampler: one decision at a time, whole plans, and what it refuses."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import RandomState

from episodes import EpisodeProtocol, EpisodeSampler, InputError, Split
from episodes.plan_file import find_fault
from episodes.sampling import (
    compute_num_queries,
    official_generators,
    sample_bilevel_classes,
    sample_dag_classes,
    sample_flat_classes,
    sample_images,
    sample_shots,
    sample_subset,
    sample_support_size,
    sample_way,
)


def describe(spec, split, seed, count, **rules):
    sampler = EpisodeSampler(spec, split, EpisodeProtocol(**rules))
    rng = next(official_generators(seed))
    return [sampler.describe(rng) for _ in range(count)]


# ---- one decision at a time ------------------------------------------------------------------

rules = st.builds(
    lambda low, extra, queries, support, per_class: EpisodeProtocol(
        min_ways=low,
        max_ways=low + extra,
        max_queries=queries,
        max_support=support,
        max_support_per_class=per_class,
    ),
    st.integers(1, 9),
    st.integers(0, 50),
    st.integers(1, 15),
    st.integers(60, 1000),
    st.integers(1, 200),
)
seeds = st.integers(0, 2**32 - 1).map(RandomState)


@given(seeds, rules, st.integers(0, 60))
def test_ways_are_within_bounds(rng, protocol, more):
    classes = protocol.min_ways + more
    way = sample_way(rng, classes, protocol)
    assert protocol.min_ways <= way <= min(protocol.max_ways, classes)


def test_every_way_is_drawn():
    rng, protocol = RandomState(0), EpisodeProtocol()
    assert {sample_way(rng, 9, protocol) for _ in range(300)} == set(range(5, 10))
    assert {sample_way(rng, 90, protocol) for _ in range(3000)} == set(range(5, 51))


@given(seeds, st.lists(st.integers(), unique=True, max_size=40), st.integers(0, 60))
def test_a_subset_is_drawn_without_replacement(rng, items, size):
    subset = sample_subset(rng, items, size)
    assert len(subset) == len(set(subset)) == min(size, len(items))
    assert set(subset) <= set(items)


@given(seeds, rules, st.sets(st.integers(0, 300), min_size=9, max_size=80))
def test_flat_classes_are_eligible_and_distinct(rng, protocol, eligible):
    classes = sample_flat_classes(rng, sorted(eligible), protocol)
    assert len(set(classes)) == len(classes) and set(classes) <= eligible
    assert protocol.min_ways <= len(classes) <= protocol.max_ways


@given(seeds, rules, st.lists(st.integers(9, 70), min_size=1, max_size=12))
def test_bilevel_classes_are_of_one_superclass(rng, protocol, sizes):
    classes = sample_bilevel_classes(rng, sizes, protocol)
    owners = np.repeat(range(len(sizes)), sizes)
    assert len(set(classes)) == len(classes) and len(set(owners[classes])) == 1
    assert protocol.min_ways <= len(classes) <= protocol.max_ways


@given(seeds, rules, st.lists(st.sets(st.integers(0, 99), min_size=9), min_size=1, max_size=9))
def test_dag_classes_are_of_one_node(rng, protocol, nodes):
    nodes = [sorted(node) for node in nodes]
    classes = sample_dag_classes(rng, nodes, protocol)
    assert len(set(classes)) == len(classes)
    fitting = [node for node in nodes if set(classes) <= set(node)]
    assert any(len(classes) == min(len(node), protocol.max_ways) for node in fitting)
    if len(classes) < protocol.max_ways:
        assert classes in nodes  # whole and in order


class_sizes = st.lists(st.integers(2, 3000), min_size=1, max_size=50).map(np.asarray)


@given(rules, class_sizes)
def test_queries_are_at_most_half_of_the_smallest_class(protocol, sizes):
    queries = compute_num_queries(sizes, protocol)
    assert 1 <= queries <= min(protocol.max_queries, min(sizes) // 2)


@given(seeds, rules, class_sizes)
def test_support_sizes_are_within_bounds(rng, protocol, sizes):
    size = sample_support_size(rng, sizes, protocol)
    assert len(sizes) <= size <= protocol.max_support


@given(seeds, rules, class_sizes)
def test_shots_leave_the_queries_and_fit_the_support_set(rng, protocol, sizes):
    queries = compute_num_queries(sizes, protocol)
    shots = sample_shots(rng, sizes, queries, protocol)
    assert shots.min() >= 1 and shots.sum() <= protocol.max_support
    assert np.all(shots + queries <= sizes)


def test_one_is_added_before_the_floor():
    """The greatest share below 1 of 2 images: 2 − 2⁻⁵² floors to 1, but one more rounds to 3."""

    class Share:
        def uniform(self):
            return 1 - 2**-53

    assert sample_support_size(Share(), np.array([2, 2]), EpisodeProtocol()) == 3 + 3


def test_the_cap_of_a_class_bounds_its_contribution_and_not_its_shots(dag):
    assert max(k for e in describe(dag, "train", 7, 4, max_ways=6) for _, k, _ in e) == 118


def test_nodes_are_counted_by_eligible_classes(dag):
    """n90 spans 12, n91 6 and n92 7 classes; the images are 30, 40, … 140."""

    def spans(**rules):
        return sorted(map(len, EpisodeSampler(dag, "train", EpisodeProtocol(**rules)).nodes))

    assert spans() == [6, 7, 12]
    assert spans(max_leaves=12) == [6, 7, 12] and spans(max_leaves=11) == [6, 7]
    assert spans(min_ways=7) == [7, 12]
    assert spans(min_examples_in_class=50, min_ways=4) == [4, 7, 10]
    assert spans(min_examples_in_class=50) == [7, 10]


def test_every_class_under_an_eligible_node_is_reached_and_no_other(make, tmp_path):
    names = [f"n{i:02d}" for i in range(70)]
    spans = {
        "n95": ["n96", "n97", "n98", "n69"],  # 70 leaves: too many with max_leaves 65
        "n96": names[:6],
        "n97": names[5:67],  # 62 leaves: cut to 50
        "n98": names[66:69],  # 3 leaves: too few
    }
    spec = make.dag(tmp_path, spans, leaves=70)
    seen = Counter(c for e in describe(spec, "train", 0, 2000, max_leaves=65) for c, _, _ in e)
    assert set(seen) == set(range(67))


def test_the_hierarchy_is_ignored_as_often_as_asked(bilevel):
    for probability in (0.0, 0.5, 1.0):
        rules = {"ignore_hierarchy_probability": probability}
        flat_way = [
            len({int(c >= 5) + int(c >= 12) for c, _, _ in e}) > 1  # classes of two superclasses
            for e in describe(bilevel, "test", 3, 2000, **rules)
        ]
        # A flat episode of 5 or more of 21 classes lies in one superclass about once in 3000.
        assert abs(np.mean(flat_way) - probability) < 0.05


# ---- restricted classes ----------------------------------------------------------------------


def test_restriction_keeps_the_first_classes_of_the_split(make, tmp_path):
    """And moves no other split: validation classes stay 8 to 19."""
    whole = make.flat(tmp_path / "whole", sizes=range(20, 60), splits=(8, 12, 20))
    alone = make.flat(tmp_path / "alone", sizes=range(28, 34), splits=(0, 6, 0))
    assert describe(whole, "valid", 5, 50, max_classes=6) == describe(alone, "valid", 5, 50)
    sampler = EpisodeSampler(whole, "valid", EpisodeProtocol(max_classes=6))
    drawn = {int(c) for i in range(50) for c in sampler.plan(0, i).class_ids}
    assert drawn == set(range(8, 14))


def test_restriction_needs_the_hierarchy_ignored_and_enough_classes(flat, dag, bilevel):
    for spec, split in ((dag, "train"), (bilevel, "test")):
        with pytest.raises(InputError, match=r"by its hierarchy.* restrict its classes"):
            EpisodeSampler(spec, split, EpisodeProtocol(max_classes=5))
        free = EpisodeProtocol(max_classes=5, ignore_dag=True, ignore_bilevel=True)
        assert EpisodeSampler(spec, split, free).eligible == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="has 8 classes, fewer than max_classes 9"):
        EpisodeSampler(flat, "train", EpisodeProtocol(max_classes=9))
    with pytest.raises(InputError, match=r"has 4 classes, but 5 are needed"):
        EpisodeSampler(flat, "train", EpisodeProtocol(max_classes=4))


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


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    kind=st.sampled_from(range(3)),
    name=st.sampled_from(["md-v1", "md-v2", "5w1s", "5w5s", "vary5shot"]),
)
def test_plans_of_every_preset_are_episodes(seed, kind, name, each_kind):
    spec, split = each_kind[kind]
    if name == "vary5shot" and kind == 0:
        return  # a class of 3 images cannot give 5 shots
    sampler = EpisodeSampler(spec, split, name)
    plan = sampler.plan(seed, 0)
    assert find_fault(plan, spec) is None
    smallest = min(spec.images_per_class[c] for c in plan.class_ids)
    assert smallest >= sampler.protocol.min_examples_in_class


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


def test_the_upper_end_of_a_range_of_shots_must_fit_whatever_is_drawn(flat):
    """The class of 3 images could give 1 shot and 2 queries, but not 2 shots."""
    sampler = EpisodeSampler(flat, "train", EpisodeProtocol(ways=8, shots=(1, 2), queries=2))
    for seed in range(20):
        with pytest.raises(InputError, match="of 3 images cannot give 2 support and 2 query"):
            sampler.describe(RandomState(seed))


def test_more_ways_than_the_support_set_may_hold(flat):
    sampler = EpisodeSampler(flat, "train", EpisodeProtocol(max_support=4))
    with pytest.raises(
        InputError, match=r"flat \(train\): \d ways do not fit in a support set of 4"
    ):
        sampler.describe(RandomState(0))


def test_unknown_split_and_protocol(flat):
    with pytest.raises(InputError, match="Did you mean 'valid'"):
        EpisodeSampler(flat, "validd")
    with pytest.raises(InputError, match="unknown protocol 'md-v9'"):
        EpisodeSampler(flat, "train", "md-v9")
