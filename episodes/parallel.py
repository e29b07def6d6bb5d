"""The same work on many things, in several processes that leave with the caller."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from episodes.faults import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")


INTERRUPTION = {signal.SIGINT}
"""What processes that are being started must not be woken by."""


def _leave_at_once() -> None:
    """Without a traceback: the caller tells of the interruption. Also when the caller is killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTION)
    leave_with_the_caller()


def leave_with_the_caller() -> None:
    """End this process when the one that started it has ended, even if that was killed."""
    Thread(target=_wait_for_the_caller, daemon=True).start()


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
    context = get_context("spawn")
    workers = min(jobs, len(tasks))
    with ProcessPoolExecutor(workers, context, initializer=_leave_at_once) as pool:
        # A process inherits the mask: an interruption while it starts waits until it is ready.
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTION)
        try:
            places = {pool.submit(function, task): place for place, task in enumerate(tasks)}
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTION)
        try:
            for done in as_completed(places):
                yield places.pop(done), done.result()
        except BrokenProcessPool as error:
            what = "a working process died."
            raise InputError(what, remedy="Free memory, or use fewer --jobs.") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _wait_for_the_caller() -> None:
    caller = parent_process()
    if caller is not None:
        caller.join()
        os._exit(1)
