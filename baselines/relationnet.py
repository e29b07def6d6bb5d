"""Relation networks: a small network compares the maps of a query and of a class."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from baselines.batch_norm import Rule
from baselines.learner import Learner, map_side, one_hot
from baselines.method import Method
from fewshot.backbones import Backbone

WIDTH, HIDDEN = 64, 8


class RelationModule(nn.Module):
    """Maps of a class beside those of a query → one number, from 0 to 1.

    Two blocks of convolution, batch norm and pooling while there is something to pool, and two
    dense layers. Its batch norm always normalises a batch by its own moments.

    Args:
        channels: D of the maps.
        side: h = w of the maps.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        width = 2 * channels
        for _ in range(2):
            norm = nn.BatchNorm2d(WIDTH, track_running_stats=False)
            blocks += [nn.Conv2d(width, WIDTH, 3, padding=1, bias=False), norm, nn.ReLU()]
            if side > 1:
                blocks.append(nn.MaxPool2d(2))
                side //= 2
            width = WIDTH
        dense = [nn.Flatten(), nn.Linear(WIDTH * side**2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)]
        self.layers = nn.Sequential(*blocks, *dense, nn.Sigmoid())

    def forward(self, pairs: Tensor) -> Tensor:
        """Relations `[n]` of pairs `[n, 2 D, h, w]`."""
        relations: Tensor = self.layers(pairs)
        return relations[:, 0]


class RelationnetLearner(Learner):
    """Scores are the relations of every query and the mean maps of every class.

    Args:
        backbone, batch_norm: as for `Learner`.
        image_size: side of the images, in pixels.
    """

    def __init__(self, backbone: Backbone, batch_norm: Rule, image_size: int) -> None:
        super().__init__(backbone, batch_norm)
        self.relation = RelationModule(backbone.stage_dims[-1], map_side(backbone, image_size))

    def forward(self, support: Tensor, labels: Tensor, query: Tensor, way: int) -> Tensor:
        known, asked = self.map_episode(support, query)
        members = one_hot(labels, way, known)
        prototypes = torch.einsum("nk,ndhw->kdhw", members / members.sum(dim=0), known)
        shape = (len(query), way, *asked.shape[1:])
        pairs = [prototypes[None].expand(shape), asked[:, None].expand(shape)]
        relations: Tensor = self.relation(torch.cat(pairs, dim=2).flatten(0, 1))
        return relations.view(len(query), way)

    def loss(self, scores: Tensor, truth: Tensor) -> Tensor:
        """The mean squared difference to ones and zeros."""
        return (scores - one_hot(truth, scores.shape[1], scores)).square().mean()


@dataclass(frozen=True)
class Relationnet(Method):
    """Relation networks (Sung et al. 2018) as the benchmark trains them.

    Transductive, as published: batch norm normalises the queries by their own moments, and the
    relation module's goes by all pairs whatever `batch_norm` says.

    Source: Triantafillou et al. 2020.
    """

    name: ClassVar[str] = "learned_relationnet"
    batch_norm: Rule = "transductive"

    @property
    def transductive(self) -> bool:  # type: ignore[override]
        """True: pairs of all queries share a batch."""
        return True

    def learner(self, backbone: Backbone, image_size: int) -> Learner:
        return RelationnetLearner(backbone, self.batch_norm, image_size)
