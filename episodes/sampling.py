"""Meta-Dataset's sampling: one pure function per decision, then the whole episode.

Given one running `RandomState(seed)`, successive descriptions are the official sequence, draw
for draw; given a key, an episode has a generator of its own and needs no other episode.

Source: Triantafillou et al. 2020, section 3.2; order of the draws from the official sampler
(facts, section 3.4). Everything is float64 and int64: float32 would move floors.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import MT19937, RandomState, SeedSequence

from episodes.faults import InputError
from episodes.plan import EpisodePlan, Integers
from episodes.protocol import EpisodeProtocol, Split, find_protocol
from episodes.spec import BiLevelSpec, DagSpec, SourceSpec

Description = list[tuple[int, int, int]]
"""An episode's (relative class id, shots, queries), in the order of its labels."""


# ---- classes ---------------------------------------------------------------------------------


def sample_way(rng: RandomState, classes: int, protocol: EpisodeProtocol) -> int:
    """The number of ways: fixed, or uniform from `min_ways` to what the classes allow."""
    if protocol.ways is not None:
        return protocol.ways
    return int(rng.randint(protocol.min_ways, min(protocol.max_ways, classes) + 1))


def sample_subset(rng: RandomState, items: Sequence[int], size: int) -> list[int]:
    """`size` of the items in random order, without replacement."""
    return [items[position] for position in rng.permutation(len(items))[:size]]


def sample_flat_classes(
    rng: RandomState, eligible: Sequence[int], protocol: EpisodeProtocol
) -> list[int]:
    """Classes drawn uniformly from the eligible relative class ids."""
    way = sample_way(rng, len(eligible), protocol)
    return sample_subset(rng, eligible, way)


def sample_bilevel_classes(
    rng: RandomState, superclass_sizes: Sequence[int], protocol: EpisodeProtocol
) -> list[int]:
    """Classes of one superclass, drawn uniformly among the superclasses of the split."""
    chosen = int(rng.randint(0, len(superclass_sizes)))
    size = superclass_sizes[chosen]
    way = sample_way(rng, size, protocol)
    first = sum(superclass_sizes[:chosen])
    return sample_subset(rng, range(first, first + size), way)


def sample_dag_classes(
    rng: RandomState, eligible_nodes: Sequence[Sequence[int]], protocol: EpisodeProtocol
) -> list[int]:
    """The classes under one eligible node: all of them in order, or a random `max_ways`."""
    spanned = eligible_nodes[int(rng.randint(0, len(eligible_nodes)))]
    if len(spanned) > protocol.max_ways:
        return sample_subset(rng, spanned, protocol.max_ways)
    return list(spanned)


# ---- queries and shots -----------------------------------------------------------------------


