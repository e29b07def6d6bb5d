"""Methods: rows of a table. A method is a head in runs that differ in nothing but their seed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from episodes.faults import InputError
from episodes.protocol import SOURCES
from fewshot.results.aggregate import Table, build_table
from fewshot.results.frames import Frames


@dataclass(frozen=True)
class Setting:
    """What results must share to stand in one table.

    Attributes:
        benchmark: e.g. "Meta-Dataset, md-v1", or the miniature of a version.
        protocol: name and hash of the rules of the episodes.
        split: the classes evaluated on.
    """

    benchmark: str
    protocol: str
    split: str

    def __str__(self) -> str:
        return f"{self.benchmark} · {self.protocol} · {self.split} classes"


@dataclass(frozen=True, eq=False)
class Method:
    """A row of a table.

    Attributes:
        name: the head's label, with the backbone and the experiment where others share it.
        head: its label in the runs.
        backbones, pretraining: of the runs.
        training: "imagenet" if that is the train classes of ILSVRC only, "all" if it is those of
            all training sources, else what it is in words.
        images: size and rule, e.g. "84 px official".
        setting: where it may be compared.
        transductive: whether it looks at all queries of an episode at once.
        runs: ids of the runs, one per seed.
        rows: the rows of `Frames.rows`, of all seeds.
        asked: by source, how many episodes its runs were asked for, where that is known.
    """

    name: str
    head: str
    backbones: str
    pretraining: str
    training: str
    images: str
    setting: Setting
    transductive: bool
    runs: tuple[str, ...]
    rows: pd.DataFrame
    asked: Mapping[str, int]

    @property
    def sources(self) -> tuple[str, ...]:
        """Official sources first, in their order."""
        return sort_sources(map(str, self.rows["source"].unique()))


def sort_sources(names: Iterator[str] | Sequence[str]) -> tuple[str, ...]:
    """Sources in the benchmark's order, others after them by name."""
    places = {name: place for place, name in enumerate(SOURCES)}
    return tuple(sorted(set(names), key=lambda name: (places.get(name, len(places)), name)))


def find_methods(frames: Frames) -> list[Method]:
    """Every method of some results, in the order of the runs.

    Runs of one experiment and one seed (records or a head's code had changed between them) are
    methods of their own: their episodes are never counted twice.
    """
    if frames.runs.empty:
        return []
    again = frames.runs.groupby(["experiment", "seed"], dropna=False).cumcount()
    methods = []
    for _, alike in frames.runs.groupby(["experiment", again], sort=False, dropna=False):
        runs = tuple(map(str, alike.index))
        rows = frames.rows[frames.rows["run"].isin(runs)]
        facts = alike.iloc[-1]
        setting = Setting(
            facts["benchmark"] or "benchmark not recorded",
            facts["protocol"] or "protocol not recorded",
            facts["split"] or "unknown",
        )
        transductive = {name for names in alike["transductive"] for name in names}
        for head in map(str, rows["head"].unique()):
            asked: Counter[str] = Counter()
            for run in alike["asked"]:
                asked.update(run.get(head, {}))
            methods.append(
                Method(
                    name=head,
                    head=head,
                    backbones=facts["backbones"] or "backbone not recorded",
                    pretraining=facts["pretraining"] or "pre-training not recorded",
                    training=facts["training"] or "what is not recorded",
                    images=f"{facts['image_size']} px {facts['image_rule']}",
                    setting=setting,
                    transductive=head in transductive or head.endswith("(transductive)"),
                    runs=runs,
                    rows=rows[rows["head"] == head],
                    asked=asked,
                )
            )
    return _distinct(methods)


def _distinct(methods: list[Method]) -> list[Method]:
    """The methods with names that tell them apart, as short as may be."""
    for detail in ("backbones", "images", "pretraining", "runs"):
        counts = Counter(method.name for method in methods)
        methods = [
            replace(method, name=f"{method.name} @ {_text(getattr(method, detail))}")
            if counts[method.name] > 1 and _varies(methods, method.name, detail)
            else method
            for method in methods
        ]
    return methods


def _varies(methods: Sequence[Method], name: str, detail: str) -> bool:
    return len({getattr(m, detail) for m in methods if m.name == name}) > 1


def _text(detail: str | tuple[str, ...]) -> str:
    return detail if isinstance(detail, str) else detail[0]


def table_of(methods: Sequence[Method]) -> Table:
    """The table of methods of one setting; failed episodes are told, never averaged over.

    Raises:
        InputError: the methods are of several settings.
    """
    settings = list(dict.fromkeys(method.setting for method in methods))
    if len(settings) > 1:
        raise InputError(
            f"results of {len(settings)} settings are never put into one table: "
            f"{'; '.join(map(str, settings))}.",
            remedy="Name the runs of one of them.",
        )
    accuracies, failures, asked = {}, {}, {}
    for method in methods:
        for source, rows in method.rows.groupby("source", observed=True):
            key = (method.name, str(source))
            accuracies[key] = rows["accuracy"].dropna().to_numpy(float)
            failures[key] = rows["status"][rows["accuracy"].isna()].astype(str).tolist()
            asked[key] = method.asked.get(str(source), 0)
    sources = sort_sources([source for method in methods for source in method.sources])
    names = [method.name for method in methods]
    apart = [method.name for method in methods if method.transductive]
    return build_table(accuracies, names, sources, failures, asked, apart)
