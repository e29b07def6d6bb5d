"""Which sources an experiment evaluates on, and the episodes of each."""

from collections.abc import Callable
from pathlib import Path

from episodes import EpisodeReader, InputError, Split
from episodes.folder import parse_own_source
from episodes.miniature import MINIATURE_VERSION, draw_miniature, is_complete
from episodes.plan_file import PlanFile, read_plans
from episodes.protocol import find_protocol
from episodes.reader import PlannedReader
from episodes.remote import local_folder
from episodes.source import find_layout, find_spec
from fewshot.experiment import Experiment
from fewshot.training.settings import Settings


def find_records(
    experiment: Experiment | Settings, progress: Callable[[int, int], None]
) -> tuple[Path, str]:
    """The records folder and what a table calls it; the miniature is drawn on first use.

    Args:
        experiment: says where the records are (a folder, or its URL), and whose splits are obeyed.
        progress: called with class files drawn and in all.

    Raises:
        InputError: there is no such folder, or the miniature cannot be written.
    """
    folder = local_folder(experiment.records or draw_miniature(progress=progress))
    if not folder.is_dir():
        raise InputError("there is no such folder.", folder, "Check --records.")
    name = find_protocol(experiment.protocol).name
    if is_complete(folder):
        return folder, f"miniature v{MINIATURE_VERSION} (not Meta-Dataset), {name}"
    return folder, f"Meta-Dataset, {name}"


def open_sources(
    experiment: Experiment, records: Path
) -> tuple[dict[str, EpisodeReader], dict[str, str]]:
    """The episodes of every source to evaluate on.

    A source that `--sources` names is always opened, so that its absence is an error.

    Returns:
        The readers by name of the source, and the benchmark's sources that are left out, each
        with the reason.

    Raises:
        InputError: a source is broken, none is there, or a plan file does not fit.
    """
    if experiment.plans:
        return _open_planned(experiment, records), {}
    names = list(experiment.sources)
    skipped: dict[str, str] = {}
    if experiment.sources == ("all",):
        names, skipped = _choose(experiment, records)
    readers = [
        EpisodeReader(
            records,
            name,
            experiment.split,
            experiment.protocol,
            experiment.seed,
            experiment.image_size,
            experiment.image_rule,
            experiment.packs,
        )
        for name in names
    ]
    return _by_name(readers), skipped


def _choose(experiment: Experiment, records: Path) -> tuple[list[str], dict[str, str]]:
    """The protocol's sources that are there and have classes; why the others are left out."""
    known, split = experiment.source_names(), Split.parse(experiment.split)
    skipped = {
        name: "not in the records"
        for name in known
        if not ((records / name).exists() or find_layout(records, name))
    }
    if len(skipped) == len(known):
        raise InputError(
            f"the folder holds none of the sources {', '.join(known)}.",
            records,
            f"It must hold a folder per source, e.g. {records / known[0]}.",
        )
    for name in known:
        if name not in skipped and not find_spec(records, name).split_classes[split]:
            skipped[name] = f"has no {split} classes"
    chosen = [name for name in known if name not in skipped]
    if not chosen:
        raise InputError(f"no source here has {split} classes.", records, "Choose another --split.")
    return chosen, skipped


def _by_name(readers: list[EpisodeReader]) -> dict[str, EpisodeReader]:
    found: dict[str, EpisodeReader] = {}
    for reader in readers:
        name = reader.images.spec.name
        if name in found:
            raise InputError(f"two sources are called '{name}'.", "--sources", "Rename one.")
        found[name] = reader
    return found


def _open_planned(experiment: Experiment, records: Path) -> dict[str, EpisodeReader]:
    files = [_fitting(read_plans(path), experiment) for path in experiment.plans]
    own = [text for text in experiment.sources if parse_own_source(text)]
    places = {text.partition("=")[0]: text for text in own}
    readers: list[EpisodeReader] = [
        PlannedReader(
            records,
            file,
            experiment.image_size,
            experiment.image_rule,
            experiment.packs,
            places.get(file.source),
        )
        for file in files
    ]
    found = _by_name(readers)
    named = [text.partition("=")[0] for text in experiment.sources if text != "all"]
    unplanned = [name for name in named if name not in found]
    if unplanned:
        remedy = "Give a plan file for each source, or none."
        raise InputError(f"no plan file is of {', '.join(unplanned)}.", "--plans", remedy)
    return {name: found[name] for name in named} if named else found


def _fitting(file: PlanFile, experiment: Experiment) -> PlanFile:
    """A plan file that agrees with the other settings.

    Raises:
        InputError: it holds another split, protocol or seed, or too few episodes.
    """
    file.expect(split=experiment.split, protocol=experiment.protocol)
    if file.seed != experiment.seed:
        what = f"holds episodes of seed {file.seed}, not of {experiment.seed}."
        raise InputError(what, file.path, f"Add --seed {file.seed}.")
    if len(file) < experiment.episodes:
        what = f"holds {len(file)} episodes, but {experiment.episodes} are asked for."
        raise InputError(what, file.path, f"Add --episodes {len(file)}.")
    return file