def compute_num_queries(class_sizes: Integers, protocol: EpisodeProtocol) -> int:
    """Query images per class, the same for every class of the episode.

    With drawn shots at most half of the smallest class; with fixed shots what they leave.

    Raises:
        InputError: a class is too small to give a query and a support image.
    """
    if protocol.queries is not None:
        return protocol.queries
    if protocol.shots is None:
        available = int(np.min(class_sizes // 2))
    else:
        available = int(np.min(class_sizes)) - protocol.shot_range[1]
    if available < 1:
        raise InputError(
            f"a class of {int(np.min(class_sizes))} images leaves no image to query.",
            remedy="Ask for fewer shots or raise min_examples_in_class.",
        )
    return min(protocol.max_queries, available)


def sample_support_size(rng: RandomState, remaining: Integers, protocol: EpisodeProtocol) -> int:
    """The size of the whole support set, from a random share of what the classes can give.

    Raises:
        InputError: the bound on that size does not leave every class an image.
    """
    if len(remaining) > protocol.max_support:
        raise InputError(
            f"{len(remaining)} ways do not fit in a support set of {protocol.max_support}.",
            remedy="Raise max_support or lower max_ways.",
        )
    share = rng.uniform()
    contribution = np.minimum(protocol.max_support_per_class, remaining)
    # 1 is added before the floor, as in the official code: rounding makes a difference.
    return min(protocol.max_support, int(np.sum(np.floor(share * contribution + 1))))


def sample_imbalanced_shots(
    rng: RandomState,
    class_sizes: Integers,
    remaining: Integers,
    support_size: int,
    protocol: EpisodeProtocol,
) -> Integers:
    """Shots per class, in proportion to its size times a random weight; at least one each.

    Floors and small classes may leave the support set smaller than `support_size`.
    """
    way = len(class_sizes)
    log_weights = rng.uniform(protocol.min_log_weight, protocol.max_log_weight, size=way)
    weights = class_sizes * np.exp(log_weights)
    proportions = weights / weights.sum()
    shots = np.floor(proportions * (support_size - way)).astype(np.int64) + 1
    capped: Integers = np.minimum(shots, remaining)
    return capped


def sample_shots(
    rng: RandomState, class_sizes: Integers, queries: int, protocol: EpisodeProtocol
) -> Integers:
    """[way] support images per class.

    Raises:
        InputError: a class is too small for the shots and the queries.
    """
    remaining = class_sizes - queries
    # The upper end of a range must fit, whatever is drawn, as in the official code.
    low, high = protocol.shot_range
    if int(np.min(remaining)) < high:
        raise InputError(
            f"a class of {int(np.min(class_sizes))} images cannot give {high} support and "
            f"{queries} query images.",
            remedy="Ask for fewer or raise min_examples_in_class.",
        )
    if protocol.shots is None:
        size = sample_support_size(rng, remaining, protocol)
        return sample_imbalanced_shots(rng, class_sizes, remaining, size, protocol)
    shots = low if isinstance(protocol.shots, int) else rng.randint(low, high + 1)
    return np.full(len(class_sizes), shots, dtype=np.int64)


# ---- images ----------------------------------------------------------------------------------


def sample_images(rng: RandomState, class_sizes: Integers, counts: Sequence[int]) -> list[Integers]:
    """For each class, `count` distinct image numbers below its size, in random order.

    The first steps of a Fisher–Yates shuffle of the whole class: every image is as likely,
    wherever it lies in its file.
    """
    places = np.concatenate([np.arange(count) for count in counts])
    picks = rng.randint(places, np.repeat(class_sizes, counts), dtype=np.int64)
    return [swap_in(part.tolist()) for part in np.split(picks, np.cumsum(counts)[:-1])]


def swap_in(picks: list[int]) -> Integers:
    """What lies in the first places of 0, 1, 2, … after place i was swapped with picks[i].

    Only the touched places are remembered, so that the cost does not grow with the class
    (QuickDraw has 300,000 images in one).
    """
    moved: dict[int, int] = {}
    chosen = []
    for place, pick in enumerate(picks):
        chosen.append(moved.get(pick, pick))
        moved[pick] = moved.get(place, place)
    return np.asarray(chosen, dtype=np.int64)


def episode_generator(
    protocol: EpisodeProtocol, source: str, split: Split, seed: int, index: int
) -> RandomState:
    """The generator of one episode, a function of the key alone.

    `RandomState` because numpy has frozen its streams; hashing the key keeps neighbouring
    seeds and indices unrelated.
    """
    key = f"{protocol.hash}/{source}/{split.value}/{seed}/{index}"
    entropy = int.from_bytes(hashlib.sha256(key.encode()).digest(), "little")
    return RandomState(MT19937(SeedSequence(entropy)))


def official_generators(seed: int) -> Iterator[RandomState]:
    """The generators of an official run, one per sampler in the order of their making.

    `describe` with one of these gives the episodes of the official code, which has one seed
    for the whole run (facts, section 3.1).
    """
    run = RandomState(seed)
    while True:
        yield RandomState(run.randint(0, 2**32, dtype=np.uint32))


# ---- the episode -----------------------------------------------------------------------------


class EpisodeSampler:
    """Draws the episodes of one split of one source.

    Args:
        spec: the source.
        split: "train", "valid" or "test".
        protocol: an `EpisodeProtocol` or the name of one.

    Raises:
        InputError: the split has too few classes, or the protocol cannot be obeyed on this
            kind of source.
    """

    def __init__(
        self,
        spec: SourceSpec,
        split: Split | str,
        protocol: EpisodeProtocol | str = "md-v1",
    ) -> None:
        self.spec = spec
        self.split = Split.parse(split)
        self.protocol = find_protocol(protocol)
        self.class_sizes: Integers = np.asarray(spec.images_in_split(self.split), dtype=np.int64)
        self.eligible = [
            class_id
            for class_id, size in enumerate(self.class_sizes[: self._classes_kept()])
            if size >= self.protocol.min_examples_in_class
        ]
        fewest = max(self.protocol.min_ways, self.protocol.ways or 0)
        if len(self.eligible) < fewest:
            smallest = self.protocol.min_examples_in_class
            of_size = f" of at least {smallest} images" if smallest else ""
            raise self._refusal(
                f"has {len(self.eligible)} classes{of_size}, but {fewest} are needed.",
                "Choose another split, lower ways and min_ways, or, for own images, list the "
                "classes of each split in a splits.json.",
            )
        self.nodes = self._eligible_nodes() if self._uses_dag else []
        if self._uses_bilevel:
            self._check_bilevel()

    @property
    def _uses_dag(self) -> bool:
        return isinstance(self.spec, DagSpec) and not self.protocol.ignore_dag

    @property
    def _uses_bilevel(self) -> bool:
        return isinstance(self.spec, BiLevelSpec) and not self.protocol.ignore_bilevel

    def _refusal(self, what: str, remedy: str = "") -> InputError:
        return InputError(f"the {self.split} split {what}", self.spec.name, remedy)

    def _classes_kept(self) -> int:
        """How many classes of the split may be sampled: its first `max_classes`, or all."""
        count, most = len(self.class_sizes), self.protocol.max_classes
        if most is None:
            return count
        if self._uses_dag or self._uses_bilevel:
            hierarchy = "ignore_dag" if self._uses_dag else "ignore_bilevel"
            raise self._refusal(
                "is sampled by its hierarchy.", f"Set {hierarchy} to restrict its classes."
            )
        if most > count:
            raise self._refusal(f"has {count} classes, fewer than max_classes {most}.")
        return most

    def _eligible_nodes(self) -> list[list[int]]:
        """Relative class ids under each node that spans a fit number of eligible classes."""
        if not isinstance(self.spec, DagSpec):
            return []
        if self.protocol.ways is not None:
            raise self._refusal("is sampled by its hierarchy.", "Set ignore_dag to fix the ways.")
        first = self.spec.split_classes[self.split].start
        relative = {name: i - first for i, name in enumerate(self.spec.class_names)}
        eligible = set(self.eligible)
        spans = self.spec.ontology[self.split].spanned_leaves.values()
        nodes = [
            [relative[leaf] for leaf in leaves if relative[leaf] in eligible] for leaves in spans
        ]
        fit = range(self.protocol.min_ways, self.protocol.max_leaves + 1)
        nodes = [classes for classes in nodes if len(classes) in fit]
        if not nodes:
            raise self._refusal(f"has no node that spans {fit.start} to {fit.stop - 1} classes.")
        return nodes

    def _check_bilevel(self) -> None:
        if self.protocol.ways is not None or self.protocol.min_examples_in_class > 0:
            raise self._refusal(
                "is sampled by superclass.",
                "Set ignore_bilevel to fix the ways or to ask for min_examples_in_class.",
            )
        smallest = min(self._superclass_sizes)
        if smallest < self.protocol.min_ways:
            raise self._refusal(f"has a superclass of {smallest} classes, fewer than min_ways.")

    @property
    def _superclass_sizes(self) -> tuple[int, ...]:
        return self.spec.superclass_sizes[self.split] if isinstance(self.spec, BiLevelSpec) else ()

    def _sample_classes(self, rng: RandomState) -> list[int]:
        if self._uses_dag or self._uses_bilevel:
            # The official sampler consumes this draw even when the probability is zero.
            by_hierarchy = rng.random_sample() < 1.0 - self.protocol.ignore_hierarchy_probability
            if by_hierarchy and self._uses_dag:
                return sample_dag_classes(rng, self.nodes, self.protocol)
            if by_hierarchy:
                return sample_bilevel_classes(rng, self._superclass_sizes, self.protocol)
        return sample_flat_classes(rng, self.eligible, self.protocol)

    def describe(self, rng: RandomState) -> Description:
        """The next episode's classes, shots and queries.

        Args:
            rng: successive calls on one generator give the official sequence.

        Returns:
            (relative class id, number of support images, number of query images) per class.

        Raises:
            InputError: a drawn class is too small for the protocol.
        """
        classes = self._sample_classes(rng)
        sizes = self.class_sizes[classes]
        try:
            queries = compute_num_queries(sizes, self.protocol)
            shots = sample_shots(rng, sizes, queries, self.protocol)
        except InputError as error:
            raise InputError(error.what, f"{self.spec.name} ({self.split})", error.remedy) from None
        return [(int(c), int(k), queries) for c, k in zip(classes, shots, strict=True)]

    def plan(self, seed: int, index: int) -> EpisodePlan:
        """Episode `index` of this seed: a function of the key and the spec alone.

        Images are drawn without replacement over the whole class, support first, so support
        and query are disjoint and the order of a file has no influence.

        Raises:
            InputError: as for `describe`.
        """
        rng = episode_generator(self.protocol, self.spec.name, self.split, seed, index)
        description = self.describe(rng)
        classes, shots, (queries, *_) = zip(*description, strict=True)
        sizes = self.class_sizes[list(classes)]
        drawn = sample_images(rng, sizes, [k + queries for k in shots])
        first = self.spec.split_classes[self.split].start
        labels = np.arange(len(description))
        return EpisodePlan(
            protocol_hash=self.protocol.hash,
            source=self.spec.name,
            split=self.split,
            seed=int(seed),
            index=int(index),
            class_ids=np.asarray(classes, dtype=np.int64) + first,
            support_labels=np.repeat(labels, shots),
            support_images=np.concatenate(
                [images[:k] for images, k in zip(drawn, shots, strict=True)]
            ),
            query_labels=np.repeat(labels, queries),
            query_images=np.concatenate(
                [images[k:] for images, k in zip(drawn, shots, strict=True)]
            ),
        )
