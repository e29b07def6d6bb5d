"""`leaderboard`: a leaderboard rebuilt from submitted folders alone, as a site of static files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.progress import Progress

from episodes.faults import InputError, check_above_zero
from episodes.protocol import PROTOCOLS, Split, find_protocol

if TYPE_CHECKING:
    from episodes.sampling import EpisodeSampler
    from fewshot.results.known_plans import KnownPlans
    from fewshot.results.submission import Submission


@dataclass(frozen=True)
class Build:
    """Check submissions and build the tables and the site from their files.

    Every submission is checked: its files, 600 episodes or more, episodes that are known by their
    hash, complete provenance. If one has a fault, every fault of every submission is told and
    nothing is built.
    """

    submissions: tyro.conf.Positional[tuple[Path, ...]]
    """Submissions, or folders of submissions."""
    out: Path
    """Folder of the site; its files are replaced."""
    plans: tuple[Path, ...] = ()
    """Further episodes to accept: lists of `leaderboard plans`, or plan files of `plan`."""
    skip_faulty: bool = False
    """Build without the submissions that have faults; they are told all the same."""


@dataclass(frozen=True)
class Check:
    """Check submissions, and build nothing."""

    submissions: tyro.conf.Positional[tuple[Path, ...]]
    """Submissions, or folders of submissions."""
    plans: tuple[Path, ...] = ()
    """Further episodes to accept: lists of `leaderboard plans`, or plan files of `plan`."""


@dataclass(frozen=True)
class Plans:
    """List the episodes of some records by their hashes, for --plans of the other two.

    Reads the specifications of the sources and no image.
    """

    out: Path
    """CSV file to write."""
    records: Path | None = None
    """Folder with a folder of records per source; the miniature when not given."""
    protocols: tuple[str, ...] = tuple(PROTOCOLS)
    """Rules of the episodes: presets, or paths of .yaml files."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """A list for each."""
    episodes: int = 600
    """How many, from number 0 on. A run is compared where it has as many or more."""

    def __post_init__(self) -> None:
        """Raises InputError for numbers that no list could have."""
        check_above_zero(self, "episodes")
        for seed in self.seeds:
            if seed < 0:
                raise InputError(f"seed {seed} is below 0.", "--seeds")


Command = (
    Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Plans, tyro.conf.subcommand("plans")]
)


def run(command: Build | Check | Plans, console: Console) -> int:
    """Do what the sub-command says; the exit status is 1 when a submission has a fault."""
    from baselines.published import read_known_plans
    from fewshot.results.known_plans import read_known

    if isinstance(command, Plans):
        return list_plans(command, console)
    known = [*read_known_plans(), *(one for path in command.plans for one in read_known(path))]
    found, faults = read_all(command.submissions, known)
    for submission in found:
        methods = ", ".join(method.name for method in submission.methods)
        say(console, f"complete: {submission.folder} ({submission.name}: {methods})")
    for fault in faults:
        say(console, f"fault: {fault}")
    if isinstance(command, Check):
        return 1 if faults else 0
    if faults and not command.skip_faulty:
        say(console, "Nothing is built. --skip-faulty builds without them.")
        return 1
    build(found, command.out)
    say(console, f"{command.out / 'index.html'}: {len(found)} submissions")
    return 1 if faults else 0


def read_all(
    places: tuple[Path, ...], known: "list[KnownPlans]"
) -> "tuple[list[Submission], list[str]]":
    """Every submission that is complete, and the faults of the others."""
    from fewshot.results.submission import find_submissions, read_submission

    found, faults = [], []
    for folder in dict.fromkeys(path for place in places for path in find_submissions(place)):
        try:
            found.append(read_submission(folder, known))
        except InputError as error:
            faults.append(str(error))
    return found, faults


def build(submissions: "list[Submission]", out: Path) -> None:
    """Write the site: a page, and the tables as Markdown, CSV and JSON."""
    from dataclasses import replace

    from baselines.published import place_among
    from fewshot.results import leaderboard_tables as tables
    from fewshot.results.leaderboard import TRAININGS
    from fewshot.results.page import render_template
    from fewshot.results.tables import write_text

    methods = [
        replace(method, name=f"{method.name} ({submission.name})")
        for submission in submissions
        for method in submission.methods
    ]
    boards = [
        place_among([m for m in methods if m.training == training], training)
        for training in TRAININGS
    ]
    others = [method for method in methods if method.training not in TRAININGS]
    if others:
        from fewshot.results.leaderboard import own_boards

        boards += own_boards(others)
    made = [
        {"name": s.name, "paragraphs": s.paragraphs, "plans": s.plans, "folder": s.folder.name}
        for s in submissions
    ]
    page = render_template(
        "site.html",
        title="Few-shot classification on Meta-Dataset",
        tables=tables.html_tables(boards),
        submissions=made,
    )
    write_text(out / "index.html", page)
    text = "\n".join(map(tables.render_official_markdown, boards))
    write_text(out / "leaderboard.md", text)
    write_text(out / "leaderboard.csv", tables.render_leaderboard_csv(boards))
    write_text(out / "leaderboard.json", tables.render_json(boards))


def list_plans(command: Plans, console: Console) -> int:
    """Draw the test episodes of every source that is there, and write their hashes."""
    from episodes.plan_file import draw_plans
    from fewshot.results.known_plans import KnownPlans, write_known

    known, absent = [], []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("episodes", total=None)
        for protocol in command.protocols:
            benchmark, samplers, without = find_samplers(command.records, protocol)
            absent += without
            for sampler in samplers:
                for seed in command.seeds:
                    bar.update(task, description=f"{protocol}, {sampler.spec.name}, seed {seed}")
                    plans = draw_plans(sampler, seed, command.episodes)
                    known.append(KnownPlans.of(plans, benchmark))
    write_known(known, command.out)
    say(console, f"{command.out}: {len(known)} lists of {command.episodes} episodes")
    for reason in dict.fromkeys(absent):
        say(console, f"left out: {reason}")
    return 0


def find_samplers(
    records: Path | None, protocol: str
) -> "tuple[str, list[EpisodeSampler], list[str]]":
    """The benchmark that some records are, its samplers, and why sources have none.

    Raises:
        InputError: no source of the protocol is there, or a specification is broken.
    """
    from episodes.sampling import EpisodeSampler
    from episodes.source import find_layout, find_spec
    from episodes.spec import holds_spec
    from fewshot.experiment import Experiment
    from fewshot.sources import find_records

    wanted = Experiment(records=records, protocol=protocol)
    folder, title = find_records(wanted, lambda done, total: None)
    samplers, absent = [], []
    for source in find_protocol(protocol).sources(Split.TEST):
        if not (holds_spec(folder / source) or find_layout(folder, source)):
            absent.append(f"{source} is not in {folder}")
            continue
        spec = find_spec(folder, source)
        try:
            samplers.append(EpisodeSampler(spec, Split.TEST, protocol))
        except InputError as error:
            absent.append(f"{protocol}: {error}")
    if not samplers:
        raise InputError("no source has test episodes.", folder, "; ".join(absent))
    return title.partition(",")[0], samplers, absent


def say(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
