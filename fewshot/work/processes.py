"""A crew of processes on this machine."""

import contextlib
import traceback
from collections import deque
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Self

from episodes import InputError
from episodes.faults import changed_meanwhile
from episodes.parallel import cause_of_death, start_connected
from fewshot.work.bench import Bench, Order
from fewshot.work.crew import Died, Follow, Joined, Report, reports
from fewshot.work.piece import Piece

BAD_STARTS = 3
"""Workers in a row that die before they can be given anything."""


class Processes:
    """Processes that each open the bench once; one that dies is replaced.

    Args:
        order: what they must know.
        size: how many.
    """

    def __init__(self, order: Order, size: int) -> None:
        self.order, self.size = order, size
        self._processes: dict[int, SpawnProcess] = {}
        self._connections: dict[int, Connection] = {}
        self._started, self._bad_starts = 0, 0
        self._reports: deque[Report] = deque()

    def __enter__(self) -> Self:
        for _ in range(self.size):
            self._start()
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes.values():
            process.kill()
        for worker in list(self._processes):
            self._bury(worker)

    def give(self, worker: int, piece: Piece) -> None:
        with contextlib.suppress(OSError):  # if it is dead, its connection will tell
            self._connections[worker].send(piece)

    def report(self, follow: Follow) -> Report:
        while not self._reports:
            for connection in wait([*self._connections.values()]):
                worker = next(w for w, own in self._connections.items() if own is connection)
                try:
                    self._take(worker, self._connections[worker].recv(), follow)
                except (EOFError, OSError):
                    self._reports.append(self._replace(worker))
        return self._reports.popleft()

    def _take(self, worker: int, message: Any, follow: Follow) -> None:
        """A report, how far images are, or a fault that ends the run."""
        match message:
            case BaseException():
                raise message
            case ("images", int(done), int(total)):
                follow(worker, done, total)
            case _:
                self._bad_starts = 0
                self._reports.append(message)

    def _start(self) -> None:
        worker, self._started = self._started, self._started + 1
        process, connection = start_connected(serve, self.order, worker)
        self._processes[worker], self._connections[worker] = process, connection

    def _replace(self, worker: int) -> Died:
        died = Died(worker, self._bury(worker))
        self._bad_starts += 1
        if self._bad_starts == BAD_STARTS * self.size:
            what = f"{self._bad_starts} worker processes in a row died ({died.why})."
            raise InputError(what, "--workers", "Free memory, or use fewer --workers.")
        self._start()
        return died

    def _bury(self, worker: int) -> str:
        """Forget a worker that is dead; how it died."""
        self._connections.pop(worker).close()
        return cause_of_death(self._processes.pop(worker))


def serve(connection: Connection, order: Order, worker: int) -> None:
    """What a worker does: open the bench, then one piece after another, until it is ended."""

    def tell(done: int, total: int) -> None:
        connection.send(("images", done, total))

    try:
        bench = Bench.open(order, worker)
        for source, images in bench.shelf.images.items():
            if images != order.images[source]:  # told apart by dates, so on one machine only
                raise changed_meanwhile(source)
        connection.send(Joined(worker))
        while True:
            for report in reports(connection.recv(), bench, worker, tell):
                connection.send(report)
    except (EOFError, BrokenPipeError):  # the driver is gone
        return
    except Exception as error:
        connection.send(portable(error))


def portable(error: Exception) -> Exception:
    """An error that survives the way to another process; of an unexpected one, what it printed."""
    foreseen = isinstance(error, InputError | OSError | MemoryError)
    if foreseen or type(error).__name__ == "OutOfMemoryError":  # PyTorch's
        return error
    return RuntimeError("in a worker process:\n" + "".join(traceback.format_exception(error)))
