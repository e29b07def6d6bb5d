"""`plan`: write the episodes of an evaluation to a file."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from episodes.faults import InputError, check_above_zero, check_not_negative
from episodes.plan_file import draw_plans, read_plans, write_plans
from episodes.sampling import EpisodeSampler
from episodes.source import find_spec


@dataclass(frozen=True)
class Command:
    """Write the episodes of an evaluation to a file, before any image is read.

    The file names the classes and images of episodes 0, 1, … of one source, and what they were
    drawn from. Two people with the same records get the same hash. Reads no image.
    """

    records: Path
    """Folder with a folder of records per source."""
    source: str
    """Source to draw from; name=folder for a folder of class folders of images."""
    out: Path
    """Parquet file to write, e.g. plans.parquet."""
    split: str = "test"
    """Classes to draw from: train, valid or test."""
    protocol: str = "md-v1"
    """Rules of the episodes: a preset, or the path of a .yaml file."""
    episodes: int = 600
    """How many; published results use 600."""
    seed: int = 0
    """Another seed draws other episodes."""

    def __post_init__(self) -> None:
        """Raises InputError for numbers that no plan file could have."""
        check_above_zero(self, "episodes")
        check_not_negative(self, "seed")


def run(command: Command, console: Console) -> int:
    """Write the file and say its hash."""
    spec = find_spec(command.records, command.source)
    sampler = EpisodeSampler(spec, command.split, command.protocol)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("episodes", total=command.episodes)
        content = draw_plans(
            sampler,
            command.seed,
            command.episodes,
            lambda done, _: bar.update(task, completed=done),
        )
    check_free(command.out, content.hash)
    write_plans(content, command.out)
    lines = (
        f"{len(content)} episodes of {content.source} ({content.split}): {command.out}",
        f"hash      {content.hash}",
        f"protocol  {content.protocol.name} ({content.protocol.hash})",
        f"records   {content.spec_fingerprint}",
    )
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
    return 0


def check_free(path: Path, plans_hash: str) -> None:
    """Raises InputError where writing these plans would lose something else."""
    if not path.exists():
        return
    remedy = "Remove it, or give --out another name."
    try:
        found = read_plans(path).hash
    except InputError:
        raise InputError("is there already and is no plan file.", path, remedy) from None
    if found != plans_hash:
        raise InputError(f"holds other plans ({found}, not {plans_hash}).", path, remedy)
