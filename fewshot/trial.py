"""A head tried on an episode: scores, or the reason why there are none.

Whatever a head does, the other heads and episodes go on: an exception, scores that are no scores,
a change to the backbone, or no end within the time limit make this trial a failed one. Only an
`InputError` of a head of this project stops the evaluation, since a setting is then wrong.
"""

import faulthandler
import inspect
import math
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from episodes.faults import InputError
from fewshot.heads import Episode, EpisodeHead, Head, is_own
from fewshot.heads.batch import Told, score_and_tell

TIME_LIMIT = 600.0
"""Seconds that a user's head may take for one episode."""
STDERR = 2
"""Its file descriptor, whatever stands for it in Python."""
DIGITS = 4
"""Of what a head tells of itself."""


@dataclass(frozen=True)
class Trial:
    """What came of one head on one episode.

    Attributes:
        scores: float32 [query, way], all finite; None if the trial failed.
        failure: why there are none, in a sentence.
        seconds: wall-clock time; of episodes tried together, an equal share.
        timed_out: whether the time limit was exceeded.
        told: what the head told of itself beside the scores, by name.
    """

    scores: NDArray[np.float32] | None = None
    failure: str = ""
    seconds: float = 0.0
    timed_out: bool = False
    told: Told = field(default_factory=dict)


class OutOfTimeError(BaseException):
    """Raised inside a head that takes too long; no `except Exception` catches it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTimeError` in the block after so many seconds, and every second from then on.

    Works in the main thread, on whatever runs in Python; elsewhere there is no limit. A call into
    compiled code is not interrupted by that: if the block has not ended after twice the time, the
    process does, with status 1, having printed where it was. A worker process is replaced, and
    what ended it becomes a failed row.
    """
    if threading.current_thread() is not threading.main_thread() or not seconds:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    faulthandler.dump_traceback_later(2 * seconds, exit=True, file=STDERR)  # needs no interpreter
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def try_together(
    head: EpisodeHead, episodes: Sequence[Episode], limit: float = TIME_LIMIT
) -> list[Trial]:
    """A head of this kind on several episodes at once.

    If that fails, for want of memory, time or otherwise, the episodes are tried by halves, and draw
    the same numbers again.
    """
    began = time.perf_counter()
    undrawn = [episode.generator.get_state() for episode in episodes]
    try:
        with time_limit(limit if is_own(head) else 0):
            found = score_and_tell(head, episodes)
    except (OutOfTimeError, Exception, SystemExit) as error:
        if isinstance(error, InputError) and not is_own(head):
            raise
        if len(episodes) > 1:
            for episode, state in zip(episodes, undrawn, strict=True):
                episode.generator.set_state(state)
            half = len(episodes) // 2
            parts = episodes[:half], episodes[half:]
            return [trial for part in parts for trial in try_together(head, part, limit)]
        if isinstance(error, OutOfTimeError):
            return [out_of_time(limit)]
        return [Trial(failure=describe(error, head), seconds=time.perf_counter() - began)]
    seconds = (time.perf_counter() - began) / len(episodes)
    return [
        _judged(scores, len(episode.query[0]), episode.way, seconds, told)
        for (scores, told), episode in zip(found, episodes, strict=True)
    ]


def try_alone(head: Head, episode: Episode, limit: float = TIME_LIMIT) -> Trial:
    """A head on the features of one episode."""

    def work() -> Tensor:
        predict = head.fit(episode.support, episode.labels, episode.way, episode.generator)
        return predict(episode.query)

    return _try(head, work, len(episode.query[0]), episode.way, limit)


def try_tuning(
    head: Head,
    backbone: nn.Module,
    support: Tensor,
    labels: Tensor,
    way: int,
    query: Tensor,
    generator: torch.Generator,
    limit: float = TIME_LIMIT,
) -> Trial:
    """A head that tunes the backbone, on the images `[N, 3, S, S]` of one episode.

    The backbone is compared with its state before, to the last bit, and put back if it differs.
    """
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    modes = [part.training for part in backbone.modules()]

    def work() -> Tensor:
        return head.fit_backbone(backbone, support, labels, way, generator)(query)

    trial = _try(head, work, len(query), way, limit)
    now = backbone.state_dict()
    same = now.keys() == before.keys() and all(torch.equal(now[k], v) for k, v in before.items())
    if same and modes == [part.training for part in backbone.modules()]:
        return trial
    backbone.load_state_dict(before, strict=False)
    backbone.eval()
    return Trial(failure="changed the backbone, which was put back", seconds=trial.seconds)


def _try(head: Head, work: Callable[[], Tensor], queries: int, way: int, limit: float) -> Trial:
    began = time.perf_counter()
    try:
        with time_limit(limit if is_own(head) else 0):
            scores = work()
    except OutOfTimeError:
        return out_of_time(limit)
    except (Exception, SystemExit) as error:
        if isinstance(error, InputError) and not is_own(head):
            raise
        return Trial(failure=describe(error, head), seconds=time.perf_counter() - began)
    return _judged(scores, queries, way, time.perf_counter() - began)


def out_of_time(limit: float) -> Trial:
    """A trial that exceeded so many seconds."""
    return Trial(failure=f"took more than {limit:g} s", seconds=limit, timed_out=True)


def _judged(scores: Any, queries: int, way: int, seconds: float, told: Told | None = None) -> Trial:
    """A trial with these scores, or a failed one if they are no scores."""
    if not isinstance(scores, Tensor) or scores.shape != (queries, way) or scores.is_complex():
        found = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        what = f"gave scores {found}, not real numbers {[queries, way]}"
        return Trial(failure=what, seconds=seconds)
    numbers = scores.detach().float().cpu().numpy()
    if not np.isfinite(numbers).all():
        return Trial(failure="gave scores that are not finite", seconds=seconds)
    return Trial(numbers, seconds=seconds, told=_plain(told or {}))


def _plain(told: Told) -> Told:
    """What was told, to the digits that a chart shows; what is not finite is left out."""
    return {
        name: [round(value, DIGITS) for value in values]
        for name, values in told.items()
        if all(map(math.isfinite, values))
    }


def describe(error: BaseException, head: Head) -> str:
    """An exception in a head, with the line of its file."""
    try:
        file = str(Path(inspect.getfile(type(head))))
    except (TypeError, OSError):
        file = ""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == file
    ]
    place = f" ({file}, line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{place}"
