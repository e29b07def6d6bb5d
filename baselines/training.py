"""Training on episodes: a learner as an objective of the one loop; settings to checkpoint."""

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from baselines.learner import Learner
from baselines.method import Method
from baselines.table import EPISODIC
from episodes.faults import InputError
from episodes.mixture import EpisodeMixture, EpisodeStream
from episodes.protocol import find_protocol
from fewshot.backbones import Backbone, Learned, build_backbone
from fewshot.checkpoint import Card
from fewshot.heads import Head
from fewshot.listener import Listener
from fewshot.training.classifier import find_classifier
from fewshot.training.job import Job
from fewshot.training.lessons import EpisodeLessons
from fewshot.training.loop import Training
from fewshot.training.objective import Objective
from fewshot.training.processes import Place
from fewshot.training.settings import Settings


class Episodic(Objective):
    """The loss of a learner on the queries of one episode.

    Args:
        learner: holds all that learns.
        method: whose it is.
    """

    def __init__(self, learner: Learner, method: Method) -> None:
        nn.Module.__init__(self)
        self.learner, self.method = learner, method
        self.name = method.method
        self.skips_parameters = learner.skips_parameters

    @property
    def backbone(self) -> Backbone:  # type: ignore[override]
        """The learner's."""
        return self.learner.backbone

    @property
    def learning(self) -> nn.Module:
        """All of the learner."""
        return self.learner

    def forward(
        self, support: Tensor, labels: Tensor, query: Tensor, truth: Tensor, way: int
    ) -> Tensor:
        """The loss of an episode; shapes as for `Learner.forward`, truth int64 [Q]."""
        lesson = self.learner.lesson((support, labels, query, truth, way))
        support, labels, query, truth, way = lesson
        return self.learner.loss(self.learner(support, labels, query, way), truth)

    def facts(self) -> list[object]:
        """The method with its settings."""
        return [*super().facts(), asdict(self.method)]

    def finish(self, backbone: Backbone) -> Backbone:
        """With what the learner learned beside it."""
        weights = {name: t.detach().clone() for name, t in self.learner.beside().items()}
        backbone.learned = Learned(self.method.method, asdict(self.method), weights)
        return backbone


@dataclass(frozen=True)
class EpisodicSettings(Settings):
    """Settings of a training on episodes; the method is one of those that learn from them."""

    train_protocol: str = ""
    """Rules of the training episodes, where they are not those of the validation episodes."""

    methods: ClassVar[tuple[str, ...]] = EPISODIC

    def check(self) -> Self:
        """These settings, if a training could obey them.

        Raises:
            InputError: a setting is wrong, or means nothing where episodes are learned from.
        """
        recipe = self.recipe
        means_nothing = {
            "--ema": recipe.ema > 0,
            "--compile": recipe.compile,
            "--sync-bn": recipe.sync_bn,
            "--held-out": recipe.held_out > 0,
            "--mix": recipe.mix != "none",
            "--classifier": recipe.classifier != "linear",
            "--accumulate": recipe.accumulate > 1,
        }
        for flag, given in means_nothing.items():
            if given:
                raise InputError("is not for methods that learn from episodes.", flag)
        if not recipe.steps:
            raise InputError(
                "a training on episodes has no passes over images.", "--steps", "Give it."
            )
        return super().check()


class EpisodicJob(Job):
    """A training on episodes, with all that it reads.

    Every step draws `episodes_per_step` episodes of the train classes; the source of each is
    drawn alike, as the benchmark does. Batch norm, weight decay and all else are as set.

    Args:
        settings: of the training.
        method: what is trained.
        place: where this process works.
        listener: told how far it is.

    Raises:
        InputError: a setting or a file is wrong, a trained network is missing, or the method cannot
            score every episode.
    """

    def __init__(
        self, settings: EpisodicSettings, method: Method, place: Place, listener: Listener
    ) -> None:
        if method.needs_trained and settings.init is None:
            raise InputError(
                f"{method.method} adapts a trained network.",
                "--init",
                "Name its checkpoint; `train` or `baseline baseline` make one.",
            )
        super().__init__(settings, place, listener)
        self.method = method
        rules = settings.train_protocol or settings.protocol
        for protocol in (rules, settings.protocol):
            method.check_protocol(find_protocol(protocol))
        self.train_episodes = self.open_episodes(settings.train_sources, "train", rules)

    @property
    def head(self) -> Head:
        """The method itself."""
        return self.method

    def begin(self) -> Training[Any]:
        """The training at its beginning.

        Raises:
            InputError: the backbone does not fit the method or the image size.
        """
        settings, recipe = self.settings, self.recipe.check()
        backbone = build_backbone(settings.backbone, 1, recipe.seed)
        backbone.check_size(settings.image_size)
        begun_with = self.begin_with(backbone)
        find_classifier(backbone)[1].requires_grad_(False)  # which episodes have no use for
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            learner = self.method.learner(backbone, settings.image_size)
        objective = Episodic(learner, self.method)
        objective.begun_with = begun_with
        mixture = EpisodeMixture(self.train_episodes, seed=recipe.seed)
        lessons = EpisodeLessons(EpisodeStream(mixture, self.place.shard), recipe)
        return Training(objective, lessons, recipe, self.place)

    def _made_from(self) -> dict[str, object]:
        """With the rules of the training episodes."""
        return {**super()._made_from(), "episodes": self.train_episodes[0].sampler.protocol.hash}

    def card(self, metrics: dict[str, object]) -> Card:
        """What the checkpoint says of itself; its classifier has not been trained."""
        return replace(super().card(metrics), outputs=1, learner=asdict(self.method))
