"""Nearest class mean: prototypical networks at test time, cosine centroids, SimpleShot."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from episodes.faults import InputError
from fewshot.heads.batch import EpisodeHead, EpisodePredictor, Support
from fewshot.heads.geometry import (
    COSINE_SCALE,
    class_means,
    cosines,
    squared_distances,
    unit,
)


@dataclass(frozen=True)
class Prototypical(EpisodeHead):
    """Scores a query by its distance to the mean of each class's raw support features.

    * "euclidean": `-||q - c||^2`, squared and without temperature.
      Source: Snell et al. 2017; the benchmark's prototypical network.
    * "cosine": `10 cos(q, c)`, which is `ncc_cosine`.

    A squared distance beyond the range of the dtype scores the lowest finite number.
    """

    name: ClassVar[str] = "prototypical"
    distance: Literal["euclidean", "cosine"] = "euclidean"

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        prototypes = class_means(support.features[0], support.members)
        if self.distance == "cosine":
            return lambda queries: COSINE_SCALE * cosines(queries.features[0], prototypes)
        return lambda queries: -squared_distances(queries.features[0], prototypes)


@dataclass(frozen=True)
class NccCosine(EpisodeHead):
    """Nearest centroid by cosine: `10 cos(q, c)`.

    Source: the classifier of SUR, URL and their baselines (Dvornik et al. 2020; Li et al. 2021),
    whose centroids are means of raw features. CloserLookAgainFewShot (Luo et al. 2023) and
    pytorch-meta-dataset scale each support feature to length 1 first, another classifier.

    Attributes:
        unit_first: whether support features are scaled to length 1 before they are averaged.
    """

    name: ClassVar[str] = "ncc_cosine"
    unit_first: bool = False

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        features = unit(support.features[0]) if self.unit_first else support.features[0]
        prototypes = class_means(features, support.members)
        return lambda queries: COSINE_SCALE * cosines(queries.features[0], prototypes)


@dataclass(frozen=True)
class SimpleShot(EpisodeHead):
    """Nearest centroid of features that are centred and scaled to length 1: `-||q - c||^2`.

    Source: Wang et al. 2019, "SimpleShot". Its CL2N subtracts the mean of the base classes'
    features, which belongs to the backbone: give it as a file. Without one this is its L2N.

    Attributes:
        mean: path of a `.npy` file with the mean to subtract, `[D]`; none for L2N.
    """

    name: ClassVar[str] = "simpleshot"
    mean: str = "none"

    def fit_episodes(self, support: Support) -> EpisodePredictor:
        centre = self.centre(support.features[0])
        prototypes = class_means(unit(support.features[0] - centre), support.members)
        return lambda queries: -squared_distances(unit(queries.features[0] - centre), prototypes)

    def centre(self, features: Tensor) -> Tensor:
        """The mean `[D]` to subtract from features `[E, N, D]`.

        Raises:
            InputError: the file is missing, or holds no finite vector of that dimension.
        """
        if self.mean == "none":
            return features.new_zeros(features.shape[2])
        try:
            mean = np.load(Path(self.mean), allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot be read: {error}.", self.mean, "Give a .npy file.") from error
        wanted = features.shape[2:]
        if mean.shape != tuple(wanted) or mean.dtype.kind != "f" or not np.isfinite(mean).all():
            what = f"holds a {mean.dtype} array {list(mean.shape)}, not finite numbers {[*wanted]}."
            raise InputError(what, self.mean, "Give the mean feature of the base classes.")
        return torch.as_tensor(mean, dtype=features.dtype, device=features.device)
