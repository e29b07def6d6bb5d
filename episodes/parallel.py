"""Work in other processes, which leave with the caller."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from threading import Thread
from typing import TypeVar, TypeVarTuple

from episodes.faults import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

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
        with deaf_to_interruption():
            places = {pool.submit(function, task): place for place, task in enumerate(tasks)}
        try:
            for done in as_completed(places):
                yield places.pop(done), done.result()
        except BrokenProcessPool as error:
            what = "a working process died."
            raise InputError(what, remedy="Free memory, or use fewer --jobs.") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def start_connected(
    serve: Callable[[Connection, *Arguments], None], *arguments: *Arguments
) -> tuple[SpawnProcess, Connection]:
    """Start a process that serves this one; it hears of no interruption, which this one tells.

    Args:
        serve: a function of a module; given its end of the connection and the arguments.

    Returns:
        The process, and this end. It raises EOFError or OSError when the process has ended.
    """
    context = get_context("spawn")  # not forked: this process may hold threads
    own, its = context.Pipe()
    process = context.Process(target=_serve, args=(serve, its, *arguments))
    with deaf_to_interruption():
        process.start()
    its.close()
    return process, own


@contextlib.contextmanager
def deaf_to_interruption() -> Iterator[None]:
    """Within, processes start that no interruption wakes until they lift the mask they inherit."""
    resource_tracker.ensure_running()  # with the first process; and in starting lifts the mask
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTION)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTION)


def cause_of_death(process: SpawnProcess) -> str:
    """How a process ended, in words; waits for its end."""
    process.join()
    code = process.exitcode or 0
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def _serve(
    serve: Callable[[Connection, *Arguments], None], connection: Connection, *arguments: *Arguments
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTION)
    leave_with_the_caller()
    serve(connection, *arguments)


def _wait_for_the_caller() -> None:
    caller = parent_process()
    if caller is not None:
        caller.join()
        os._exit(1)
