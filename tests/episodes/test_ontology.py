"""The class hierarchy: hand-made graphs, broken ones, and deep ones."""

import pytest

from episodes import InputError
from episodes.ontology import Ontology


def graph(**children):
    return Ontology({node: tuple(below) for node, below in children.items()}, {})


def test_a_leaf_with_two_parents_counts_once():
    #      top
    #     /   \
    #  pets   wild
    #   |  \  /  \
    #  cat  dog  wolf
    ontology = graph(
        top=["wild", "pets"],
        pets=["dog", "cat"],
        wild=["wolf", "dog"],
        wolf=[],
        dog=[],
        cat=[],
    )
    assert ontology.leaves == ("cat", "dog", "wolf")
    assert ontology.spanned_leaves == {
        "pets": ("cat", "dog"),
        "top": ("cat", "dog", "wolf"),
        "wild": ("dog", "wolf"),
    }
    assert list(ontology.spanned_leaves) == ["pets", "top", "wild"]  # nodes are drawn in order


def test_a_node_that_lists_a_child_twice():
    assert graph(a=["b", "b"], b=[]).spanned_leaves == {"a": ("b",)}


def test_several_roots_and_none():
    assert graph(a=["c"], b=["c", "d"], c=[], d=[]).spanned_leaves == {"a": ("c",), "b": ("c", "d")}
    assert graph().spanned_leaves == {} and graph().leaves == ()
    assert graph(a=[]).spanned_leaves == {} and graph(a=[]).leaves == ("a",)


@pytest.mark.parametrize(
    "children", [{"a": ["a"]}, {"a": ["b"], "b": ["c", "leaf"], "c": ["a"], "leaf": []}]
)
def test_a_cycle_is_refused(children):
    with pytest.raises(InputError, match=r"node [abc] of the class hierarchy is in a cycle"):
        _ = graph(**children).spanned_leaves


def test_a_missing_child_is_refused():
    with pytest.raises(InputError, match=r"node c .* a child of b, is not in the graph"):
        _ = graph(a=["b"], b=["c"]).spanned_leaves


def test_a_deep_graph_needs_no_recursion():
    depth = 20_000
    children = {f"{i:06d}": [f"{i + 1:06d}"] for i in range(depth)}
    children[f"{depth:06d}"] = []
    spans = graph(**children).spanned_leaves
    assert len(spans) == depth and set(spans.values()) == {(f"{depth:06d}",)}
    children[f"{depth:06d}"] = ["000000"]
    with pytest.raises(InputError, match="is in a cycle"):
        _ = graph(**children).spanned_leaves
