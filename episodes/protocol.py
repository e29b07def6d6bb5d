"""What an episode may look like: sources, splits, and the frozen episode protocol."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from episodes.faults import InputError, unknown_name
from episodes.yaml_file import read_yaml

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
        max_classes: only the first so many classes of the split are sampled. Other splits keep
            their classes (the official restriction moves the later ones: facts, section 1.4).
        train_sources, valid_sources, test_sources: where the benchmark draws each split's
            episodes. Any other source can be sampled by name.
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
    max_classes: int | None = None
    train_sources: tuple[str, ...] = (
        "ilsvrc_2012",
        "aircraft",
        "cu_birds",
        "omniglot",
        "quickdraw",
        "vgg_flower",
        "dtd",
        "fungi",
    )
    valid_sources: tuple[str, ...] = ("ilsvrc_2012",)
    test_sources: tuple[str, ...] = SOURCES

    def __post_init__(self) -> None:
        """Raises InputError when a rule has the wrong type or cannot be obeyed."""
        for field in fields(self):
            rule = _typed(field.name, getattr(self, field.name), field.default, self.name)
            object.__setattr__(self, field.name, rule)
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}.", self.name, "It must be at least 1.")
        for low, high in RANGES:
            least, greatest = getattr(self, low), getattr(self, high)
            if least > greatest:
                raise InputError(f"{low} {least} exceeds {high} {greatest}.", self.name)
        fewest, most = self.shot_range
        if fewest < 1 or most < fewest:
            raise InputError(f"shots {self.shots} is not a range of 1 or more.", self.name)
        if not 0.0 <= self.ignore_hierarchy_probability <= 1.0:
            raise InputError("ignore_hierarchy_probability is outside 0 to 1.", self.name)
        for split in Split:
            if len(set(self.sources(split))) < len(self.sources(split)):
                raise InputError(f"{split}_sources names one twice.", self.name)

    @property
    def shot_range(self) -> tuple[int, int]:
        """Least and greatest number of fixed shots; (1, 1) when shots are drawn per class."""
        if self.shots is None:
            return (1, 1)
        return (self.shots, self.shots) if isinstance(self.shots, int) else self.shots

    def sources(self, split: Split | str) -> tuple[str, ...]:
        """The sources of the benchmark that have classes in this split, in its order."""
        of_split = {
            Split.TRAIN: self.train_sources,
            Split.VALID: self.valid_sources,
            Split.TEST: self.test_sources,
        }
        return of_split[Split.parse(split)]

    @cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change with any rule.

        Rules that came after the first release count only where they differ from their
        defaults, so that protocols which do not use them kept their hashes and episodes.
        """
        defaults = {field.name: field.default for field in fields(self)}
        rules = {
            name: value
            for name, value in asdict(self).items()
            if name not in LATER_RULES or value != defaults[name]
        }
        canonical = json.dumps(rules, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


LATER_RULES = ("max_classes", "train_sources", "valid_sources", "test_sources")
POSITIVE = (
    "version",
    "ways",
    "queries",
    "min_ways",
    "max_queries",
    "max_support",
    "max_support_per_class",
    "max_leaves",
    "max_classes",
)
RANGES = (("min_ways", "max_ways"), ("min_log_weight", "max_log_weight"))


def _typed(name: str, value: Any, default: object, protocol: str) -> Any:
    """A rule in the type of its default, so that equal rules have equal hashes.

    Raises:
        InputError: it has another type.
    """
    if name == "shots" and isinstance(value, list | tuple) and len(value) == 2:
        return tuple(_typed("an end of shots", end, 1, protocol) for end in value)
    if value is None and default is None:
        return None
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    match default:
        case bool():
            wanted = "true or false"
            if isinstance(value, bool):
                return value
        case float():
            wanted = "a finite number"
            if is_number and math.isfinite(value):
                return float(value)
        case str():
            wanted = "a text"
            if isinstance(value, str) and value.strip():
                return value
        case tuple():
            wanted = "a list of names"
            if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
                return tuple(value)
        case _:
            wanted = "a whole number"
            if is_number and isinstance(value, Integral):
                return int(value)
    raise InputError(f"{name} is {value!r}, not {wanted}.", protocol)


def _fixed(name: str, ways: int, shots: int, queries: int) -> EpisodeProtocol:
    """So many ways and shots, classes drawn uniformly from all that have enough images."""
    return EpisodeProtocol(
        name=name,
        ways=ways,
        shots=shots,
        queries=queries,
        min_examples_in_class=shots + queries,
        ignore_dag=True,
        ignore_bilevel=True,
    )


MD_V2 = EpisodeProtocol(
    name="md-v2",
    train_sources=(
        "ilsvrc_2012_v2",
        "aircraft",
        "cu_birds",
        "omniglot",
        "quickdraw",
        "dtd",
        "fungi",
    ),
    valid_sources=("fungi", "aircraft", "quickdraw", "omniglot", "mscoco", "cu_birds", "dtd"),
    test_sources=(
        "aircraft",
        "cu_birds",
        "dtd",
        "fungi",
        "mscoco",
        "omniglot",
        "quickdraw",
        "traffic_sign",
    ),
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        EpisodeProtocol(),
        MD_V2,
        _fixed("5w1s", ways=5, shots=1, queries=15),
        _fixed("5w5s", ways=5, shots=5, queries=15),
        EpisodeProtocol(name="vary5shot", shots=5),
    )
}
"""Protocols by name.

`md-v1` and `md-v2` are the two editions of the benchmark (facts, sections 3.2, 4.5 and 4.9): the
same rules, other sources. `5w1s` and `5w5s` are its fixed setup, 15 queries per class (section
3.2), which has no use for a hierarchy; classes with too few images are left out. `vary5shot`
draws the ways and fixes the shots, as SUR and URL do.
"""


