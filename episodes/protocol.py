"""What an episode may look like: sources, splits, and the frozen episode protocol."""

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum

from episodes.faults import InputError, unknown_name

SOURCES = (
    "ilsvrc_2012",
    "omniglot",
    "aircraft",
    "cu_birds",
    "dtd",
    "quickdraw",
    "fungi",
    "vgg_flower",
    "traffic_sign",
    "mscoco",
)
"""The ten sources of Meta-Dataset, in the order of its leaderboard."""


class Split(StrEnum):
    """A third of a source's classes; no class is in two splits."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"

    @classmethod
    def parse(cls, name: "str | Split") -> "Split":
        """The split of this name, in any case.

        Raises:
            InputError: there is no such split.
        """
        try:
            return cls(name.lower())
        except ValueError:
            raise unknown_name("split", name, [split.value for split in cls]) from None


@dataclass(frozen=True)
class EpisodeProtocol:
    """The rules that episodes of a benchmark obey. The defaults are those of Meta-Dataset (v1).

    Source: Triantafillou et al. 2020, section 3.2 and appendix; defaults of the official
    configuration, where None means "drawn per episode".

    Attributes:
        name, version: printed with every result; the version rises whenever numbers can move.
        ways: classes per episode; None draws them.
        shots: support images per class; (low, high) draws one number for all classes of an
            episode; None draws an imbalanced support set.
        queries: query images per class; None derives them from the smallest class.
        min_ways, max_ways: bounds of a drawn number of ways.
        max_queries: bound of a derived number of queries.
        max_support: bound on the images in a drawn support set.
        max_support_per_class: what one class may add to the size of that support set. It does
            not bound the class's shots.
        min_log_weight, max_log_weight: range of the log of a class's random weight in the
            imbalanced support set.
        min_examples_in_class: smaller classes are never sampled.
        max_leaves: DAG nodes that span more classes are never sampled (the official value
            keeps 113 of ImageNet's training nodes).
        ignore_dag, ignore_bilevel: sample classes uniformly, without the source's hierarchy.
        ignore_hierarchy_probability: chance that one episode ignores it.
    """

    name: str = "md-v1"
    version: int = 1
    ways: int | None = None
    shots: int | tuple[int, int] | None = None
    queries: int | None = None
    min_ways: int = 5
    max_ways: int = 50
    max_queries: int = 10
    max_support: int = 500
    max_support_per_class: int = 100
    min_log_weight: float = -0.69314718055994529
    max_log_weight: float = 0.69314718055994529
    min_examples_in_class: int = 0
    max_leaves: int = 392
    ignore_dag: bool = False
    ignore_bilevel: bool = False
    ignore_hierarchy_probability: float = 0.0

    def __post_init__(self) -> None:
        """Raises InputError when a rule cannot be obeyed."""
        counts = {"ways": self.ways, "queries": self.queries, "min_ways": self.min_ways}
        for field, value in counts.items():
            if value is not None and value < 1:
                raise InputError(f"{field} is {value}.", self.name, "It must be at least 1.")
        if self.min_ways > self.max_ways:
            raise InputError(
                f"min_ways {self.min_ways} exceeds max_ways {self.max_ways}.", self.name
            )
        low, high = self.shot_range
        if low < 1 or high < low:
            raise InputError(f"shots {self.shots} is not a range of 1 or more.", self.name)
        if not 0.0 <= self.ignore_hierarchy_probability <= 1.0:
            raise InputError("ignore_hierarchy_probability is outside 0 to 1.", self.name)

    @property
    def shot_range(self) -> tuple[int, int]:
        """Least and greatest number of fixed shots; (1, 1) when shots are drawn per class."""
        if self.shots is None:
            return (1, 1)
        return (self.shots, self.shots) if isinstance(self.shots, int) else self.shots

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change with any rule."""
        canonical = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


PROTOCOLS = {"md-v1": EpisodeProtocol()}
"""Protocols by name."""


def find_protocol(protocol: EpisodeProtocol | str) -> EpisodeProtocol:
    """A protocol given as itself or by its name.

    Raises:
        InputError: no protocol has this name.
    """
    if isinstance(protocol, EpisodeProtocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    return PROTOCOLS[protocol]
