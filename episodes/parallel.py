"""The same work on many things, in several processes that leave with the caller."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from episodes.faults import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")


def spread(
    function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int
) -> Iterator[tuple[int, Result]]:
    """The result of every task with the task's position, in the order in which they finish.

    Args:
        function: a function of a module, as other processes must find it.
        tasks: picklable.
        jobs: processes; 1 works in this one.

    Raises:
        InputError: a process died, killed for its memory for example.
    """
    if min(jobs, len(tasks)) <= 1:
        yield from ((place, function(task)) for place, task in enumerate(tasks))
        return
    # spawned, not forked: the caller may hold threads (torch does)
    leave_at_once = (signal.SIGINT, signal.SIG_DFL)
    context = get_context("spawn")
    workers = min(jobs, len(tasks))
    with ProcessPoolExecutor(
        workers, context, initializer=signal.signal, initargs=leave_at_once
    ) as pool:
        places = {pool.submit(function, task): place for place, task in enumerate(tasks)}
        try:
            for done in as_completed(places):
                yield places.pop(done), done.result()
        except BrokenProcessPool as error:
            what = "a working process died."
            raise InputError(what, remedy="Free memory, or use fewer --jobs.") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
