"""The invented hierarchy of the miniature's `ilsvrc_2012`: what its classes are and look like.

Leaves of one kind are siblings: the same outline with other proportions, colours and marks, so
a small node of the graph is a fine-grained task, as in ImageNet.
"""

import zlib
from dataclasses import dataclass

from episodes.protocol import Split

Branch = dict[str, "Branch | tuple[str, ...]"]

TREE: dict[Split, Branch] = {
    Split.TRAIN: {
        "thing": {
            "living thing": {
                "animal": {
                    "swimmer": {
                        "fish": ("pebble fish", "lantern fish", "ribbon fish", "moss fish",
                                 "dart fish"),
                        "whale": ("harbour whale", "slate whale", "tusk whale"),
                    },
                    "crawler": {
                        "beetle": ("oak beetle", "rust beetle", "ink beetle", "glass beetle",
                                   "tin beetle"),
                        "spider": ("attic spider", "dune spider", "bell spider"),
                        "snail": ("tide snail", "ivy snail", "chalk snail", "plum snail"),
                    },
                    "butterfly": ("ash butterfly", "fern butterfly", "ember butterfly",
                                  "silk butterfly"),
                },
                "plant": {
                    "tree": ("hedge tree", "tower tree", "cloud tree", "comb tree"),
                    "fruit": ("copper fruit", "pearl fruit", "horn fruit"),
                },
            },
            "made thing": {
                "vehicle": {
                    "car": ("mail car", "hill car", "toy car", "night car"),
                    "boat": ("reed boat", "pilot boat", "race boat"),
                },
                "vessel": {
                    "bottle": ("oil bottle", "milk bottle", "cure bottle", "brine bottle"),
                    "cup": ("stone cup", "camp cup", "feast cup"),
                },
                "house": ("ferry house", "bean house", "gate house"),
                "food": {"fruit": (), "cake": ("moon cake", "ladder cake")},
            },
        },
    },
    Split.VALID: {
        "beast": {
            "hound": ("barn hound", "snow hound", "river hound", "wick hound", "brush hound"),
            "cat": ("roof cat", "pepper cat", "marsh cat", "velvet cat", "broom cat"),
            "deer": ("thorn deer", "birch deer", "cliff deer", "meadow deer"),
        },
    },
    Split.TEST: {
        "device": {
            "furnishing": {
                "clock": ("bank clock", "tide clock", "sand clock", "mill clock", "school clock"),
                "lamp": ("desk lamp", "shop lamp", "pearl lamp"),
                "chair": ("porch chair", "choir chair", "judge chair"),
            },
            "hand tool": {
                "hammer": ("slate hammer", "forge hammer", "cask hammer"),
                "key": ("cellar key", "lock key", "chest key", "tower key"),
            },
            "sound maker": {
                "guitar": ("lake guitar", "street guitar"),
                "striking clock": ("bank clock", "mill clock"),
            },
        },
    },
}  # fmt: skip
"""Split → node → children; a tuple holds leaves. A node met twice has two parents."""


@dataclass(frozen=True)
class Synset:
    """A node of the hierarchy, as the official specification writes it."""

    wn_id: str
    words: str
    children_ids: tuple[str, ...]
    parents_ids: tuple[str, ...]


@dataclass(frozen=True)
class Leaf:
    """A class: its kind (the node right above it) and its place among its siblings."""

    wn_id: str
    words: str
    kind: str
    sibling: int


def wn_id(words: str) -> str:
    """The invented identifier of a node: n9 and seven digits."""
    return f"n9{zlib.crc32(words.encode()) % 10**7:07d}"


def _edges(branch: Branch) -> dict[str, dict[str, None]]:
    """Node → its children, in the order of the table."""
    edges: dict[str, dict[str, None]] = {}
    for node, below in branch.items():
        edges.setdefault(node, {}).update(dict.fromkeys(below))
        inner = _edges(below) if isinstance(below, dict) else {leaf: {} for leaf in below}
        for name, children in inner.items():
            edges.setdefault(name, {}).update(children)
    return edges


def subgraph(split: Split) -> list[Synset]:
    """The graph of a split, nodes sorted by identifier."""
    edges = _edges(TREE[split])
    nodes = [
        Synset(
            wn_id=wn_id(node),
            words=node,
            children_ids=tuple(sorted(map(wn_id, children))),
            parents_ids=tuple(sorted(wn_id(other) for other in edges if node in edges[other])),
        )
        for node, children in edges.items()
    ]
    return sorted(nodes, key=lambda node: node.wn_id)


def leaves(split: Split) -> list[Leaf]:
    """The classes of a split, sorted by identifier: the order of their class ids."""
    edges = _edges(TREE[split])
    found = {
        leaf: Leaf(wn_id(leaf), leaf, kind, sibling)
        for kind, children in reversed(edges.items())  # the first parent names the kind
        for sibling, leaf in enumerate(children)
        if not edges[leaf]
    }
    return sorted(found.values(), key=lambda leaf: leaf.wn_id)


def leaf_counts(split: Split, images: dict[str, int]) -> dict[str, int]:
    """Images of every node of a split: of an internal node, the sum over its distinct leaves.

    Args:
        split: whose graph.
        images: images per leaf, by identifier.
    """
    children = {node.wn_id: node.children_ids for node in subgraph(split)}

    def span(node: str) -> frozenset[str]:
        below = children[node]
        return frozenset().union(*map(span, below)) if below else frozenset([node])

    return {node: sum(images[leaf] for leaf in span(node)) for node in children}
