"""What `results summary` and `results compare` print: spreads, and paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from episodes.faults import InputError

EVERYWHERE = Path("runs")


@dataclass(frozen=True)
class Summary:
    """How accuracies spread: over episodes, over the classes of a source, quantiles."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Ids or folders; all of --results when none is given."""
    results: Path = EVERYWHERE
    """Folder that holds run folders."""


@dataclass(frozen=True)
class Compare:
    """Compare heads or backbones on identical episodes, source by source.

    Refuses what did not see the same images. Differences are in points of accuracy.
    """

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Ids or folders; all of --results when none is given."""
    heads: tuple[str, ...] = ()
    """Heads to compare, on whatever backbones, or names in the table; all when none is given."""
    results: Path = EVERYWHERE
    """Folder that holds run folders."""


def summarise(command: Summary, console: Console) -> int:
    """Print one line per method and source."""
    from fewshot.results.collection import find_runs
    from fewshot.results.frames import load_runs
    from fewshot.results.methods import find_methods
    from fewshot.results.spread import QUANTILES, measure_spread

    collection = find_runs(command.runs, command.results)
    frames = load_runs(collection.runs, collection.faults)
    say_faults(frames.faults)
    grid = Table(box=None, pad_edge=False)
    quantiles = [f"{100 * q:g} %" for q in QUANTILES]
    columns = ["mean ± 95 %", "over classes", *quantiles, "episodes", "failed", "classes"]
    for name in ("method", "source", *columns):
        grid.add_column(name, justify="left" if name in ("method", "source") else "right")
    for method in find_methods(frames):
        classes = frames.classes[frames.classes["run"].isin(method.runs)]
        classes = classes[classes["head"] == method.head]
        for source in method.sources:
            rows = method.rows[method.rows["source"] == source]
            spread = measure_spread(rows, classes[classes["source"] == source])
            if spread is None:
                grid.add_row(method.name, source, "every episode failed")
                continue
            data = "–" if spread.data is None else " to ".join(map(percent, spread.data))
            interval = "" if spread.ci is None else f" ± {percent(spread.ci)}"
            counts = (spread.episodes, spread.failed, spread.classes)
            cells = [f"{percent(spread.mean)}{interval}", data, *map(percent, spread.quantiles)]
            grid.add_row(method.name, source, *cells, *map(str, counts))
    console.print(grid, markup=False)
    note = "Over classes: interval of the mean, were the source's classes drawn once more."
    console.print(note, style="dim")
    return 0


def compare(command: Compare, console: Console) -> int:
    """Print the paired differences of every two methods."""
    from itertools import chain, combinations

    from episodes.faults import unknown_name
    from fewshot.results.collection import find_runs
    from fewshot.results.comparison import compare_pair, mean_over_sources
    from fewshot.results.frames import load_runs
    from fewshot.results.methods import find_methods, sort_sources

    collection = find_runs(command.runs, command.results)
    frames = load_runs(collection.runs, collection.faults)
    say_faults(frames.faults)
    methods = find_methods(frames)
    called = {method.name: [method.name, *names_of(method.head)] for method in methods}
    for head in command.heads:
        known = dict.fromkeys(chain(*called.values()))
        if head not in known:
            raise unknown_name("head", head, known)
    if command.heads:
        methods = [method for method in methods if {*called[method.name]} & {*command.heads}]
    if len(methods) < 2:
        raise InputError("there are not two methods to compare.", remedy="Name more runs.")
    for first, second in combinations(methods, 2):
        names = (first.name, second.name)
        sources = sort_sources([*first.sources, *second.sources])
        rows = compare_pair(first.rows, second.rows, names, sources)
        grid = Table(title=f"{first.name} − {second.name}", box=None, pad_edge=False)
        for column in ("source", "points ± 95 %", "p (t, Holm)", "p (Wilcoxon)", "better"):
            grid.add_column(column, justify="left" if column == "source" else "right")
        grid.add_column("episodes", justify="right")
        grid.add_column("needed for 0.5", justify="right")
        for row in rows:
            grid.add_row(
                row.source,
                signed(row.difference, row.ci),
                p_value(row.holm),
                p_value(row.wilcoxon),
                f"{100 * row.superiority:.0f} %",
                str(row.episodes),
                "–" if row.needed is None else str(row.needed),
            )
        grid.add_row("mean of sources", signed(*mean_over_sources(rows)))
        console.print(grid, markup=False)
    return 0


def names_of(label: str) -> list[str]:
    """What a head may be called: its label, without its backbone, without its mark."""
    from fewshot.results.rows import head_alone

    alone = head_alone(label)
    return [label, alone, alone.removesuffix(" (transductive)")]


def say_faults(faults: Sequence[str]) -> None:
    """Tell, on the error stream, which files could not be read."""
    errors = Console(stderr=True)
    for fault in faults:
        errors.print(f"not read: {fault}", markup=False, highlight=False, soft_wrap=True)


def percent(fraction: float) -> str:
    """A fraction in points of accuracy."""
    return f"{100 * fraction:.2f}"


def signed(difference: float, ci: float | None) -> str:
    """A difference and its interval in points."""
    return f"{100 * difference:+.2f}" + ("" if ci is None else f" ± {percent(ci)}")


def p_value(p: float | None) -> str:
    """A p-value in two digits; small ones as a bound."""
    if p is None:
        return "–"
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"
