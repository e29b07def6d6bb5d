"""The driver of an evaluation: gives out what is left to do, and alone writes the rows."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from episodes import InputError
from fewshot.evaluation import make_row
from fewshot.listener import Listener
from fewshot.results import EpisodeRow, RowStore
from fewshot.trial import Trial
from fewshot.work.bench import Bench
from fewshot.work.crew import Crew, Died, Finished, Joined, Rows
from fewshot.work.piece import Embedding, Piece, Scoring, divide
from fewshot.work.tally import Tally

LIVES = 3
"""Workers that die with one and the same row, until it counts as failed."""


def evaluate(
    bench: Bench,
    crew: Crew,
    indices: Sequence[int],
    store: RowStore,
    run: str,
    listener: Listener,
) -> None:
    """Make the rows of a run that are not stored yet, and store each as soon as it is there.

    Which rows there are and what they hold does not depend on the crew.

    Args:
        bench: what rows are made with; it says what is left to do.
        crew: who does it.
        indices: numbers of the episodes of each source.
        store: where rows go.
        run: id of the run there.
        listener: told how far it is.

    Raises:
        InputError: a file is missing or damaged, a setting is wrong, or an episode was stored
            with other images; what is stored stays.
    """
    tallies: dict[str, Tally] = {}

    def divisions() -> Iterator[list[Piece]]:
        for source in bench.readers:
            evaluation = bench.evaluation(source)
            stored = {label: store.done(run, label, source) for label in bench.entries}
            plans = evaluation.plans(indices)
            tallies[source] = tally = Tally(source, plans, stored, listener)
            for index, found in tally.hashes.items():
                if any(rows.get(index, found) != found for rows in stored.values()):
                    raise InputError(
                        f"episode {index} of {source} was stored with other images.",
                        store.path,
                        "The records have changed: choose another --output.",
                    )
            tally.tell()
            if any(not entry.head.adapts_backbone for entry in evaluation.entries):
                census = evaluation.store.census(plans)
                listener.say(
                    f"{source}: {census.in_episodes:,} images in episodes, "
                    f"{census.different:,} different, {census.missing:,} without features yet"
                )
            pieces = divide(plans, evaluation.entries, stored, evaluation.store, crew.size)
            tally.expect(piece for piece in pieces if isinstance(piece, Embedding))
            yield pieces

    def follow(piece: Piece, done: int, total: int) -> None:
        tallies[piece.source].embed(piece, done, total)

    for piece, found in share_out(divisions(), crew, follow):
        tally = tallies[piece.source]
        rows = [lost_row(bench, tally, piece, found.why)] if isinstance(found, Died) else found
        if new := tally.count(rows):
            store.add(run, new)
            tally.tell()
    bench.close()


def lost_row(bench: Bench, tally: Tally, piece: Piece, why: str) -> EpisodeRow:
    """The failed row of a piece that no worker survives.

    Raises:
        InputError: the piece has no row: an image ends whoever embeds it.
    """
    why = f"its process died {LIVES} times: {why}"
    if isinstance(piece, Embedding):
        raise InputError(f"an image could not be embedded: {why}.", f"source {piece.source}")
    (label,), (index,) = piece.labels, piece.indices
    return make_row(bench.entries[label], tally.plans[index], Trial(failure=why))


def share_out(
    divisions: Iterable[Sequence[Piece]],
    crew: Crew,
    follow: Callable[[Piece, int, int], None] = lambda piece, done, total: None,
) -> Iterator[tuple[Piece, list[EpisodeRow] | Died]]:
    """Give out pieces until all are done, whoever joins and dies on the way.

    The piece of a worker that died is given to another in halves, so that what kills is soon
    alone; a piece that cannot be halved and has ended `LIVES` workers is given up. Without any
    piece no worker is called.

    Args:
        divisions: pieces, in the order in which to begin them; drawn when a worker would wait.
        crew: who does them.
        follow: told how far the images of a piece are.

    Yields:
        A piece and rows of it, in any order, some perhaps twice; or the last death, of a piece
        that is given up.
    """
    remaining = (list(pieces) for pieces in divisions if pieces)
    waiting = next(remaining, None)
    if waiting is None:
        return
    held: dict[int, Piece] = {}
    idle: deque[int] = deque()
    deaths: Counter[Piece] = Counter()
    with crew:
        while True:
            while idle and (piece := next_piece(waiting, held, remaining)):
                held[idle[0]] = piece
                crew.give(idle.popleft(), piece)
            if not waiting and not held and not (waiting := next(remaining, [])):
                return
            report = crew.report(lambda worker, *images: follow(held[worker], *images))
            match report:
                case Joined(worker):
                    idle.append(worker)
                case Rows(worker, rows):
                    yield held[worker], rows
                case Finished(worker):
                    del held[worker]
                    idle.append(worker)
                case Died(worker, _):
                    if worker in idle:
                        idle.remove(worker)
                    if worker in held:
                        piece = held.pop(worker)
                        deaths[piece] += 1
                        halves = piece.halves()
                        if len(halves) == 1 and deaths[piece] == LIVES:
                            yield piece, report
                        else:
                            waiting[:0] = halves


def next_piece(
    waiting: list[Piece], held: Mapping[int, Piece], remaining: Iterator[list[Piece]]
) -> Piece | None:
    """Take the first piece that can begin, of more divisions if need be; None if none can now.

    Heads on features wait until the images of their source are embedded.
    """
    while True:
        pieces = (*waiting, *held.values())
        embedding = {piece.source for piece in pieces if isinstance(piece, Embedding)}
        for place, piece in enumerate(waiting):
            if not (isinstance(piece, Scoring) and piece.on_features and piece.source in embedding):
                return waiting.pop(place)
        more = next(remaining, None)
        if more is None:
            return None
        waiting += more
