"""What a head's predictions depend on that they should not: seen before an evaluation starts.

A made-up episode is scored several times: with the queries in another order and one by one, with
the classes numbered otherwise, with the support in another order, and once more as it is. Heads of
this project are held to more than this by their tests; the probe is for heads of the user's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fewshot.heads import Episode, Head
from fewshot.trial import TIME_LIMIT, Trial, try_alone, try_tuning

SHOTS, QUERIES, DIM, SIDE = (2, 5, 1, 3, 4), 2, 64, 16
CLOSE = 1e-3
"""Of the spread of all scores: smaller differences are rounding errors."""


@dataclass(frozen=True)
class Findings:
    """What the probe saw.

    Attributes:
        sentences: one for each thing found, about the head.
        peeks: whether scores of a query depend on the other queries.
    """

    sentences: tuple[str, ...] = ()
    peeks: bool = False


class SmallNetwork(nn.Module):
    """Two convolutions with batch norm: a backbone for heads that tune one."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 16, 3, 2, 1),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.Conv2d(16, DIM, 3, 2, 1),
                nn.ReLU(),
            )

    def embed(self, images: Tensor) -> Tensor:
        """Features `[n, 64]`."""
        features: Tensor = self.layers(images).mean(dim=(2, 3))
        return features


@dataclass(frozen=True)
class Probe:
    """A made-up episode, and a head's trials on it.

    Attributes:
        head: the head.
        support, query: K tensors, features or images.
        labels: `[N]`.
        limit: seconds for a trial.
    """

    head: Head
    support: tuple[Tensor, ...]
    labels: Tensor
    query: tuple[Tensor, ...]
    limit: float

    def trial(self) -> Trial:
        """The head on this episode, always with the same randomness."""
        draw, way = torch.Generator().manual_seed(0), len(SHOTS)
        support, query = ([part.clone() for part in parts] for parts in (self.support, self.query))
        labels = self.labels.clone()
        if not self.head.adapts_backbone:
            return try_alone(self.head, Episode(support, labels, way, query, draw), self.limit)
        network = SmallNetwork().eval()
        images, queries = support[0], query[0]
        return try_tuning(self.head, network, images, labels, way, queries, draw, self.limit)

    def queries(self, chosen: Sequence[int]) -> "Probe":
        """The same support with some of the queries."""
        return replace(self, query=tuple(part[list(chosen)] for part in self.query))


def probe(head: Head, limit: float = TIME_LIMIT) -> Findings:
    """Try a head on a made-up episode and tell what its predictions depend on.

    Args:
        head: the head.
        limit: seconds that one trial may take.
    """
    episode = _made_up(head, limit)
    whole = episode.trial()
    if whole.scores is None:
        return Findings((f"failed on a small made-up episode: {whole.failure}",))
    count = len(whole.scores)
    order = list(range(1, count, 2)) + list(range(0, count, 2))
    names = torch.tensor([2, 0, 4, 1, 3])
    mixed = torch.randperm(len(episode.labels), generator=torch.Generator().manual_seed(1))
    shuffled = replace(
        episode, support=tuple(s[mixed] for s in episode.support), labels=episode.labels[mixed]
    )
    renamed = replace(episode, labels=names[episode.labels])
    singles = [episode.queries([j]).trial().scores for j in range(count)]
    there = [scores for scores in singles if scores is not None]
    alone = np.concatenate(there) if len(there) == count else None
    reordered, other = episode.queries(order).trial().scores, renamed.trial().scores
    expected = whole.scores
    peeks = not (_close(alone, expected) and _close(reordered, expected[order]))
    found = {
        "scores of a query depend on the other queries": peeks and not head.transductive,
        "scores depend on how the classes are numbered": not _close(
            None if other is None else other[:, names.numpy()], expected
        ),
        "scores depend on the order of the support": not _close(shuffled.trial().scores, expected),
        "scores differ when the same episode is given again": not _close(
            episode.trial().scores, expected
        ),
    }
    return Findings(tuple(sentence for sentence, is_so in found.items() if is_so), peeks)


def _close(found: NDArray[np.float32] | None, expected: NDArray[np.float32]) -> bool:
    """Whether scores agree but for rounding errors."""
    if found is None or found.shape != expected.shape:
        return False
    return bool(np.abs(found - expected).max() <= CLOSE * np.ptp(expected))


def _made_up(head: Head, limit: float) -> Probe:
    """Classes around means of their own, as positive features, or as images."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(len(SHOTS)), torch.tensor(SHOTS))
    truth = torch.arange(len(SHOTS)).repeat(QUERIES)
    shape = (3, SIDE, SIDE) if head.adapts_backbone else (DIM,)
    support: list[Tensor] = []
    query: list[Tensor] = []
    for _ in range(3 if head.extractors == "many" else 1):
        means = torch.randn(len(SHOTS), *shape, generator=draw)
        for group, classes in ((support, labels), (query, truth)):
            noise = torch.randn(len(classes), *shape, generator=draw)
            group.append(nn.functional.softplus(means[classes] + noise))
    return Probe(head, tuple(support), labels, tuple(query), limit)
