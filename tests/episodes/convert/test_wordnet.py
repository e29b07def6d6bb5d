"""The graph of ImageNet's classes, on graphs by hand and on drawn ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes import InputError, Split
from episodes.convert.wordnet import Graph, read_wordnet, split_graph
from tests.episodes.convert.raw_lists import make_wordnet


def build(links, leaves, drop=()):
    nodes = sorted({node for link in links for node in link} - set(drop))
    words = "".join(f"{node}\tthe {node}\n" for node in nodes)
    return read_wordnet(words, "".join(f"{a} {b}\n" for a, b in links), leaves)


def children_of(graph):
    return {node["wn_id"]: node["children_ids"] for node in graph.export()}


def test_chains_and_outsiders_vanish():
    links = [("root", "a"), ("a", "b"), ("b", "x"), ("b", "y"), ("root", "z"), ("root", "other")]
    graph = build([*links, ("other", "far"), ("x", "poodle")], ["x", "y", "z"])
    # a has one child, other leads to no class, and what is below a class is none
    assert children_of(graph) == {"root": ["b", "z"], "b": ["x", "y"], "x": [], "y": [], "z": []}
    (b,) = [node for node in graph.export() if node["wn_id"] == "b"]
    assert (b["words"], b["parents_ids"]) == ("the b", ["root"])


def test_a_child_reached_twice_counts_twice():
    links = [("root", "top"), ("root", "w"), ("top", "a"), ("top", "b"), ("a", "x"), ("b", "x")]
    graph = build(links, ["w", "x"])
    assert children_of(graph)["top"] == ["x"]
    assert graph.sum_leaves({"w": 3, "x": 5}) == {"root": 8, "top": 5, "w": 3, "x": 5}


def test_several_parents_inherit():
    links = [("r", "p"), ("r", "q"), ("p", "m"), ("q", "m"), ("m", "x"), ("p", "y"), ("q", "z")]
    assert children_of(build(links, ["x", "y", "z"])) == {
        "r": ["p", "q"],
        "p": ["x", "y"],
        "q": ["x", "z"],
        **{leaf: [] for leaf in "xyz"},
    }


NODES = [f"n{k:02d}" for k in range(16)]
LINKS = st.sets(
    st.tuples(st.integers(0, 15), st.integers(0, 15)).filter(lambda pair: pair[0] < pair[1])
)


@given(LINKS, st.integers(0, 2**16 - 1))
def test_drawn_graphs(pairs, chosen):
    """Which class is below which node is kept; single children are gone; nothing new appears."""
    pairs = pairs | {(0, k) for k in range(1, 16)}
    links = [(NODES[a], NODES[b]) for a, b in sorted(pairs)]
    whole = Graph({n: [b for a, b in links if a == n] for n in NODES}, dict.fromkeys(NODES, ""))
    bottom = [node for node, below in whole.children.items() if not below]
    leaves = [node for k, node in enumerate(bottom) if chosen >> k & 1] or bottom
    graph = build(links, leaves)
    kept = children_of(graph)
    assert {node for node, below in kept.items() if not below} == set(leaves)
    for node in kept:
        assert graph.below(node) & set(leaves) == whole.below(node) & set(leaves)
        assert graph.below(node) <= whole.below(node)
    for below in graph.children.values():
        assert len(below) != 1
        if len(set(below)) == 1:  # several ways to one child
            assert len(below) > 1
    for node in graph.export():
        assert node["parents_ids"] == sorted(p for p in kept if node["wn_id"] in kept[p])
    assert graph.collapse().children == graph.children


def test_the_three_graphs_share_nothing():
    words, links, below = make_wordnet()
    leaves = [node for node in words if words[node].startswith("class ")]
    text = "".join(f"{node}\t{means}\n" for node, means in words.items())
    graphs = split_graph(read_wordnet(text, "".join(f"{a} {b}\n" for a, b in links), leaves))
    exported = {split: children_of(graphs[split]) for split in Split}
    assert not set(exported[Split.VALID]) & set(exported[Split.TRAIN])
    assert not set(exported[Split.TEST]) & set(exported[Split.TRAIN])
    assert exported[Split.VALID] == {
        "n02075296": sorted(below["n02075296"]),
        **{leaf: [] for leaf in below["n02075296"]},
    }
    # "animal" is left with one train class, and vanishes
    assert set(exported[Split.TRAIN]) == {"n00001740", "n01440764", *below["n00001740"]}


@pytest.mark.parametrize(
    ("words", "links", "message"),
    [
        ("n1 one\n", "", "a tab is missing"),
        ("n1\tone\n", "n1 n2\n", "not two nodes of words.txt"),
        ("n1\tone\n", "n1\n", "not two nodes of words.txt"),
        ("n1\tone\n", "", "does not know 1 classes: n2"),
        ("n1\tone\nn2\ttwo\n", "n1 n2\n", "classes lie above other classes .*: n1"),
    ],
)
def test_broken_files(words, links, message):
    with pytest.raises(InputError, match=message):
        read_wordnet(words, links, ["n1", "n2"])


def test_a_graph_without_the_roots():
    graph = build([("r", "x"), ("r", "y")], ["x", "y"])
    with pytest.raises(InputError, match="node n02075296 is not above at least two"):
        split_graph(graph)
