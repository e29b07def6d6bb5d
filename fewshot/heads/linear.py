"""Linear classifiers that are solved to the end: logistic regression, SVM, ridge regression."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot.heads.base import Features, Head, Predictor, check_setting, check_support
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Size, Support, rounded
from fewshot.heads.geometry import cholesky, unit

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class SolvedHead(Head):
    """A head whose classifier scikit-learn fits, in float64 on the CPU, episode by episode.

    Attributes:
        normalise: whether features are scaled to length 1 first.
    """

    normalise: bool = True

    def solve(self, support: Array, labels: Labels, way: int) -> Callable[[Array], Array]:
        """From features `[N, D]` and labels `[N]` to a function `[Q, D]` → scores `[Q, way]`."""
        raise NotImplementedError

    def fit(
        self, support: Features, labels: Tensor, way: int, generator: torch.Generator
    ) -> Predictor:
        check_support(support, labels, way, self)
        score = self.solve(self._array(support), labels.cpu().numpy(), way)

        def predict(query: Features) -> Tensor:
            if not len(query[0]):
                return query[0].new_zeros(0, way)
            scores = torch.from_numpy(score(self._array(query)))
            return rounded(scores, query[0].dtype).to(query[0].device)

        return predict

    def _array(self, features: Features) -> Array:
        exact = features[0].detach().cpu().double()
        array: Array = (unit(exact) if self.normalise else exact).numpy()
        return array


@dataclass(frozen=True)
class Logistic(SolvedHead):
    """Multinomial logistic regression: cross-entropy summed over the support + |W|^2 / 2C.

    With two classes it is the same up to how the penalty counts: one weight vector, not two.

    Source: CloserLookAgainFewShot (Luo et al. 2023): unit features, C = 1, scikit-learn's lbfgs,
    at most 1000 iterations. URL's baseline is `C=0,normalise=false`, without a penalty; on support
    sets that a plane separates, what it finds then depends on where the solver stops.

    Attributes:
        C: inverse strength of the penalty; 0 for none.
        iterations: at most so many.
    """

    name: ClassVar[str] = "logistic"
    C: float = 1.0
    iterations: int = 1000

    def __post_init__(self) -> None:
        check_setting(self.C >= 0, self, "C is 0 (no penalty) or more")
        check_setting(self.iterations >= 1, self, "iterations is a count, 1 or more")

    def solve(self, support: Array, labels: Labels, way: int) -> Callable[[Array], Array]:
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=self.C or np.inf, max_iter=self.iterations, solver="lbfgs")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the iterations ended is the published setting
            model.fit(support, labels)

        def score(query: Array) -> Array:
            margin: Array = model.decision_function(query)
            return margin if way > 2 else np.stack([-margin / 2, margin / 2], axis=1)

        return score


@dataclass(frozen=True)
class LinearSvm(SolvedHead):
    """Linear support vector machines, one for each pair of classes, that vote.

    The score of a class is the number of its votes; a tie goes to the lowest label.

    Source: URL's SVM baseline (Li et al. 2021): features standardised by the support set's own
    mean and deviation, then scikit-learn's SVC with a linear kernel and C = 1.

    Attributes:
        C: inverse strength of the penalty.
    """

    name: ClassVar[str] = "linear_svm"
    normalise: bool = False
    C: float = 1.0

    def __post_init__(self) -> None:
        check_setting(self.C > 0, self, "C is positive")

    def solve(self, support: Array, labels: Labels, way: int) -> Callable[[Array], Array]:
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        scaler = StandardScaler().fit(support)
        model = SVC(kernel="linear", C=self.C, decision_function_shape="ovo")
        model.fit(scaler.transform(support), labels)

        def score(query: Array) -> Array:
            margins: Array = model.decision_function(scaler.transform(query))
            pairs: list[tuple[int, int]] = list(combinations(range(way), 2))
            # Of two classes scikit-learn gives one margin, for the second class.
            margins = margins.reshape(len(query), len(pairs)) * (-1 if way == 2 else 1)
            votes = np.zeros((len(query), way))
            for margin, (first, second) in zip(margins.T, pairs, strict=True):
                votes[:, first] += (margin > 0) + 0.5 * (margin == 0)
                votes[:, second] += (margin < 0) + 0.5 * (margin == 0)
            return votes

        return score


@dataclass(frozen=True)
class Ridge(EpisodeHead):
    """Ridge regression of the one-hot labels: `q X^T (X X^T + penalty I)^-1 Y`, without a bias.

    Source: Bertinetto et al. 2019, "Meta-learning with differentiable closed-form solvers", whose
    penalty is meta-learned; 50 on raw features is that of MetaOptNet's implementation.

    Attributes:
        penalty: on the squared weights.
        normalise: whether features are scaled to length 1 first.
    """

    name: ClassVar[str] = "ridge"
    penalty: float = 50.0
    normalise: bool = False

    def __post_init__(self) -> None:
        check_setting(self.penalty > 0, self, "penalty is positive")

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        items = self.prepare(support.features[0])
        gram = items @ items.mT
        penalty = self.penalty * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        factor = cholesky(gram + penalty, floor=self.penalty)
        weights = items.mT @ torch.cholesky_solve(support.members, factor)
        return lambda queries: self.prepare(queries.features[0]) @ weights

    def prepare(self, features: Tensor) -> Tensor:
        """Features as they are, or of length 1."""
        return unit(features) if self.normalise else features

    def numbers(self, size: Size) -> int:
        return super().numbers(size) + 4 * size.support**2
