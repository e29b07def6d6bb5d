"""Heads that each break one rule of the contract: the suite is worth something if it fails."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fewshot.heads import Features, Head, ImagePredictor, Predictor
from tests.fewshot.heads.contract import (
    CHECKS,
    check_accuracy,
    check_faults,
    check_label_permutation,
    check_odd_features,
    check_query_alone,
    check_query_order,
    check_same_twice,
    check_scores,
    check_support_order,
    check_untouched,
)


class Planted(Head):
    """A correct nearest-mean head with one place for a fault."""

    name = "planted"

    def fit(
        self, support: Features, labels: Tensor, way: int, generator: torch.Generator
    ) -> Predictor:
        means = torch.stack([support[0][labels == k].mean(0) for k in range(way)])
        return lambda query: self.spoil(-torch.cdist(query[0], means), support[0], labels)

    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores


class SecretlyTransductive(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores - scores.mean(dim=0)


class FavoursClassZero(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores + 1e-3 * torch.eye(scores.shape[1])[0]


class LooksAtTheOrder(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores + features[0, 0]


class Remembers(Planted):
    calls: list[int] = []  # noqa: RUF012

    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        self.calls.append(1)
        return scores + len(self.calls)


class WritesIntoTheSupport(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        features += 1
        return scores


class DrawsFromTheGlobalGenerator(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores + 0 * torch.rand(1)


class ForgetsTheDtype(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores.float()


class ReturnsNan(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores.log()


class CountsAlong(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores + torch.arange(len(scores))[:, None]


class DividesByTheSpread(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores / features.std()


class Guesses(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return torch.zeros_like(scores)


class TunesInPlace(Head):
    name = "tunes-in-place"

    @property
    def adapts_backbone(self) -> bool:
        return True

    def fit_backbone(
        self,
        backbone: nn.Module,
        images: Tensor,
        labels: Tensor,
        way: int,
        generator: torch.Generator,
    ) -> ImagePredictor:
        next(backbone.parameters()).data.mul_(1.001)
        return lambda query: query.flatten(1)[:, :way]


@pytest.mark.parametrize(
    ("planted", "check"),
    [
        (SecretlyTransductive, check_query_alone),
        (FavoursClassZero, check_label_permutation),
        (LooksAtTheOrder, check_support_order),
        (Remembers, check_same_twice),
        (WritesIntoTheSupport, check_untouched),
        (DrawsFromTheGlobalGenerator, check_untouched),
        (ForgetsTheDtype, check_scores),
        (ReturnsNan, check_scores),
        (CountsAlong, check_query_order),
        (DividesByTheSpread, check_odd_features),
        (Guesses, check_accuracy),
        (TunesInPlace, check_untouched),
    ],
)
def test_suite_catches_a_planted_fault(planted: type[Head], check: Callable[[Head], None]) -> None:
    with pytest.raises(AssertionError):
        check(planted())


def test_suite_lets_a_marked_transductive_head_pass() -> None:
    class Marked(SecretlyTransductive):
        transductive = True

    check_query_alone(Marked())


def test_planted_heads_are_sound_but_for_the_fault() -> None:
    for check in CHECKS:
        if check not in (check_scores, check_faults):  # cdist has no half; nothing is validated
            check(Planted())
