"""A backbone whose maps are the images as they are, so that scores can be written out by hand."""

import torch
from torch import Tensor, nn

from fewshot.backbones import Backbone


class GivenMaps(Backbone):
    """Maps [n, 3, h, w] are the images, times a weight that is one."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.name, self.network = "resnet18", nn.Sequential()
        self.network.register_parameter("weight", nn.Parameter(torch.ones(())))
        self.stage_dims = (3,)

    def maps(self, images: Tensor) -> Tensor:
        weight: Tensor = self.network.weight
        return weight * images


def points(*rows: list[float]) -> Tensor:
    """Images of one pixel: float64 [n, 3, 1, 1]."""
    return torch.tensor(rows, dtype=torch.float64)[:, :, None, None]
