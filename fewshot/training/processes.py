"""The processes of one training: alone, or started together by torchrun.

Lightning Fabric and accelerate were looked at: what they would take over here (joining, wrapping,
autocast, scaling) is the few lines of this file and of the loop; the streams, the state and
what happens when a process dies would stay, and differ from theirs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous

from episodes.faults import InputError
from episodes.streams import Shard
from fewshot.devices import choose_device

PEER_GONE = ("Connection closed", "Connection reset", "Broken pipe", "gloo", "NCCL", "Socket")
"""In messages of PyTorch when another process of the group is gone."""


class PeerStopped(InputError):
    """Another process of this training stopped; its own message says why."""

    def __init__(self) -> None:
        super().__init__(
            "a process of this training stopped (killed, or out of memory?): all stop.",
            remedy="The same command goes on from the last saved state.",
        )


def synchronise_norms(module: nn.Module) -> None:
    """Let the batch norms in a module go by the moments of all processes.

    Raises:
        InputError: a batch norm does more than normalise, which PyTorch's conversion would drop.
    """
    for name, norm in module.named_modules():
        plain = type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and not plain:
            what = (
                f"the batch norm {name} is a {type(norm).__name__}, which cannot be synchronised."
            )
            raise InputError(what, "--sync-bn", "Leave it out, or take a backbone of torchvision.")
    nn.SyncBatchNorm.convert_sync_batchnorm(module)


@dataclass(frozen=True)
class Place:
    """Where one process of a training works.

    Attributes:
        device: where it computes.
        rank: its number, from 0.
        ranks: processes in all.
    """

    device: torch.device
    rank: int = 0
    ranks: int = 1
    _store: Any = field(default=None, repr=False, compare=False)

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    @property
    def shard(self) -> Shard:
        """The part of every stream that is this process's."""
        return Shard(self.rank, self.ranks)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes; alone, the tensor itself."""
        if self.ranks > 1:
            tensor = tensor.clone().to(self.device)
            distributed.all_reduce(tensor)
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over all processes; alone, the tensor itself."""
        return self.sum(tensor) / self.ranks if self.ranks > 1 else tensor

    def any(self, here: bool) -> bool:
        """Whether it is so in some process."""
        return float(self.sum(torch.tensor(float(here)))) > 0

    def same(self, number: int, what: str) -> None:
        """Check that all processes have the same number.

        Raises:
            InputError: they differ.
        """
        mine = torch.zeros(self.ranks, dtype=torch.int64)
        mine[self.rank] = number
        found = self.sum(mine).tolist()
        if len(set(found)) > 1:
            raise InputError(
                f"the processes disagree about {what}: {', '.join(map(str, found))}.",
                remedy="Give all machines the same shared folder of records and --output.",
            )

    def speaks(self) -> bool:
        """Whether this process, which failed, is the one to say so: the first that asks."""
        return self._store is None or self._store.add("failed", 1) == 1


@contextmanager
def joined(device: str) -> Iterator[Place]:
    """This process's place in the training that torchrun started, or alone.

    Args:
        device: auto, cpu or cuda.

    Raises:
        InputError: there is no such device; PeerStopped when another process is gone.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        yield Place(choose_device(device))
        return
    where = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if where.type == "cuda":
        torch.cuda.set_device(where)
    store, rank, ranks = next(rendezvous("env://"))
    distributed.init_process_group(
        "nccl" if where.type == "cuda" else "gloo", store=store, rank=rank, world_size=ranks
    )
    place = Place(where, rank, ranks, store)
    try:
        yield place
    except RuntimeError as error:
        if any(sign in str(error) for sign in PEER_GONE):
            raise PeerStopped from error
        raise
    distributed.destroy_process_group()
