"""`compare-sampler`: the sampler of the archived `meta_dataset` package beside ours."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from episodes.archived import ArchivedPackage, Comparison, compare_samplers
from episodes.faults import InputError, check_above_zero, check_not_negative
from episodes.protocol import Split, find_protocol
from episodes.spec import holds_spec, load_spec


@dataclass(frozen=True)
class Command:
    """Compare the sampler of the archived meta_dataset package with ours, on your own records.

    Both get the same specification and the same random numbers, and must describe the same
    episodes: classes, shots and queries. Reads dataset_spec.json of each source and no image.
    Exits with 0 when all agree and with 1 when not.
    """

    records: Path
    """Folder with a folder of records per source."""
    sources: tuple[str, ...] = ()
    """Sources to compare on; default: all that are there."""
    splits: tuple[str, ...] = ("train", "valid", "test")
    """Splits to compare on, where a source has classes of them."""
    protocol: str = "md-v1"
    """Rules of the episodes: a preset, or the path of a .yaml file."""
    episodes: int = 600
    """Episodes per split of a source."""
    seed: int = 1234
    """Of the archived code's own generator, which each sampler draws its seed from."""

    def __post_init__(self) -> None:
        """Raises InputError for numbers that cannot be."""
        check_above_zero(self, "episodes")
        check_not_negative(self, "seed")


def run(command: Command, console: Console) -> int:
    """Compare split after split; print a line for each, and the verdict."""
    package = ArchivedPackage()
    say(console, f"archived package: {package.place}")
    protocol, found = find_protocol(command.protocol), []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for folder, split in places(command):
            task = bar.add_task(f"{folder.name} {split}", total=command.episodes)
            comparison = compare_samplers(
                package,
                folder,
                split,
                protocol,
                command.episodes,
                command.seed,
                lambda done, task=task: bar.update(task, completed=done),  # type: ignore[misc]
            )
            bar.remove_task(task)
            found.append(comparison)
            describe(comparison, console)
    return verdict(found, command, console)


def places(command: Command) -> Iterator[tuple[Path, Split]]:
    """Every source and split to compare on.

    Raises:
        InputError: no source is there, or none has classes in these splits.
    """
    names = command.sources or sorted(
        path.name for path in command.records.glob("*") if holds_spec(path)
    )
    if not names:
        remedy = "Check the path: the archived package reads converted records only."
        raise InputError("holds no source with a dataset_spec.json.", command.records, remedy)
    splits = [Split.parse(split) for split in command.splits]
    pairs = [
        (command.records / name, split)
        for name in names
        for split in splits
        if load_spec(command.records / name).split_classes[split]
    ]
    if not pairs:
        what = f"has no classes in {' or '.join(splits)}."
        raise InputError(what, ", ".join(names), "Name other splits.")
    yield from pairs


def describe(comparison: Comparison, console: Console) -> None:
    """One line where the samplers agree; what each said where one or both do not go on."""
    equal = comparison.equal
    where = f"{comparison.source} {comparison.split}: {equal} episodes equal"
    if comparison.ours is None:
        say(console, where)
        return
    what = "refused by both" if comparison.refused else "DIFFERENT"
    say(console, f"{where}, number {equal} {what}")
    say(console, f"  ours      {comparison.ours}")
    say(console, f"  archived  {comparison.theirs}")


def verdict(found: list[Comparison], command: Command, console: Console) -> int:
    """What the comparison comes to, in a sentence; the exit status."""
    differing = [f"{one.source} {one.split}" for one in found if one.differs]
    equal = sum(one.equal for one in found)
    rules = f"protocol {command.protocol}, seed {command.seed}"
    if differing:
        say(console, f"The samplers DIFFER on {', '.join(differing)} ({rules}).")
    elif equal == 0:
        say(console, f"Nothing was compared: both samplers refuse every split ({rules}).")
    else:
        say(console, f"The samplers agree on all {equal} episodes ({rules}).")
    return 0 if equal and not differing else 1


def say(console: Console, text: str) -> None:
    """One line, not wrapped."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
