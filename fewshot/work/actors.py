"""A crew of Ray actors on the machines of a cluster."""

import logging
import os
import re
import socket
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Self

from episodes import InputError
from fewshot.work.bench import Bench, Order
from fewshot.work.crew import Died, Follow, Joined, Report, reports
from fewshot.work.piece import Piece
from fewshot.work.processes import BAD_STARTS, portable

INSTALL = "pip install 'run-meta-dataset[cluster]'"
LOOK_AGAIN = 2.0
"""Seconds after which the driver sees whether the cluster has grown."""
CONNECT_SECONDS = 10.0
FEWEST = 8
"""Workers for whom work is divided, at least: a cluster may grow."""


def connect(address: str) -> Any:
    """The module `ray`, connected to a cluster.

    Args:
        address: of a cluster; "auto" is the one that this machine belongs to, "local" one that
            is started for this run on this machine alone.

    Raises:
        InputError: Ray is not installed, or nothing answers there.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed.", "--ray", f"Run: {INSTALL}") from error
    if not ray.is_initialized():
        try:
            knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            first = str(error).strip().split("\n")[0].rstrip(".")
            remedy = (
                "Start one with `ray start --head`, or give --ray local. If it asks for a token, "
                "set RAY_AUTH_MODE=token."
            )
            raise InputError(
                f"no Ray cluster answers ({first}).", f"--ray {address}", remedy
            ) from error
    return ray


def knock(address: str) -> None:
    """Raise OSError if nothing answers at host:port, for which Ray itself waits five minutes."""
    found = re.fullmatch(r"(?:ray://)?(.+):([0-9]{1,5})", address)
    if found:
        socket.create_connection((found[1], int(found[2])), CONNECT_SECONDS).close()


def has_gpus(address: str) -> bool:
    """Whether a cluster has GPUs."""
    return bool(connect(address).cluster_resources().get("GPU", 0))


class Worker:
    """What an actor does: open the bench, then one piece after another."""

    def __init__(self, worker: int) -> None:
        self.worker = worker

    def open(self, order: Order) -> Report | Exception:
        """Open the bench."""
        try:
            self.bench = Bench.open(order)
        except Exception as error:
            return portable(error)
        return Joined(self.worker)

    def work(self, piece: Piece) -> Iterator[Report | Exception]:
        """Do a piece."""
        try:
            yield from reports(piece, self.bench, self.worker, lambda done, total: None)
        except Exception as error:
            yield portable(error)


class Actors:
    """Actors, as many as the cluster has room for, now and later; one that dies is replaced.

    Args:
        order: what they must know.
        address: of the cluster.
        most: actors, at most; None for as many as there is room for.
        gpus: of each, where the run computes on GPUs; a fraction lets several share one.

    Raises:
        InputError: Ray is not installed, or nothing answers there.
    """

    def __init__(self, order: Order, address: str, most: int | None, gpus: float) -> None:
        self.order, self.most = order, most
        self._ray = connect(address)
        self.needs = {"CPU": float(order.threads)}
        if order.device == "cuda":
            self.needs = {"CPU": 1.0, "GPU": gpus}
        self.size = max(FEWEST, most or self._room())
        self._actors: dict[int, Any] = {}
        self._awaited: dict[Any, int] = {}  # what each actor will report next
        self._started, self._bad_starts, self._looked = 0, 0, 0.0
        self._reports: deque[Report] = deque()

    def __enter__(self) -> Self:
        self._order = self._ray.put(self.order)
        self._grow()
        return self

    def __exit__(self, *exception: object) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._ray.shutdown()

    def give(self, worker: int, piece: Piece) -> None:
        work = self._actors[worker].work.options(num_returns="streaming").remote(piece)
        self._awaited[work] = worker

    def report(self, follow: Follow) -> Report:
        while not self._reports:
            if time.monotonic() - self._looked > LOOK_AGAIN:
                self._grow()
            ready, _ = self._ray.wait([*self._awaited], num_returns=1, timeout=LOOK_AGAIN)
            for awaited in ready:
                self._take(awaited, self._awaited.pop(awaited))
        return self._reports.popleft()

    def _take(self, awaited: Any, worker: int) -> None:
        """Take what an actor reports, be it its death."""
        is_stream = not isinstance(awaited, self._ray.ObjectRef)
        try:
            message = self._ray.get(next(awaited) if is_stream else awaited)
        except StopIteration:
            return  # its last report said so
        except self._ray.exceptions.RayError as error:
            self._reports.append(self._replace(worker, error))
            return
        if isinstance(message, Exception):
            raise message
        self._bad_starts = 0
        if is_stream:
            self._awaited[awaited] = worker
        self._reports.append(message)

    def _grow(self) -> None:
        """Ask for more actors while there is room, and for one in any case."""
        self._looked = time.monotonic()
        wanted = max(1, self._room())
        wanted = min(wanted, self.most) if self.most else wanted
        while len(self._actors) < wanted:
            worker, self._started = self._started, self._started + 1
            build = self._ray.remote(Worker).options(
                num_cpus=self.needs["CPU"], num_gpus=self.needs.get("GPU", 0), max_restarts=0
            )
            self._actors[worker] = build.remote(worker)
            self._awaited[self._actors[worker].open.remote(self._order)] = worker

    def _room(self) -> int:
        """For how many actors the cluster has room."""
        there = self._ray.cluster_resources()
        return int(min(there.get(name, 0) / need for name, need in self.needs.items() if need))

    def _replace(self, worker: int, error: Exception) -> Died:
        self._ray.kill(self._actors.pop(worker))
        # The end of its piece before may be awaited still, beside what it was doing.
        self._awaited = {what: whose for what, whose in self._awaited.items() if whose != worker}
        self._bad_starts += 1
        why = str(error).strip().split("\n")[0]
        if self._bad_starts == BAD_STARTS * self.size:
            what = f"{self._bad_starts} workers in a row died ({why})."
            raise InputError(what, "--ray", "Look at the logs of Ray.")
        self._grow()
        return Died(worker, why)
