"""A sweep: works through the cells of a study; one that fails stops no other.

Every experiment has a process of its own, so that whatever happens to it (no memory, a head
that ends its process) happens to it alone, and nothing of it is left for the next.
"""

import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from multiprocessing.connection import Connection

from episodes import InputError
from episodes.parallel import cause_of_death, start_connected
from fewshot.checkpoint import load_card
from fewshot.evaluation import line_up
from fewshot.experiment import Experiment
from fewshot.heads import Head, is_own
from fewshot.ingredients import collect_ingredients, fingerprint
from fewshot.listener import Listener
from fewshot.results import RowStore
from fewshot.results.file import ROWS_FILE
from fewshot.results.rows import head_alone
from fewshot.run import carry_out, choose_kind
from fewshot.sources import find_records, open_sources
from fewshot.study import Cell, Work, count_cells
from fewshot.trained import backbone_path, open_training_images

FAULT_FILE = "fault.log"
"""In a run folder: what an experiment printed that failed in an unforeseen way."""

BuildHead = Callable[[str], Head]


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        cell: the cell.
        fault: why it could not be finished; empty if it is.
        was_there: whether every row was stored before.
        failed: episodes on which its head failed, which are rows too.
    """

    cell: Cell
    fault: str = ""
    was_there: bool = False
    failed: int = 0


def sweep(works: Sequence[Work], build_head: BuildHead, listener: Listener) -> Iterator[Outcome]:
    """Work through a list; cells that need no computing first.

    Cells that share a run folder are evaluated together. If that fails, each is tried alone, so
    that only those fail that must.

    Args:
        works: the list.
        build_head: makes heads of their texts; a function of a module, as it travels by name.
        listener: told how far the whole is, and the experiment that is being carried out.

    Yields:
        What became of each cell, as soon as it is known.
    """
    total, done, faults = count_cells(works), 0, 0
    left: deque[Work] = deque()
    for work in works:
        there = [cell for cell in work.cells if is_stored(cell.experiment, build_head)]
        yield from (Outcome(cell, was_there=True) for cell in there)
        done += len(there)
        if rest := tuple(cell for cell in work.cells if cell not in there):
            left.append(Work(rest))
        listener.progress("cells", done, total, "looking at what is stored")
    while left:
        work = left.popleft()
        listener.progress("cells", done, total, f"{faults} failed, now {work.name}")
        found = carry_out_alone(work.experiment, build_head, listener)
        if not isinstance(found, str):
            yield from (Outcome(cell, failed=found[cell.head]) for cell in work.cells)
        elif len(work.cells) > 1:
            listener.say(f"{work.name}: {found} Its heads are now tried one by one.")
            left.extendleft(reversed(work.alone()))
            continue
        else:
            yield Outcome(work.cells[0], found)
            faults += 1
        done += len(work.cells)
    listener.progress("cells", done, total, f"{faults} failed" if faults else "")


# ---- what is stored --------------------------------------------------------------------------


def is_stored(experiment: Experiment, build_head: BuildHead) -> bool:
    """Whether the run folder has every row, made of what is there now: images, weights, code.

    Heads of the user's own are never taken as stored: the run itself looks.
    """
    assert experiment.output is not None
    path = experiment.output / ROWS_FILE
    if not path.is_file():
        return False
    try:
        records, benchmark = find_records(experiment, lambda done, total: None)
        readers, _ = open_sources(experiment, records)
        heads = [build_head(text) for text in experiment.heads]
        names = experiment.backbones_of_checkpoints() or experiment.backbone
        entries = line_up(heads, names)
        trained = [backbone_path(experiment.output, name) for name in names]
        cards = [load_card(place) for place in experiment.checkpoint or trained]
        facts: dict[str, object] = {"records": benchmark, "device": choose_kind(experiment).type}
        if experiment.checkpoint:
            facts["weights"] = [card.weights for card in cards]
        else:
            images = open_training_images(experiment, records)
            facts["trained_on"] = fingerprint(images.reader)
        if any(is_own(head) for head in heads):
            return False
        made_of = collect_ingredients(readers, entries, cards)
        with RowStore(path, read_only=True) as store:
            run = store.find(experiment.identity(**facts), made_of)
            return run is not None and all(
                len(store.done(run, entry.label, source).keys() & {*range(experiment.episodes)})
                == experiment.episodes
                for entry, source in product(entries, readers)
            )
    except InputError:
        return False  # the run itself will say what is wrong


# ---- one experiment in a process of its own --------------------------------------------------


def carry_out_alone(
    experiment: Experiment, build_head: BuildHead, listener: Listener
) -> str | dict[str, int]:
    """Carry out an experiment in a process of its own.

    Returns:
        Why it failed; or by head, on how many episodes the head failed.
    """
    process, own = start_connected(serve, experiment, build_head)
    try:
        while True:
            match own.recv():
                case ("say", str(sentence)):
                    listener.say(sentence)
                case ("progress", *arguments):
                    listener.progress(*arguments)
                case str(result) | dict(result):
                    return result
    except (EOFError, OSError):
        return f"its process died: {cause_of_death(process)}."
    finally:
        process.kill()  # it has nothing left to do
        process.join()
        own.close()


def serve(connection: Connection, experiment: Experiment, build_head: BuildHead) -> None:
    """What the process of an experiment does; the last that it sends is the result."""
    listener = Listener(
        lambda sentence: connection.send(("say", sentence)),
        lambda *arguments: connection.send(("progress", *arguments)),
    )
    try:
        run = carry_out(experiment, listener, build_head).run
        connection.send(count_failed(experiment, run, build_head))
    except BrokenPipeError:
        return  # the sweep is gone
    except (InputError, OSError, MemoryError) as error:
        connection.send(str(error) or type(error).__name__)
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error} ({keep_fault(experiment, error)})")


def count_failed(experiment: Experiment, run: str, build_head: BuildHead) -> dict[str, int]:
    """By head, on how many episodes of a run it failed."""
    assert experiment.output is not None
    with RowStore(experiment.output / ROWS_FILE, read_only=True) as store:
        failures = store.failures(run, experiment.episodes)
    counts = Counter[str]()
    for (label, _), reasons in failures.items():
        counts[head_alone(label).removesuffix(" (transductive)")] += len(reasons)
    return {text: counts[str(build_head(text))] for text in experiment.heads}


def keep_fault(experiment: Experiment, error: Exception) -> str:
    """Write down what an unforeseen error printed; where it can be read."""
    assert experiment.output is not None
    path = experiment.output / FAULT_FILE
    try:
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError as why:
        return f"its traceback cannot be written: {why}"
    return f"its traceback is in {path}"
