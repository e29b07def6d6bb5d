"""A method's settings, which make its learner, and which are a head once the learner is trained.

A method is a head: with a checkpoint of its training, an evaluation runs it like any other head,
so tables, reports, time limits and resumption are the same.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from baselines.batch_norm import Rule
from baselines.learner import Learner
from episodes.faults import InputError
from episodes.protocol import EpisodeProtocol
from fewshot.backbones import Backbone
from fewshot.heads.base import Head, ImagePredictor, check_labels

PREFIX = "learned_"
"""How the names of these heads begin: some have a counterpart on frozen features."""


@dataclass(frozen=True)
class Method(Head):
    """Settings of a method that learns from episodes; the defaults are the published ones.

    Attributes:
        learns_from: `episodes`, or `images`: then a network that was trained to classify is all it
            needs, and any checkpoint will do.
        needs_trained: whether it begins from a trained network, which it leaves as it is.
        batch_norm: whose moments normalise support images and queries: `support`, `transductive`,
            `running` or `stored` (see `baselines/batch_norm.py`).
    """

    learns_from: ClassVar[Literal["episodes", "images"]] = "episodes"
    needs_trained: ClassVar[bool] = False
    batch_norm: Rule = "support"

    @property
    def method(self) -> str:
        """What the command `baseline` calls it."""
        return self.name.removeprefix(PREFIX)

    @property
    def transductive(self) -> bool:  # type: ignore[override]
        """Whether a query's scores depend on the other queries."""
        return self.batch_norm == "transductive"

    @property
    def adapts_backbone(self) -> bool:
        """True: a learner takes images."""
        return True

    def learner(self, backbone: Backbone, image_size: int) -> Learner:
        """A learner at its beginning, around a backbone.

        What is drawn, is drawn from torch's global generator.

        Args:
            backbone: becomes part of it.
            image_size: side of the images, in pixels.

        Raises:
            InputError: the backbone or the size does not fit the method.
        """
        raise NotImplementedError

    def check_protocol(self, protocol: EpisodeProtocol) -> None:
        """Check that the learner can score every episode of a protocol.

        Raises:
            InputError: it cannot, e.g. for want of outputs.
        """

    def fit_backbone(
        self,
        backbone: nn.Module,
        images: Tensor,
        labels: Tensor,
        way: int,
        generator: torch.Generator,
    ) -> ImagePredictor:
        """The trained learner on an episode; see `Head.fit_backbone`.

        Raises:
            InputError: the backbone was not trained by this method.
        """
        check_labels(labels, len(images), way)
        if not isinstance(backbone, Backbone):
            raise InputError("is no backbone of ours.", type(backbone).__name__)
        learned = self._learned_by(backbone)
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.inference_mode(False), _drawing(seed):
            # a copy: a learner changes its backbone's batch norms, and may tune the weights
            own = copy.deepcopy(backbone).requires_grad_(True)
            learner = self.learner(own, images.shape[-1]).to(images)
            learner.load_beside(*learned)
            learner.eval()
            support, targets = images.clone(), labels.long().clone()

        def scores(query: Tensor) -> Tensor:
            needed = learner.needs_gradients
            with _drawing(seed), torch.inference_mode(False), torch.set_grad_enabled(needed):
                found: Tensor = learner(support, targets, query.clone(), way)
                return found.detach().to(query.dtype)

        return scores

    def _learned_by(self, backbone: Backbone) -> tuple[Mapping[str, Tensor], str]:
        """What this method learned beside a backbone, and what to do where it does not fit."""
        learned = backbone.learned
        if self.learns_from == "images":
            return {}, ""
        if learned is None or learned.method != self.method:
            how = f"by {learned.method}" if learned is not None else "otherwise"
            raise InputError(
                f"the backbone was trained {how}, not by {self.method}.",
                f"head {self}",
                f"Give a --checkpoint that `baseline {self.method}` trained.",
            )
        others = self.unlike(learned.settings)
        how = f"with {', '.join(others)}" if others else "at another image size"
        return learned.weights, f"It was trained {how}: evaluate so."


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Draws from torch's global generator that depend on the seed alone, and leave no trace."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
