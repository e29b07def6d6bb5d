"""The sampler of the archived `meta_dataset` package beside ours, on the same random numbers.

Only for who has that package (google-research/meta-dataset). Of its folder `data` are used
`sampling.RNG`, `sampling.EpisodeDescriptionSampler`, `dataset_spec.load_dataset_spec` and
`learning_spec.Split` (facts, section 3.1).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.random import RandomState

from episodes.faults import InputError
from episodes.protocol import EpisodeProtocol, Split
from episodes.sampling import Description, EpisodeSampler, official_generators
from episodes.spec import BiLevelSpec, DagSpec, SourceSpec, load_spec

PACKAGE = "meta_dataset"
ADDRESS = "https://github.com/google-research/meta-dataset"


@dataclass(frozen=True)
class Comparison:
    """What two samplers said of the same episodes.

    Attributes:
        source, split: whose classes were sampled.
        equal: how many episodes had equal descriptions before one had not.
        ours, theirs: the first that differ, as (relative class id, shots, queries) per class, or
            why a sampler refused it; both None where all are equal.
    """

    source: str
    split: Split
    equal: int
    ours: Description | str | None = None
    theirs: Description | str | None = None

    @property
    def refused(self) -> bool:
        """Whether neither sampler gives the next episode."""
        return isinstance(self.ours, str) and isinstance(self.theirs, str)

    @property
    def differs(self) -> bool:
        """Whether the samplers disagree on an episode, or only one of them gives it."""
        return self.ours != self.theirs and not self.refused


class ArchivedPackage:
    """What is used of the archived package.

    Raises:
        InputError: it cannot be imported.
    """

    def __init__(self) -> None:
        self.sampling = _import(f"{PACKAGE}.data.sampling")
        self.specs = _import(f"{PACKAGE}.data.dataset_spec")
        self.splits = _import(f"{PACKAGE}.data.learning_spec").Split
        self.place = Path(self.sampling.__file__ or "").parents[1]

    def descriptions(
        self, spec: SourceSpec, split: Split, protocol: EpisodeProtocol, seed: int
    ) -> Iterator[Description]:
        """The endless list of episodes of a run whose only sampler is of this split.

        Args:
            spec: the source; the package reads its own from the same folder.
            split, protocol: as for `EpisodeSampler`.
            seed: of the run: of the module's generator, from which the sampler draws its own.
        """
        rules = {"RNG": RandomState(seed), "MAX_SPANNING_LEAVES_ELIGIBLE": protocol.max_leaves}
        with _set(self.sampling, rules):
            sampler = self.sampling.EpisodeDescriptionSampler(
                self.specs.load_dataset_spec(str(spec.folder)),
                self.splits[split.name],
                _as_their_configuration(protocol),
                **_hierarchy(spec, protocol),
            )
        if hasattr(sampler, "span_leaves_rel"):
            sampler.span_leaves_rel = _ragged(sampler.span_leaves_rel)
        while True:
            yield [(int(c), int(k), int(q)) for c, k, q in sampler.sample_episode_description()]


def compare_samplers(
    package: ArchivedPackage,
    folder: Path,
    split: Split,
    protocol: EpisodeProtocol,
    episodes: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Comparison:
    """The first episodes of one source by both samplers, which get equal generators.

    Args:
        folder: of the source, with its dataset_spec.json.
        split, protocol: what is sampled, by which rules.
        episodes: to compare.
        seed: of the archived code's module-wide generator.
        progress: told how many are compared.

    Raises:
        InputError: the source is missing or broken, or the protocol has rules that the archived
            sampler does not.
    """
    if protocol.max_classes is not None:
        what = (
            "max_classes is not compared: the archived code's own restriction moves later splits."
        )
        raise InputError(what, protocol.name, "Leave it out.")
    spec = load_spec(folder)
    ours = _described(_our_descriptions(spec, split, protocol, seed))
    theirs = _described(package.descriptions(spec, split, protocol, seed))
    pairs = islice(zip(ours, theirs, strict=False), episodes)
    for equal, (one, other) in enumerate(pairs):
        if isinstance(one, str) or one != other:
            return Comparison(spec.name, split, equal, one, other)
        progress(equal + 1)
    return Comparison(spec.name, split, episodes)


def _our_descriptions(
    spec: SourceSpec, split: Split, protocol: EpisodeProtocol, seed: int
) -> Iterator[Description]:
    sampler, generator = EpisodeSampler(spec, split, protocol), next(official_generators(seed))
    while True:
        yield sampler.describe(generator)


def _described(descriptions: Iterator[Description]) -> Iterator[Description | str]:
    """Descriptions until a sampler refuses, and then why."""
    try:
        yield from descriptions
    except Exception as error:  # of a foreign package: whatever it raises is its answer
        yield f"refused: {error or type(error).__name__}"


@contextmanager
def _set(module: ModuleType, values: dict[str, Any]) -> Iterator[None]:
    before = {name: getattr(module, name) for name in values}
    try:
        vars(module).update(values)
        yield
    finally:
        vars(module).update(before)


def _as_their_configuration(protocol: EpisodeProtocol) -> SimpleNamespace:
    """The rules under the names that the archived sampler reads them by."""
    return SimpleNamespace(
        num_ways=protocol.ways,
        num_support=protocol.shots,
        num_query=protocol.queries,
        min_ways=protocol.min_ways,
        max_ways_upper_bound=protocol.max_ways,
        max_num_query=protocol.max_queries,
        max_support_set_size=protocol.max_support,
        max_support_size_contrib_per_class=protocol.max_support_per_class,
        min_log_weight=protocol.min_log_weight,
        max_log_weight=protocol.max_log_weight,
        min_examples_in_class=protocol.min_examples_in_class,
        ignore_dag_ontology=protocol.ignore_dag,
        ignore_bilevel_ontology=protocol.ignore_bilevel,
        ignore_hierarchy_probability=protocol.ignore_hierarchy_probability,
        simclr_episode_fraction=0.0,
        num_unique_descriptions=0,
        episode_description_switch_frequency=1,
    )


def _hierarchy(spec: SourceSpec, protocol: EpisodeProtocol) -> dict[str, Any]:
    flags: dict[str, Any] = {
        "use_dag_hierarchy": isinstance(spec, DagSpec),
        "use_bilevel_hierarchy": isinstance(spec, BiLevelSpec),
    }
    if protocol.ignore_hierarchy_probability > 0:  # early versions have no such argument
        flags["ignore_hierarchy_probability"] = protocol.ignore_hierarchy_probability
    return flags


def _ragged(lists: list[list[int]]) -> Any:
    """Lists of different lengths as the array that numpy made of them before version 1.24."""
    array = np.empty(len(lists), dtype=object)
    array[:] = lists
    return array


def _import(name: str) -> ModuleType:
    remedy = (
        f"Clone {ADDRESS} and run again with PYTHONPATH=<its folder>, in an environment with what "
        "it imports (pip install tensorflow-cpu gin-config six absl-py)."
    )
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if missing == PACKAGE or missing.startswith(f"{PACKAGE}."):
            raise InputError(f"the package {missing} is not here.", PACKAGE, remedy) from error
        what = f"it needs the package {missing}, which is not here."
        raise InputError(what, PACKAGE, remedy) from error
    except Exception as error:  # whatever happens while foreign code is imported
        what = f"it cannot be imported: {type(error).__name__}: {error}."
        raise InputError(what, PACKAGE, remedy) from error
