"""The inner loop: gradient descent on the support set of one episode, itself differentiable.

It goes through learn2learn (`clone_module`, `maml_update`) where that is installed, and through
`torch.func` otherwise; a test holds both, and the loop written out, to the same numbers.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from baselines.learner import pool
from episodes.faults import InputError
from fewshot.backbones import Backbone
from fewshot.heads.layer import with_bias

Library = Literal["auto", "learn2learn", "torch_func"]
INSTALL = "pip install --no-deps -r requirements/learn2learn.txt"
LAYER = "layer"

Score = Callable[[Tensor], Tensor]
"""Images, or features, of any number → scores `[n, way]`."""


class Scorer(nn.Module):
    """A backbone with a linear layer on its features, or the layer alone.

    Args:
        backbone: what embeds images; None for a scorer of features.
        flattens: whether features are maps as they are, not averages.
        layer: `[D + 1, way]`, the last row the bias.
    """

    def __init__(self, backbone: Backbone | None, flattens: bool, layer: Tensor) -> None:
        super().__init__()
        self.backbone, self.flattens = backbone, flattens
        self.layer = nn.Parameter(torch.empty_like(layer))

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores `[n, way]`."""
        if self.backbone is not None:
            inputs = pool(self.backbone.maps(inputs), self.flattens)
        return with_bias(inputs) @ self.layer


@dataclass(frozen=True)
class InnerLoop:
    """Plain gradient descent on the mean cross-entropy of the whole support set.

    Attributes:
        steps: of it.
        rate: learning rate.
        first_order: whether gradients of the loop count as constants to the outer loss.
        library: what it goes through.
    """

    steps: int
    rate: float
    first_order: bool
    library: Library = "auto"

    def adapt(
        self, scorer: Scorer, layer: Tensor, names: Sequence[str], inputs: Tensor, labels: Tensor
    ) -> Score:
        """The adapted scorer; the given one is left as it was.

        Args:
            scorer: what is adapted.
            layer: what its layer starts as; gradients flow to what it was made of.
            names: the scorer's parameters that are adapted, beside the layer.
            inputs, labels: the support set.

        Raises:
            InputError: the library is not installed.
        """
        adapted = {*names, LAYER}
        if chosen(self.library) == "learn2learn":
            return self._by_learn2learn(scorer, layer, adapted, inputs, labels)
        return self._by_torch_func(scorer, layer, adapted, inputs, labels)

    def _by_torch_func(
        self, scorer: Scorer, layer: Tensor, adapted: set[str], inputs: Tensor, labels: Tensor
    ) -> Score:
        # Clones: a layer made of prototypes depends on the parameters, but not on its peers here.
        weights: dict[str, Tensor] = {
            name: p.clone() for name, p in scorer.named_parameters() if name in adapted
        }
        weights[LAYER] = layer
        for _ in range(self.steps):
            scores = functional_call(scorer, weights, (inputs,))
            gradients = self._gradients(scores, labels, list(weights.values()))
            weights = {
                name: weight if gradient is None else weight - self.rate * gradient
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
        return lambda later: functional_call(scorer, weights, (later,))

    def _by_learn2learn(
        self, scorer: Scorer, layer: Tensor, adapted: set[str], inputs: Tensor, labels: Tensor
    ) -> Score:
        library = import_learn2learn()
        clone = library.clone_module(scorer)
        clone._parameters[LAYER] = layer
        for _ in range(self.steps):
            named = dict(clone.named_parameters())
            tuned = [name for name in named if name in adapted]
            gradients = self._gradients(clone(inputs), labels, [named[name] for name in tuned])
            of = dict(zip(tuned, gradients, strict=True))
            library.algorithms.maml.maml_update(clone, self.rate, [of.get(name) for name in named])
        return partial(_score, clone)

    def _gradients(
        self, scores: Tensor, labels: Tensor, weights: list[Tensor]
    ) -> tuple[Tensor | None, ...]:
        loss = functional.cross_entropy(scores, labels)
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            loss, weights, create_graph=not self.first_order, allow_unused=True
        )
        return found


def _score(scorer: nn.Module, inputs: Tensor) -> Tensor:
    scores: Tensor = scorer(inputs)
    return scores


def chosen(library: Library) -> str:
    """The library that `auto` stands for here: learn2learn if it is installed."""
    if library == "auto":
        return "learn2learn" if find_spec("learn2learn") else "torch_func"
    return library


def import_learn2learn() -> ModuleType:
    """learn2learn, without what Gym has to say of itself when it is imported.

    Raises:
        InputError: it is not installed, or does not work here.
    """
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            import learn2learn
    except ImportError as error:
        what = f"learn2learn cannot be imported ({error})."
        remedy = f"Run: {INSTALL}; or set library=torch_func, which computes the same."
        raise InputError(what, remedy=remedy) from error
    library: ModuleType = learn2learn
    return library