def find_protocol(protocol: EpisodeProtocol | str | Path) -> EpisodeProtocol:
    """A protocol given as itself, by its name, or as the path of a YAML file.

    Raises:
        InputError: no protocol has this name, or the file is not a protocol.
    """
    if isinstance(protocol, EpisodeProtocol):
        return protocol
    if isinstance(protocol, Path) or protocol.endswith((".yaml", ".yml")):
        return read_protocol(Path(protocol))
    if protocol not in PROTOCOLS:
        fault = unknown_name("protocol", protocol, PROTOCOLS)
        remedy = f"{fault.remedy} Or give the path of a .yaml file."
        raise InputError(fault.what, remedy=remedy)
    return PROTOCOLS[protocol]


def read_protocol(path: Path) -> EpisodeProtocol:
    """A protocol of the user's own, e.g.

        name: 10w3s
        base: 5w5s      # a preset; md-v1 when absent
        ways: 10
        shots: 3

    Raises:
        InputError: the file is missing, is not a flat YAML mapping with a new name, or has an
            unknown or impossible rule.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError("is not a mapping of rules to values.", path)
    rules = {str(key).replace("-", "_"): value for key, value in content.items()}
    base = str(rules.pop("base", "md-v1"))
    if base not in PROTOCOLS:
        fault = unknown_name("base", base, PROTOCOLS)
        raise InputError(fault.what, path, fault.remedy)
    if "name" not in rules:
        raise InputError("has no name.", path, "Add one: it is stored with every result.")
    if str(rules["name"]) in PROTOCOLS:
        what = f"takes the name of the preset '{rules['name']}'."
        raise InputError(what, path, "Give it another name: it is stored with every result.")
    return parse_protocol(rules, path, PROTOCOLS[base])


def parse_protocol(
    rules: Mapping[str, Any], where: str | Path, base: EpisodeProtocol | None = None
) -> EpisodeProtocol:
    """A protocol from plain values; rules that are absent are those of the base (md-v1).

    Args:
        rules: as in `EpisodeProtocol`; lists may stand for tuples.
        where: they come from, for error messages.

    Raises:
        InputError: a rule is unknown, has the wrong type or cannot be obeyed.
    """
    known = [field.name for field in fields(EpisodeProtocol)]
    for name in rules:
        if name not in known:
            fault = unknown_name("rule", name, known)
            raise InputError(fault.what, where, fault.remedy)
    try:
        return replace(base or EpisodeProtocol(), **rules)
    except InputError as error:
        raise InputError(error.what, where, error.remedy) from None
