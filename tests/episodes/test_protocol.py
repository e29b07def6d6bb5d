"""Protocols: presets, hashes, a user's own in YAML, and every rule that is refused."""

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import RandomState

from episodes import PROTOCOLS, SOURCES, EpisodeProtocol, EpisodeSampler, InputError, Split
from episodes.protocol import find_protocol, parse_protocol

OTHER_VALUES = {
    "name": "mine",
    "version": 2,
    "ways": 5,
    "shots": (1, 5),
    "queries": 3,
    "min_ways": 4,
    "max_ways": 20,
    "max_queries": 9,
    "max_support": 400,
    "max_support_per_class": 50,
    "min_log_weight": -0.5,
    "max_log_weight": 0.5,
    "min_examples_in_class": 10,
    "max_leaves": 100,
    "ignore_dag": True,
    "ignore_bilevel": True,
    "ignore_hierarchy_probability": 0.5,
    "max_classes": 20,
    "train_sources": ("omniglot",),
    "valid_sources": ("omniglot",),
    "test_sources": ("omniglot",),
}


def write(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


# ---- hashes ----------------------------------------------------------------------------------


def test_hashes_of_the_presets_are_pinned():
    """A change here changes every published episode of that protocol: raise its version."""
    assert {name: protocol.hash for name, protocol in PROTOCOLS.items()} == {
        "md-v1": "5a26a02bb3fdb430",
        "md-v2": "eb094e3c59943005",
        "5w1s": "88e90c9cd6590d3e",
        "5w5s": "afc93b1a7586b40e",
        "vary5shot": "a023ed741bc638c7",
    }


def test_every_rule_is_part_of_the_hash():
    assert set(OTHER_VALUES) == {field.name for field in fields(EpisodeProtocol)}
    hashes = {replace(EpisodeProtocol(), **{k: v}).hash for k, v in OTHER_VALUES.items()}
    assert len(hashes | {EpisodeProtocol().hash}) == len(OTHER_VALUES) + 1


def test_equal_rules_of_other_types_have_equal_hashes():
    plain = EpisodeProtocol(ways=5, shots=(1, 3), min_log_weight=-1.0, test_sources=("a", "b"))
    other = EpisodeProtocol(
        ways=np.int64(5), shots=[1, 3], min_log_weight=-1, test_sources=["a", "b"]
    )
    assert plain == other and plain.hash == other.hash and hash(plain) == hash(other)


def test_the_hash_survives_pickling():
    protocol = EpisodeProtocol(shots=2)
    assert pickle.loads(pickle.dumps(protocol)).hash == protocol.hash


# ---- presets ---------------------------------------------------------------------------------


def test_sources_of_the_two_editions():
    """Facts, sections 4.5 and 4.9."""
    v1, v2 = PROTOCOLS["md-v1"], PROTOCOLS["md-v2"]
    assert v1.sources("test") == SOURCES
    assert set(v1.sources("train")) == set(SOURCES) - {"traffic_sign", "mscoco"}
    assert v1.sources(Split.VALID) == ("ilsvrc_2012",)
    assert set(v2.sources("test")) == set(SOURCES) - {"ilsvrc_2012", "vgg_flower"}
    assert set(v2.sources("train")) == {
        "ilsvrc_2012_v2",
        "aircraft",
        "cu_birds",
        "omniglot",
        "quickdraw",
        "dtd",
        "fungi",
    }
    assert set(v2.sources("valid")) == set(v2.sources("test")) - {"traffic_sign"}
    with pytest.raises(InputError, match="unknown split"):
        v1.sources("tests")


def test_the_editions_differ_in_sources_only():
    v1, v2 = PROTOCOLS["md-v1"], PROTOCOLS["md-v2"]
    of_v1 = {name: getattr(v1, name) for name in OTHER_VALUES if name.endswith("_sources")}
    assert replace(v2, name="md-v1", **of_v1) == v1


@pytest.mark.parametrize(("name", "shots"), [("5w1s", 1), ("5w5s", 5)])
def test_fixed_presets_work_on_every_kind(each_kind, name, shots):
    for spec, split in each_kind:
        for seed in range(30):
            description = EpisodeSampler(spec, split, name).describe(RandomState(seed))
            assert [(k, q) for _, k, q in description] == [(shots, 15)] * 5


@pytest.mark.parametrize("name", PROTOCOLS)
def test_presets_work_on_all_their_official_sources(official_spec, name):
    protocol = PROTOCOLS[name]
    for split in Split:
        for source in protocol.sources(split):
            sampler = EpisodeSampler(official_spec(source), split, protocol)
            for index in range(60):
                plan = sampler.plan(0, index)
                assert protocol.ways in (None, plan.way)
                assert protocol.shots is None or set(plan.shots) == {protocol.shots}


def test_vary5shot_draws_ways_and_fixes_shots(dag):
    sampler = EpisodeSampler(dag, "train", "vary5shot")
    plans = [sampler.plan(0, i) for i in range(60)]
    assert {plan.way for plan in plans} == {6, 7, 12}
    assert {shot for plan in plans for shot in plan.shots} == {5}


# ---- YAML ------------------------------------------------------------------------------------


def test_five_lines_of_yaml(tmp_path):
    path = write(tmp_path, "name: 10w3s\nbase: 5w5s\nways: 10\nshots: 3\nmin-ways: 10\n")
    expected = replace(PROTOCOLS["5w5s"], name="10w3s", ways=10, shots=3, min_ways=10)
    assert find_protocol(str(path)) == find_protocol(path) == expected


def test_the_base_is_md_v1_and_the_file_name_has_no_influence(tmp_path):
    path = write(tmp_path, "name: mine\nshots: [1, 5]\nmin_log_weight: -1\n")
    moved = path.rename(tmp_path / "renamed.yml")
    protocol = find_protocol(moved)
    assert protocol == EpisodeProtocol(name="mine", shots=(1, 5), min_log_weight=-1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: mine\nwayz: 5\n", r"mine\.yaml: unknown rule 'wayz'\. Did you mean 'ways'\?"),
        ("name: mine\n5: 5\n", "unknown rule '5'"),
        ("name: mine\nbase: md-v3\n", r"unknown base 'md-v3'\. Did you mean 'md-v"),
        ("name: mine\nbase: [md-v1]\n", "unknown base"),
        ("ways: 5\n", r"mine\.yaml: has no name\."),
        ("name: md-v1\nways: 5\n", "takes the name of the preset 'md-v1'"),
        ("name: 5\n", "name is 5, not a text"),
        ("name: ''\n", "name is '', not a text"),
        ("name: mine\nways: five\n", r"mine\.yaml: ways is 'five', not a whole number"),
        ("name: mine\nways: 5.5\n", "ways is 5.5, not a whole number"),
        ("name: mine\nways: true\n", "ways is True, not a whole number"),
        ("name: mine\nmin_ways: null\n", "min_ways is None, not a whole number"),
        ("name: mine\nshots: [1, 2, 3]\n", r"shots is \[1, 2, 3\], not a whole number"),
        ("name: mine\nshots: [1, x]\n", "an end of shots is 'x'"),
        ("name: mine\nignore_dag: 1\n", "ignore_dag is 1, not true or false"),
        ("name: mine\nmax_log_weight: .inf\n", "max_log_weight is inf, not a finite number"),
        ("name: mine\nmax_log_weight: x\n", "max_log_weight is 'x', not a finite number"),
        ("name: mine\ntest_sources: fungi\n", "test_sources is 'fungi', not a list of names"),
        ("name: mine\ntest_sources: [1]\n", "not a list of names"),
        ("- ways\n", "is not a mapping"),
        ("", "is not a mapping"),
        ("name: [\n", "is not YAML"),
        ("name: 2020-99-99\n", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("name: !!python/object/apply:os.getcwd []\n", "is not YAML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        find_protocol(write(tmp_path, text))


def test_a_missing_or_binary_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read: No such file"):
        find_protocol(str(tmp_path / "none.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(InputError, match="is not YAML"):
        find_protocol(tmp_path / "binary.yaml")


def test_an_unknown_name_gets_the_nearest_and_the_way_out():
    with pytest.raises(InputError, match=r"unknown protocol '5w5'.*'5w5s'.*path of a \.yaml file"):
        find_protocol("5w5")


# ---- rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"ways": 0}, "ways is 0.*at least 1"),
        ({"queries": 0}, "queries is 0"),
        ({"min_ways": 0}, "min_ways is 0"),
        ({"max_queries": 0}, "max_queries is 0"),
        ({"max_support": 0}, "max_support is 0"),
        ({"max_support_per_class": -1}, "max_support_per_class is -1"),
        ({"max_leaves": 0}, "max_leaves is 0"),
        ({"max_classes": 0}, "max_classes is 0"),
        ({"version": 0}, "version is 0"),
        ({"min_ways": 51}, "min_ways 51 exceeds max_ways 50"),
        ({"min_log_weight": 1.0}, "min_log_weight 1.0 exceeds max_log_weight"),
        ({"shots": 0}, "shots 0 is not a range"),
        ({"shots": (3, 1)}, r"shots \(3, 1\) is not a range"),
        ({"ignore_hierarchy_probability": 1.1}, "outside 0 to 1"),
        ({"test_sources": ["dtd", "dtd"]}, "test_sources names one twice"),
    ],
)
def test_an_impossible_rule_is_refused(rules, message):
    with pytest.raises(InputError, match=message):
        EpisodeProtocol(**rules)


@given(st.dictionaries(st.sampled_from(list(OTHER_VALUES)), st.from_type(object) | st.integers()))
def test_any_values_are_a_protocol_or_an_input_error(rules):
    try:
        protocol = parse_protocol(rules, "somewhere")
    except InputError as error:
        assert error.where == "somewhere"
    else:
        assert len(protocol.hash) == 16
