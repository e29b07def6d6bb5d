"""MAML and its kin: a linear layer on features, tuned on each episode by gradient descent.

maml         layer and backbone are tuned; the layer starts at zero
proto_maml   layer and backbone are tuned; the layer starts as one that scores like prototypes
anil         the layer alone is tuned
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from baselines.inner_loop import InnerLoop, Library, Scorer, import_learn2learn
from baselines.learner import Learner, check_ways, map_side, one_hot
from baselines.method import Method
from episodes.faults import InputError
from episodes.protocol import EpisodeProtocol
from fewshot.backbones import Backbone
from fewshot.heads.base import check_setting
from fewshot.heads.geometry import class_means
from fewshot.heads.layer import prototype_layer

Start = Literal["zero", "prototypes", "learned"]
SPREAD = 0.1
"""Deviation of a learned layer before training, and its bias. Source: facts, section 5.5."""


@dataclass(frozen=True)
class Maml(Method):
    """First-order MAML (Finn et al. 2017) as the benchmark trains it.

    Scales and offsets of batch norm are tuned like all weights: the benchmark's code means to leave
    them out, but finds none of them by name (facts, section 5.3).

    Source: Triantafillou et al. 2020; rate and steps of its best configuration on ImageNet.

    Attributes:
        steps: of gradient descent on the support set.
        extra_steps: more of them in evaluation.
        rate: learning rate of these steps.
        first_order: whether the gradients of these steps count as constants to the outer loss.
        start: the layer before the first step: `zero`, `prototypes` or `learned`, which is of a
            fixed number of ways.
        outputs: of the layer; an episode has no more ways, and with a learned layer as many.
        adapt_batch_norm: whether scales and offsets of batch norm are tuned too.
        library: what the loop goes through; `auto` takes learn2learn where it is installed, else
            `torch_func`. Both give the same.
    """

    name: ClassVar[str] = "learned_maml"
    steps: int = 10
    extra_steps: int = 5
    rate: float = 0.09915203576061224
    first_order: bool = True
    start: Start = "zero"
    outputs: int = 50
    adapt_batch_norm: bool = True
    library: Library = "auto"

    def __post_init__(self) -> None:
        check_setting(self.steps >= 0 and self.extra_steps >= 0, self, "steps are counts, from 0")
        check_setting(self.rate > 0, self, "rate is positive")
        check_setting(self.outputs >= 2, self, "outputs is a count, 2 or more")
        running = self.batch_norm == "running"
        check_setting(not running, self, "batch_norm is support or transductive in an inner loop")

    def learner(self, backbone: Backbone, image_size: int) -> Learner:
        return MamlLearner(backbone, self, image_size)

    def check_protocol(self, protocol: EpisodeProtocol) -> None:
        self.check_ways(protocol.ways or protocol.max_ways, fixed=protocol.ways is not None)

    def check_ways(self, way: int, *, fixed: bool = True) -> None:
        """Check that an episode, or all of a protocol's, can be scored.

        Args:
            way: classes of the episode, or at most.
            fixed: whether all episodes have as many.

        Raises:
            InputError: there are too many classes, or another number than a learned layer is of.
        """
        if self.start == "learned" and not (fixed and way == self.outputs):
            asked = f"{way} ways" if fixed else f"up to {way} ways"
            raise InputError(
                f"its layer was learned for {self.outputs} ways, and {asked} are asked for.",
                f"method {self.method}",
                f"Choose a protocol of {self.outputs} ways, or train with outputs={way} or "
                "start=zero.",
            )
        check_ways(way, self.outputs, f"method {self.method}")


@dataclass(frozen=True)
class ProtoMaml(Maml):
    """First-order Proto-MAML: the layer starts as 2 c and −|c|², c the prototypes.

    Gradients flow to the prototypes. With `first_order=false` it is the full one.

    Source: Triantafillou et al. 2020; rate and steps of its best configuration on ImageNet.
    """

    name: ClassVar[str] = "learned_proto_maml"
    steps: int = 6
    extra_steps: int = 0
    rate: float = 0.005435022808033229
    start: Start = "prototypes"


@dataclass(frozen=True)
class Anil(Maml):
    """ANIL (Raghu et al. 2020): the inner loop tunes the layer alone, on features of one pass.

    Rate and steps are those of learn2learn's example, whose layer is learned for a fixed number of
    ways (`start=learned`); Meta-Dataset's episodes have changing ones, so it starts at zero here.
    """

    name: ClassVar[str] = "learned_anil"
    steps: int = 5
    extra_steps: int = 0
    rate: float = 0.1
    first_order: bool = False

    def learner(self, backbone: Backbone, image_size: int) -> Learner:
        return AnilLearner(backbone, self, image_size)


class MamlLearner(Learner):
    """Scores are those of a layer and a backbone that were tuned on the support set.

    Args:
        backbone: as for `Learner`.
        settings: of the method.
        image_size: side of the images, in pixels.

    Raises:
        InputError: the library that the settings name is not installed.
    """

    needs_gradients = True

    def __init__(self, backbone: Backbone, settings: Maml, image_size: int) -> None:
        super().__init__(backbone, settings.batch_norm)
        self.settings = settings
        if settings.library == "learn2learn":
            import_learn2learn()  # rather now than after the first episode is read
        norms = [] if settings.adapt_batch_norm else _norm_parameters(backbone)
        self.adapted = [
            f"backbone.{name}"
            for name, parameter in backbone.named_parameters()
            if parameter.requires_grad and not any(parameter is one for one in norms)
        ]
        area = map_side(backbone, image_size) ** 2 if self.flattens else 1
        self.dim = backbone.stage_dims[-1] * area
        if settings.start == "learned":
            layer = torch.full((self.dim + 1, settings.outputs), SPREAD)
            nn.init.trunc_normal_(layer[:-1], std=SPREAD, a=-2 * SPREAD, b=2 * SPREAD)
            self.layer = nn.Parameter(layer)

    def forward(self, support: Tensor, labels: Tensor, query: Tensor, way: int) -> Tensor:
        self.settings.check_ways(way)
        layer = self.first_layer(self.embed(support) if self.looks else None, labels, way)
        scorer = Scorer(self.backbone, self.flattens, layer)
        tuned = self.loop.adapt(scorer, layer, self.adapted, support, labels)
        # Moments of the support images are those of the tuned network too.
        with self.moments.of(len(support), kept=self.training):
            return tuned(torch.cat([support, query]))[len(support) :]

    @property
    def loop(self) -> InnerLoop:
        """The inner loop, in evaluation with its extra steps."""
        settings = self.settings
        steps = settings.steps + (0 if self.training else settings.extra_steps)
        return InnerLoop(steps, settings.rate, settings.first_order, settings.library)

    @property
    def looks(self) -> bool:
        """Whether the first layer depends on the support set."""
        return self.settings.start == "prototypes"

    def first_layer(self, features: Tensor | None, labels: Tensor, way: int) -> Tensor:
        """The layer `[D + 1, way]` before the first step, from support features `[N, D]`."""
        if self.settings.start == "learned":
            return self.layer.clone()
        if features is not None:
            return prototype_layer(class_means(features, one_hot(labels, way, features)))
        like = next(self.backbone.parameters())
        return like.new_zeros(self.dim + 1, way, requires_grad=True)


class AnilLearner(MamlLearner):
    """Scores are those of a layer that was tuned on support features."""

    def forward(self, support: Tensor, labels: Tensor, query: Tensor, way: int) -> Tensor:
        self.settings.check_ways(way)
        known, asked = self.embed_episode(support, query)
        layer = self.first_layer(known if self.looks else None, labels, way)
        scorer = Scorer(None, self.flattens, layer)
        return self.loop.adapt(scorer, layer, [], known, labels)(asked)


def _norm_parameters(module: nn.Module) -> list[nn.Parameter]:
    norms = [one for one in module.modules() if isinstance(one, nn.BatchNorm2d)]
    return [parameter for norm in norms for parameter in norm.parameters()]
