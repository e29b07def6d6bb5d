"""CrossTransformers: the prototype of a class is made anew for every place of a query."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

from baselines.batch_norm import Rule
from baselines.learner import EpisodeTensors, Learner
from baselines.method import Method
from baselines.simclr import instances, views
from episodes.faults import InputError
from fewshot.backbone_name import BackboneName
from fewshot.backbones import Backbone
from fewshot.heads.base import check_setting


class CrossTransformer(Learner):
    """Scores are `-|v - t|^2`, averaged over the places of a query's map.

    At every place of a query, t is the mean of the values at all places of all support images of
    a class, weighted by the softmax of `<key, key> / sqrt(width)`; v is the query's own value
    there. Keys and values are two linear maps of the backbone's features.

    Args:
        backbone: as for `Learner`.
        settings: of the method.
    """

    def __init__(self, backbone: Backbone, settings: "Ctx") -> None:
        super().__init__(backbone, settings.batch_norm)
        if settings.dilated:
            dilate_last_stage(backbone)
        channels = backbone.stage_dims[-1]
        self.key = nn.Conv2d(channels, settings.width, 1, bias=False)
        self.value = nn.Conv2d(channels, settings.width, 1, bias=False)
        self.share = settings.simclr

    def forward(self, support: Tensor, labels: Tensor, query: Tensor, way: int) -> Tensor:
        known, asked = self.map_episode(support, query)
        keys, values = _places(self.key(known)), _places(self.value(known))
        seekers, own = _places(self.key(asked)), _places(self.value(asked))
        scores = []
        for one in range(way):
            members = labels == one
            aligned = align(seekers, keys[members], values[members])
            scores.append(-(own - aligned).square().sum(dim=2).mean(dim=1))
        return torch.stack(scores, dim=1)

    def lesson(self, episode: EpisodeTensors) -> EpisodeTensors:
        """The episode, or with probability `simclr` one that tells its images apart."""
        if not self.share or torch.rand(()).item() >= self.share:
            return episode
        support, labels, query, truth, way = instances(episode)
        return views(support), labels, views(query, blurred=True), truth, way


def align(seekers: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """For every place of every query, the attention to all places of a class.

    Args:
        seekers: `[Q, p, width]`, keys of the queries.
        keys, values: `[n, p, width]` of the support images of the class.

    Returns:
        `[Q, p, width]`.
    """
    # The library's attention keeps no matrix of places × places where it has a fused kernel.
    found: Tensor = functional.scaled_dot_product_attention(
        seekers.flatten(0, 1)[None], keys.flatten(0, 1)[None], values.flatten(0, 1)[None]
    )
    return found[0].view_as(seekers)


def dilate_last_stage(backbone: Backbone) -> None:
    """Let the last stage of a ResNet of basic blocks keep the size of its maps; in place.

    Its first convolution has the dilation of the stage before, all others twice that, so that
    each weight sees what it saw; weights and their names stay. Done twice, it is as done once.

    Source: facts, section 5.5 (torchvision's own option refuses basic blocks).

    Raises:
        InputError: it is no such network, or a filter sub-samples in its stead.
    """
    stage = getattr(backbone.network, "layer4", None)
    blocks = list(stage.children()) if isinstance(stage, nn.Sequential) else []
    plain = not BackboneName.parse(backbone.name).antialiased
    if not (blocks and plain and all(isinstance(block, BasicBlock) for block in blocks)):
        raise InputError(
            "has no last stage of plain basic blocks, which could be dilated.",
            f"backbone {backbone.name}",
            "Take resnet34 or resnet18, or dilated=false.",
        )
    for number, block in enumerate(blocks):
        for part in block.modules():
            if isinstance(part, nn.Conv2d):
                part.stride = (1, 1)
                first = number == 0 and part is block.conv1
                if part.kernel_size == (3, 3) and not first:
                    part.dilation = part.padding = (2, 2)


def _places(maps: Tensor) -> Tensor:
    """Maps `[n, C, h, w]` as `[n, h * w, C]`."""
    return maps.flatten(2).mT.contiguous()


@dataclass(frozen=True)
class Ctx(Method):
    """CrossTransformers (Doersch et al. 2020), with SimCLR episodes if `simclr` is above 0.

    Source: the benchmark's code (facts, sections 4.7 and 5.3), whose best configuration has
    `simclr=0.5` on a dilated ResNet-34 at 224 pixels. Batch norm keeps running averages.

    Attributes:
        width: of keys and values.
        dilated: whether the last stage is dilated instead of sub-sampled: maps of 14 pixels a side
            at 224.
        simclr: share of the training episodes in which every support image is a class of its own,
            and the queries are other views of them.
    """

    name: ClassVar[str] = "learned_ctx"
    batch_norm: Rule = "running"
    width: int = 128
    dilated: bool = False
    simclr: float = 0.0

    def __post_init__(self) -> None:
        check_setting(self.width >= 1, self, "width is a count, 1 or more")
        check_setting(0 <= self.simclr <= 1, self, "simclr is a share, from 0 to 1")

    def learner(self, backbone: Backbone, image_size: int) -> Learner:
        return CrossTransformer(backbone, self)
