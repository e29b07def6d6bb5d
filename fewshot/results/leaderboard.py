"""Own results among published ones: who may be ranked with whom, and the ranks.

Source: the leaderboard of google-research/meta-dataset and its rules of submission.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from episodes.protocol import SOURCES, find_protocol
from fewshot.results.aggregate import Cell, Table, mean_and_interval, rank_table
from fewshot.results.methods import Method, Setting
from fewshot.results.tables import SHORT_NAMES

COLUMNS = {name: SHORT_NAMES[name] for name in SOURCES} | {"ilsvrc_2012": "ILSVRC (test)"}
"""Official name of a source → its column on the leaderboard, in the order of the columns."""
TRAININGS = {"imagenet": "Training on ImageNet only", "all": "Training on all datasets"}
"""The two leaderboards and their headings."""
FEWEST_EPISODES = 600


@dataclass(frozen=True)
class Reference:
    """Where a result was published; `number` is how tables refer to it."""

    number: int
    citation: str
    url: str


@dataclass(frozen=True)
class Entry:
    """A row of a leaderboard.

    Attributes:
        method: its name.
        training: "imagenet", "all", or in words what else it was trained on.
        pretraining: what its backbone has seen, in words.
        cells: results by column.
        references: where they were published; none for own results.
        backbone: in words, where known.
        transductive: whether it looks at all queries of an episode at once.
        why_unranked: the reasons why it may not be ranked with the others; none if it may.
    """

    method: str
    training: str
    pretraining: str
    cells: Mapping[str, Cell | None]
    references: tuple[Reference, ...] = ()
    backbone: str = ""
    transductive: bool = False
    why_unranked: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Leaderboard:
    """Rows that are ranked together, and rows that are only shown.

    Attributes:
        title: heading.
        training: as of the entries.
        entries: the ranked ones in the order given, then the others.
        ranked: how many are ranked.
        table: the entries' cells, ranks and means; columns are those of the leaderboard.
    """

    title: str
    training: str
    entries: tuple[Entry, ...]
    ranked: int
    table: Table


def build_leaderboard(title: str, training: str, entries: Sequence[Entry]) -> Leaderboard:
    """Rank the entries that may be ranked; the others follow without rank and move nobody's.

    Args:
        title: heading.
        training: of the leaderboard.
        entries: in the order of registration.
    """
    order = [*COLUMNS.values()]
    names = dict.fromkeys(column for entry in entries for column in entry.cells)
    columns = [c for c in order if c in names] + [c for c in names if c not in order]
    first = [entry for entry in entries if not entry.why_unranked]
    placed = first + [entry for entry in entries if entry.why_unranked]
    table = rank_table(
        [entry.method for entry in placed],
        columns,
        [[entry.cells.get(column) for column in columns] for entry in placed],
        [not entry.why_unranked for entry in placed],
    )
    return Leaderboard(title, training, tuple(placed), len(first), table)


def own_entry(method: Method) -> Entry:
    """A method of one's own as a row; nothing is said yet of who it may be ranked with."""
    cells: dict[str, Cell | None] = {}
    by_source = dict(iter(method.rows.groupby("source", observed=True)["accuracy"]))
    for source in method.sources:
        rows = by_source[source]
        mean, ci = mean_and_interval(rows.dropna())
        failed = int(rows.isna().sum())
        missing = max(0, method.asked.get(source, 0) - len(rows))
        cell = None if mean is None else Cell(mean, ci, len(rows) - failed, failed, missing)
        cells[COLUMNS.get(source, source)] = cell
    return Entry(
        method=method.name,
        training=method.training,
        pretraining=method.pretraining,
        cells=cells,
        backbone=f"{method.backbones}, {method.images}",
        transductive=method.transductive,
    )


def reasons_against(method: Method, entry: Entry, training: str) -> tuple[str, ...]:
    """Why a method of one's own may not be ranked on an official leaderboard; empty if it may.

    Args:
        method: it.
        entry: its row.
        training: "imagenet" or "all".
    """
    official = find_protocol("md-v1")
    wanted = Setting("Meta-Dataset, md-v1", f"md-v1 ({official.hash})", "test")
    reasons = []
    if "miniature" in method.setting.benchmark:
        reasons.append("miniature: drawn stand-ins, not the benchmark's images")
    if method.setting.protocol != wanted.protocol:
        reasons.append(f"protocol {method.setting.protocol}, not {wanted.protocol}")
    if method.setting.split != wanted.split:
        reasons.append(f"{method.setting.split} classes")
    missing = [column for column in COLUMNS.values() if entry.cells.get(column) is None]
    if missing:
        reasons.append(f"no results on {', '.join(missing)}")
    cells = [entry.cells[c] for c in COLUMNS.values() if c not in missing]
    fewest = min((cell.episodes for cell in cells if cell), default=0)
    if cells and fewest < FEWEST_EPISODES:
        reasons.append(f"{fewest} episodes, fewer than {FEWEST_EPISODES}")
    if entry.training != training:
        reasons.append(f"trained on {entry.pretraining}")
    return (*reasons, *reasons_anywhere(entry))


def reasons_anywhere(entry: Entry) -> tuple[str, ...]:
    """Why a row is ranked with no other, wherever it stands."""
    failed = sum(cell.failed for cell in entry.cells.values() if cell)
    missing = sum(cell.missing for cell in entry.cells.values() if cell)
    reasons = [f"{failed} episodes failed"] if failed else []
    reasons += [f"{missing} episodes are not evaluated yet"] if missing else []
    return (*reasons, "transductive") if entry.transductive else tuple(reasons)


def own_boards(methods: Sequence[Method]) -> list[Leaderboard]:
    """One table for each benchmark, protocol, split and pre-training, of own results alone."""
    groups: dict[tuple[Setting, str], list[Entry]] = {}
    for method in methods:
        groups.setdefault((method.setting, method.pretraining), []).append(own_entry(method))
    return [
        build_leaderboard(
            f"{setting} · pre-training: {pretraining}",
            entries[0].training,
            [
                replace(entry, why_unranked=(*lacking(entry, entries), *reasons_anywhere(entry)))
                for entry in entries
            ],
        )
        for (setting, pretraining), entries in groups.items()
    ]


def lacking(entry: Entry, beside: Sequence[Entry]) -> tuple[str, ...]:
    """What a row lacks that any row beside it has."""
    there = {column for other in beside for column, cell in other.cells.items() if cell}
    columns = [*COLUMNS.values(), *sorted(there - {*COLUMNS.values()})]
    missing = [c for c in columns if c in there and not entry.cells.get(c)]
    single = [c for c in columns if (cell := entry.cells.get(c)) and cell.ci is None]
    reasons = [f"no results on {', '.join(missing)}"] if missing else []
    return (*reasons, f"a single episode of {', '.join(single)}") if single else tuple(reasons)
