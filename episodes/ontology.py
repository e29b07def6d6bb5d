"""The class hierarchy of ImageNet: a DAG of WordNet nodes whose leaves are the classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

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
        reached: dict[str, frozenset[str]] = {}
        path: set[str] = set()

        def span(node: str) -> frozenset[str]:
            if node in reached:
                return reached[node]
            if node not in self.children or node in path:
                fault = "is in a cycle" if node in path else "is not in the graph of its split"
                raise InputError(f"node {node} of the class hierarchy {fault}.")
            path.add(node)
            below = self.children[node]
            spans = frozenset().union(*map(span, below)) if below else frozenset([node])
            path.discard(node)
            reached[node] = spans
            return spans

        inner = sorted(node for node, below in self.children.items() if below)
        return {node: tuple(sorted(span(node))) for node in inner}
