"""Batch norm in an episode: whose moments normalise the support images, and whose the queries.

The benchmark's batch norm keeps no running averages. The support images are normalised by their
own mean and variance, layer by layer, and the queries by those of the support images too, with
gradients through them; or, where it says so, the queries by their own, so that a query's scores
depend on the other queries. Source: facts, section 5.2.

Support images and queries pass through the network together, support images first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from episodes.faults import InputError
from fewshot.backbones import Backbone

Rule = Literal["support", "transductive", "running", "stored"]
"""Whose moments: `support`: those of the support images, for all. `transductive`: the support
images' for them, the queries' for the queries. `running`: running averages over the episodes of
the training, which itself goes by `support`. `stored`: those that the network came with, which
stay as they are."""
MOMENTUM = 0.1
"""What an episode adds to running averages. Source: the benchmark's, 0.9 of the old."""


@dataclass
class Moments:
    """Whose moments all the batch norms of a learner use now.

    Attributes:
        rule: see `Rule`.
        support: how many images of the batch are support images, the first; None for all.
        kept: whether running averages follow.
    """

    rule: Rule
    support: int | None = None
    kept: bool = False

    @contextmanager
    def of(self, support: int, *, kept: bool) -> Iterator[None]:
        """Passes of so many support images and queries behind them."""
        self.support, self.kept = support, kept
        try:
            yield
        finally:
            self.support, self.kept = None, False


class EpisodeNorm(nn.BatchNorm2d):
    """A batch norm that goes by `moments`, which it shares with the others of its learner."""

    moments: Moments

    def forward(self, maps: Tensor) -> Tensor:
        """Normalised maps [n, C, h, w]."""
        count = self.moments.support
        rule = self.moments.rule
        if rule == "stored" or (rule == "running" and not self.training):
            known = self.running_mean, self.running_var, self.weight, self.bias
            return functional.batch_norm(maps, *known, training=False, eps=self.eps)
        alone = count is None or count == len(maps)
        if alone or rule == "transductive":
            if self.moments.kept:
                self._keep(*channel_moments(maps[:count]))
            if alone:
                return self._by_own(maps)
            return torch.cat([self._by_own(maps[:count]), self._by_own(maps[count:])])
        mean, variance = channel_moments(maps[:count])
        if self.moments.kept:
            self._keep(mean, variance)
        scale = self.weight * (variance + self.eps).rsqrt()
        offset = self.bias - mean * scale
        return torch.addcmul(offset[:, None, None], maps, scale[:, None, None])

    def _by_own(self, maps: Tensor) -> Tensor:
        return functional.batch_norm(
            maps, None, None, self.weight, self.bias, training=True, eps=self.eps
        )

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.lerp_(mean, MOMENTUM)
            self.running_var.lerp_(variance, MOMENTUM)


def channel_moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance `[C]` of each channel of maps `[n, C, h, w]`, over images and places.

    In two passes: on a CPU `torch.var_mean` takes five times as long for its one.
    """
    if maps.is_cuda:
        variance, mean = torch.var_mean(maps, dim=(0, 2, 3), correction=0)
        return mean, variance
    mean = maps.mean(dim=(0, 2, 3))
    return mean, (maps - mean[:, None, None]).square().mean(dim=(0, 2, 3))


def share_moments(module: nn.Module, rule: Rule) -> Moments:
    """Let every batch norm of a module go by moments that they share from now on.

    Modules, parameters and buffers stay the same, and so do their names and hooks.

    Raises:
        InputError: a batch norm is of a kind that cannot.
    """
    moments = Moments(rule)
    for name, norm in module.named_modules():
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        if type(norm) not in (nn.BatchNorm2d, EpisodeNorm) or not norm.affine:
            whose = f"backbone {module.name}" if isinstance(module, Backbone) else name
            raise InputError(
                f"its batch norm {name} is a {type(norm).__name__}, which cannot take the "
                "moments of an episode.",
                whose,
                "Take one with plain batch norms: four_layer_convnet, resnet18, aa_resnet18.",
            )
        norm.__class__ = EpisodeNorm  # hooks that are on it stay, which a new module would lose
        norm.moments = moments  # type: ignore[assignment]
    return moments
