"""The class hierarchy of ImageNet, built from WordNet's own files.

Source: facts of the official format, section 2.4. The classes and everything above them are kept;
then every node with a single child is removed, its child taking its place under its parents. Links
are counted, not only present: a node that ends up with the same child twice has two children, and
stays (version 2 of the benchmark has two such nodes).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from episodes.faults import InputError
from episodes.ontology import Ontology
from episodes.protocol import Split

VALID_ROOT, TEST_ROOT = "n02075296", "n03183080"
"""The classes below "carnivore" are valid, those below "device" are test, all others train."""


class Graph:
    """A directed graph of WordNet nodes whose links are counted.

    Args:
        children: node → its children; one that is listed twice is linked twice.
        words: node → what it means.
    """

    def __init__(self, children: Mapping[str, Iterable[str]], words: Mapping[str, str]) -> None:
        self.words = words
        self.children = {node: list(below) for node, below in children.items()}
        self.parents: dict[str, list[str]] = {node: [] for node in self.children}
        for node, below in self.children.items():
            for child in below:
                self.parents[child].append(node)

    def _reach(self, nodes: Iterable[str], links: Mapping[str, list[str]]) -> set[str]:
        reached, ahead = set(), list(nodes)
        while ahead:
            node = ahead.pop()
            if node not in reached:
                reached.add(node)
                ahead += links[node]
        return reached

    def above(self, nodes: Iterable[str]) -> set[str]:
        """Nodes and their ancestors."""
        return self._reach(nodes, self.parents)

    def below(self, node: str) -> set[str]:
        """A node and its descendants."""
        return self._reach([node], self.children)

    def isolate(self, kept: set[str]) -> "Graph":
        """These nodes with the links among them."""
        children = {
            node: [child for child in below if child in kept]
            for node, below in self.children.items()
            if node in kept
        }
        return Graph(children, self.words)

    def collapse(self) -> "Graph":
        """The graph without the nodes that have one child."""
        graph = Graph(self.children, self.words)
        ahead = [node for node, below in graph.children.items() if len(below) == 1]
        while ahead:
            node = ahead.pop()
            if node not in graph.children or len(graph.children[node]) != 1:
                continue
            (child,) = graph.children.pop(node)
            graph.parents[child].remove(node)
            for parent in graph.parents.pop(node):
                graph.children[parent].remove(node)
                graph.children[parent].append(child)
                graph.parents[child].append(parent)
        return graph

    def export(self) -> list[dict[str, Any]]:
        """The nodes as the specification lists them: all sorted, each link once."""
        return [
            {
                "wn_id": node,
                "words": self.words[node],
                "children_ids": sorted(set(self.children[node])),
                "parents_ids": sorted(set(self.parents[node])),
            }
            for node in sorted(self.children)
        ]

    def sum_leaves(self, images: Mapping[str, int]) -> dict[str, int]:
        """Images of every node: those of a leaf, or of all different leaves below."""
        children = {node: tuple(below) for node, below in self.children.items()}
        spans = Ontology(children, self.words).spanned_leaves
        return {
            node: sum(images[leaf] for leaf in spans.get(node, (node,)))
            for node in sorted(self.children)
        }


def read_wordnet(words: str, is_a: str, leaves: Iterable[str]) -> Graph:
    """The graph of the classes and all that is above them, without nodes of a single child.

    Args:
        words: text of `words.txt`, a node and its words in each line, with a tab between.
        is_a: text of `wordnet.is_a.txt`, a parent and a child in each line.
        leaves: the classes.

    Raises:
        InputError: a line is not of this form, or a class is no node.
    """
    meaning: dict[str, str] = {}
    for line in words.splitlines():
        if line.strip():
            node, tab, text = line.partition("\t")
            if not tab:
                what = f"words.txt has the line {line!r:.60}: a tab is missing."
                raise InputError(what, remedy="Download it again.")
            meaning[node.strip()] = text.strip()
    children: dict[str, list[str]] = {node: [] for node in meaning}
    for line in is_a.splitlines():
        if line.strip():
            pair = line.split()
            if len(pair) != 2 or not all(node in meaning for node in pair):
                what = f"wordnet.is_a.txt has the line {line!r:.60}, not two nodes of words.txt."
                raise InputError(what, remedy="Download both files again.")
            children[pair[0]].append(pair[1])
    leaves = list(leaves)
    unknown = sorted(set(leaves) - set(meaning))
    if unknown:
        what = f"words.txt does not know {len(unknown)} classes: {', '.join(unknown[:3])}."
        raise InputError(what, remedy="Download words.txt again.")
    graph = Graph(children, meaning)
    inner = [leaf for leaf in leaves if graph.below(leaf) & set(leaves) != {leaf}]
    if inner:
        what = f"classes lie above other classes in wordnet.is_a.txt: {', '.join(inner[:3])}."
        raise InputError(what, remedy="Download it again.")
    return graph.isolate(graph.above(leaves)).collapse()


def split_graph(graph: Graph) -> dict[Split, Graph]:
    """The graphs of train, valid and test in version 1 of the benchmark.

    Raises:
        InputError: the graph lacks the nodes that the split is made by.
    """
    leaves = {node for node, below in graph.children.items() if not below}
    for root in (VALID_ROOT, TEST_ROOT):
        if root not in graph.children:
            what = f"WordNet's node {root} is not above at least two of the classes."
            raise InputError(what, remedy="All 1000 classes of ImageNet are needed.")
    roots = {Split.VALID: VALID_ROOT, Split.TEST: TEST_ROOT}
    spans = {split: graph.below(root) & leaves for split, root in roots.items()}
    graphs = {Split.TRAIN: _grow(graph, leaves - spans[Split.VALID] - spans[Split.TEST], None)}
    for split, root in roots.items():
        graphs[split] = _grow(graph, spans[split], root)
    return graphs


def _grow(graph: Graph, leaves: set[str], root: str | None) -> Graph:
    """The graph of some leaves and what is above them, up to a root.

    Each link counts once at the start: the two nodes of version 2 that have the same child twice
    are in none of the graphs of version 1.
    """
    kept = graph.above(leaves)
    if root is not None:
        kept &= graph.below(root)
    once = {node: sorted(set(below)) for node, below in graph.children.items()}
    return Graph(once, graph.words).isolate(kept).collapse()
