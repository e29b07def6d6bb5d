"""Episodes as the tasks of learn2learn: a stand-in for its `TaskDataset` in any training script."""

from collections.abc import Iterator
from itertools import count
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from episodes import InputError
from episodes.reader import Episode

Task = tuple[Tensor, Tensor]
"""Images `[n, 3, size, size]` and their labels `[n]`, 0 to way − 1."""


class Episodes(Protocol):
    """A list of episodes: an `EpisodeReader`, or an `EpisodeMixture` of several sources."""

    def __getitem__(self, index: int) -> Episode:
        """Episode number `index`."""


class EpisodeTasks(Dataset[Task]):
    """Episodes with the methods of `learn2learn.data.TaskDataset`.

    A task is `(images, labels)`, the support first and then the query, each sorted by label. So
    `learn2learn.data.partition_task(images, labels, shots)` parts a task of fixed shots (protocol
    `5w5s`, say); `parted` parts any. `sample` gives one task after the other, from the first again
    behind the last, where `TaskDataset` draws one with Python's global generator.

    Args:
        episodes: whose they are.
        num_tasks: how many; −1 for a list without end, whose length is then 1 as learn2learn's is.
        first: number of the first episode.

    Raises:
        InputError: the numbers are no range of episodes.
    """

    def __init__(self, episodes: Episodes, num_tasks: int = -1, first: int = 0) -> None:
        if num_tasks < -1 or num_tasks == 0 or first < 0:
            raise InputError(
                f"{num_tasks} tasks from episode {first} on are none.",
                remedy="Give num_tasks above 0, or -1 for no end, and first from 0.",
            )
        self.episodes, self.num_tasks, self.first = episodes, num_tasks, first
        self._sampled = 0

    def __len__(self) -> int:
        return 1 if self.num_tasks == -1 else self.num_tasks

    def __getitem__(self, index: int) -> Task:
        """Task number `index`, from 0."""
        (support, support_labels), (query, query_labels) = self.parted(index)
        return torch.cat([support, query]), torch.cat([support_labels, query_labels])

    def parted(self, index: int) -> tuple[Task, Task]:
        """Support and query of task number `index`, from 0, as `partition_task` returns them."""
        if index < 0 or (self.num_tasks != -1 and index >= self.num_tasks):
            raise IndexError(f"task {index} of {self.num_tasks}")
        episode = self.episodes[self.first + index]
        return (
            (episode.support_images, episode.support_labels),
            (episode.query_images, episode.query_labels),
        )

    def __iter__(self) -> Iterator[Task]:
        yield from (
            self[index] for index in (count() if self.num_tasks == -1 else range(len(self)))
        )

    def sample(self) -> Task:
        """The next task."""
        index, self._sampled = self._sampled, self._sampled + 1
        return self[index if self.num_tasks == -1 else index % self.num_tasks]
