"""`leaderboard`: a leaderboard rebuilt from submitted folders alone, as a site of static files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from episodes.faults import InputError

if TYPE_CHECKING:
    from fewshot.results.submission import Submission


@dataclass(frozen=True)
class Build:
    """Check submissions and build the tables and the site from their files.

    Every submission is checked: its files, 600 episodes or more, hashes of the episodes, complete
    provenance. If one has a fault, every fault of every submission is told and nothing is built.
    """

    submissions: tyro.conf.Positional[tuple[Path, ...]]
    """Submissions, or folders of submissions."""
    out: Path
    """Folder of the site; its files are replaced."""
    skip_faulty: bool = False
    """Build without the submissions that have faults; they are told all the same."""


@dataclass(frozen=True)
class Check:
    """Check submissions, and build nothing."""

    submissions: tyro.conf.Positional[tuple[Path, ...]]
    """Submissions, or folders of submissions."""


Command = (
    Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Check, tyro.conf.subcommand("check")]
)


def run(command: Build | Check, console: Console) -> int:
    """Do what the sub-command says; the exit status is 1 when a submission has a fault."""
    found, faults = read_all(command.submissions)
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


def read_all(places: tuple[Path, ...]) -> "tuple[list[Submission], list[str]]":
    """Every submission that is complete, and the faults of the others."""
    from fewshot.results.submission import find_submissions, read_submission

    found, faults = [], []
    for folder in dict.fromkeys(path for place in places for path in find_submissions(place)):
        try:
            found.append(read_submission(folder))
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


def say(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
