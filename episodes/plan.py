"""An episode before any pixel is read: which images of which classes play which part."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from episodes.protocol import Split

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EpisodePlan:
    """Episode number `index`: classes, shots and image ids.

    Items are sorted by label, as in the benchmark; a method that depends on their order must
    shuffle them itself.

    Attributes:
        protocol_hash, source, split, seed, index: the key that this plan is a function of.
        class_ids: [way] class id of each label, absolute in the source.
        support_labels: [support] labels, 0 to way − 1.
        support_images: [support] number of each image in the record file of its class.
        query_labels, query_images: [query] likewise.
    """

    protocol_hash: str
    source: str
    split: Split
    seed: int
    index: int
    class_ids: Integers
    support_labels: Integers
    support_images: Integers
    query_labels: Integers
    query_images: Integers

    @property
    def way(self) -> int:
        """Number of classes."""
        return len(self.class_ids)

    @property
    def shots(self) -> Integers:
        """[way] support images of each class."""
        return np.bincount(self.support_labels, minlength=self.way)

    @property
    def support_class_ids(self) -> Integers:
        """[support] class id of each support image."""
        return self.class_ids[self.support_labels]

    @property
    def query_class_ids(self) -> Integers:
        """[query] class id of each query image."""
        return self.class_ids[self.query_labels]

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits: equal for equal episodes on any machine."""
        key = [self.protocol_hash, self.source, self.split.value, self.seed, self.index]
        digest = hashlib.sha256(json.dumps(key).encode())
        for part in (
            self.class_ids,
            self.support_labels,
            self.support_images,
            self.query_labels,
            self.query_images,
        ):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
        return digest.hexdigest()[:16]


def hash_plans(plans: Sequence[EpisodePlan]) -> str:
    """Sixteen hexadecimal digits for a list of plans: results that share it are paired."""
    return hash_of_hashes([plan.hash for plan in plans])


def hash_of_hashes(hashes: Sequence[str]) -> str:
    """The same from the hashes of the plans, for who has nothing but those."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]
