"""Where the time of a training goes: reading, computing; and how fast it is."""

import contextlib
import time
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Report:
    """How far and how fast a training is; times are means over the steps since the last report.

    Attributes:
        step, total: steps done, and in all.
        loss: of the last step, averaged over the processes.
        rate: the learning rate of the last step.
        step_seconds: of one step, reading included.
        data_seconds: of these, waiting for images.
        images_per_second: over all processes.
        gpu_utilisation: percent, None where there is no GPU or no way to ask.
        gpu_memory: greatest bytes allocated on this process's GPU so far.
    """

    step: int
    total: int
    loss: float
    rate: float
    step_seconds: float
    data_seconds: float
    images_per_second: float
    gpu_utilisation: int | None = None
    gpu_memory: int | None = None

    @property
    def data_share(self) -> float:
        """Share of the time in which the network waits for images."""
        return self.data_seconds / self.step_seconds if self.step_seconds else 0.0


class Meter:
    """Adds up the times of steps until a report is asked for.

    Args:
        device: where the steps are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.restart()

    def restart(self) -> None:
        """Begin again: what was done since the last step is no part of a step."""
        self._began = self._left = time.perf_counter()
        self._waited, self._steps, self._images = 0.0, 0, 0

    def read(self) -> None:
        """The lesson of the next step is here."""
        self._waited += time.perf_counter() - self._left

    def stepped(self, images: int) -> None:
        """The step is taken, on so many images over all processes."""
        self._steps += 1
        self._images += images
        self._left = time.perf_counter()

    def report(self, step: int, total: int, loss: float, rate: float) -> Report:
        """The means since the last report; asked for when the loss has been read, so that a GPU
        has finished the steps."""
        now = time.perf_counter()
        steps, seconds, waited = max(1, self._steps), now - self._began, self._waited
        on_gpu = self.device.type == "cuda"
        report = Report(
            step=step,
            total=total,
            loss=loss,
            rate=rate,
            step_seconds=seconds / steps,
            data_seconds=waited / steps,
            images_per_second=self._images / seconds if seconds else 0.0,
            gpu_utilisation=_utilisation(self.device) if on_gpu else None,
            gpu_memory=torch.cuda.max_memory_allocated(self.device) if on_gpu else None,
        )
        self.restart()
        return report


def _utilisation(device: torch.device) -> int | None:
    with contextlib.suppress(Exception):  # the package nvidia-ml-py is optional
        return int(torch.cuda.utilization(device))
    return None
