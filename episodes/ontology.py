"""The class hierarchy of ImageNet: a DAG of WordNet nodes whose leaves are the classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from episodes.faults import InputError


@dataclass(frozen=True)
class Ontology:
    """The DAG of one split.

    Attributes:
        children: WordNet id of every node → ids of its children; a leaf has none.
        words: WordNet id → what the node means.
    """

    children: Mapping[str, tuple[str, ...]]
    words: Mapping[str, str]

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """The classes, sorted by WordNet id."""
        return tuple(sorted(node for node, below in self.children.items() if not below))

    @cached_property
    def spanned_leaves(self) -> dict[str, tuple[str, ...]]:
        """Every internal node, sorted → the leaves it reaches, sorted.

        Raises:
            InputError: a child is missing from the graph, or the graph has a cycle.
        """
        for node, below in self.children.items():
            for child in below:
                if child not in self.children:
                    raise InputError(
                        f"node {child} of the class hierarchy, a child of {node}, is not in the "
                        f"graph of its split."
                    )
        reached: dict[str, frozenset[str]] = {}
        try:
            for node in TopologicalSorter(self.children).static_order():  # children first
                spans = [reached[child] for child in self.children[node]]
                reached[node] = frozenset().union(*spans) if spans else frozenset([node])
        except CycleError as error:
            raise InputError(
                f"node {error.args[1][0]} of the class hierarchy is in a cycle."
            ) from None
        inner = sorted(node for node, below in self.children.items() if below)
        return {node: tuple(sorted(reached[node])) for node in inner}
