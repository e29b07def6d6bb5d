"""The contract of a learner: a backbone, and what else a method learns, on one episode at a time.

    scores = learner(support, labels, query, way)     # [Q, way]; the largest wins
    loss = learner.loss(scores, truth)                # what training on episodes minimises

To add a method: a file with a `Learner` and its settings, a `Method`; a line in the table of
`baselines/table.py`; the contract suite then runs on it. A learner may rely on this, and the
suite holds it to the rest:

* Images are `[n, 3, S, S]` in [−1, 1]; labels are `[N]` in 0..way-1, in any order, and every class
  occurs. Ways, shots and queries change from episode to episode.
* All that learns is a parameter of the learner, its backbone included. A parameter that an episode
  does not use has `requires_grad` False, or the method says `skips_parameters`.
* `forward` is differentiable in training, draws no random number but from torch's global generator
  (which is keyed by the step), changes no parameter, and buffers only in training.
* In evaluation the scores of a query depend on no other query, unless the method is transductive.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.batch_norm import Rule, share_moments
from episodes.faults import InputError
from fewshot.backbone_name import BackboneName
from fewshot.backbones import Backbone

EpisodeTensors = tuple[Tensor, Tensor, Tensor, Tensor, int]
"""Support images and labels, query images and labels, and the number of ways."""

FLATTENED = ("four_layer_convnet",)
"""Backbones whose features are their last maps as they are, not averaged. Source: facts, 5.5."""
BACKBONE = "backbone."


class Learner(nn.Module):
    """A backbone that learns to learn.

    Args:
        backbone: what embeds images; becomes part of the learner.
        batch_norm: whose moments normalise support images and queries.

    Attributes:
        moments: of the batch norms of the backbone.

    Raises:
        InputError: the backbone cannot be used so.
    """

    skips_parameters = False
    """Whether some parameters have no gradient in some episodes."""
    needs_gradients = False
    """Whether scoring an episode computes gradients, in evaluation too."""

    def __init__(self, backbone: Backbone, batch_norm: Rule = "support") -> None:
        super().__init__()
        self.backbone = backbone
        self.moments = share_moments(backbone, batch_norm)
        self.flattens = BackboneName.parse(backbone.name).plain in FLATTENED

    def forward(self, support: Tensor, labels: Tensor, query: Tensor, way: int) -> Tensor:
        """Scores `[Q, way]` of the queries.

        Args:
            support: `[N, 3, S, S]`.
            labels: int64 `[N]` in 0..way-1.
            query: `[Q, 3, S, S]`.
            way: number of classes.

        Raises:
            InputError: the learner has fewer outputs than the episode has classes.
        """
        raise NotImplementedError

    def lesson(self, episode: EpisodeTensors) -> EpisodeTensors:
        """What training makes of an episode; as it is, unless a method says otherwise."""
        return episode

    def loss(self, scores: Tensor, truth: Tensor) -> Tensor:
        """The mean cross-entropy of scores `[Q, way]` and the true classes `[Q]`."""
        return functional.cross_entropy(scores.float(), truth)

    # ---- what methods are made of ------------------------------------------------------------

    def embed(self, images: Tensor) -> Tensor:
        """Features `[n, D]`."""
        return pool(self.backbone.maps(images), self.flattens)

    def embed_episode(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Features `[N, D]` of the support images and `[Q, D]` of the queries, by one pass."""
        with self.moments.of(len(support), kept=self.training):
            features = self.embed(torch.cat([support, query]))
        return features[: len(support)], features[len(support) :]

    def map_episode(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `[N, D, h, w]` of the support images and `[Q, D, h, w]` of the queries."""
        with self.moments.of(len(support), kept=self.training):
            maps = self.backbone.maps(torch.cat([support, query]))
        return maps[: len(support)], maps[len(support) :]

    # ---- weights beside the backbone's -------------------------------------------------------

    def beside(self) -> dict[str, Tensor]:
        """Parameters and buffers that are not the backbone's, by name."""
        state = self.state_dict()
        return {name: t for name, t in state.items() if not name.startswith(BACKBONE)}

    def load_beside(self, weights: Mapping[str, Tensor], remedy: str = "") -> None:
        """Take up what `beside` gave.

        Args:
            weights: by name.
            remedy: what to do where they do not fit.

        Raises:
            InputError: a name or a shape differs: other settings, or another image size.
        """
        own = self.beside()
        wrong = sorted(
            name
            for name in own.keys() | weights.keys()
            if name not in own or name not in weights or own[name].shape != weights[name].shape
        )
        if wrong:
            raise InputError(
                f"the weights beside the backbone do not fit: {', '.join(wrong[:3])}.",
                f"learner {type(self).__name__}",
                remedy,
            )
        self.load_state_dict(dict(weights), strict=False)


def pool(maps: Tensor, flattens: bool) -> Tensor:
    """Features `[n, D]` of maps `[n, C, h, w]`: as they are, or their averages."""
    return maps.flatten(1) if flattens else maps.mean(dim=(2, 3))


def map_side(backbone: Backbone, image_size: int) -> int:
    """Side of a backbone's last maps, for images of so many pixels a side.

    Raises:
        InputError: the images are too small for it.
    """
    images = next(backbone.parameters()).new_zeros(2, 3, image_size, image_size)
    try:
        with torch.no_grad():
            return backbone.maps(images).shape[-1]
    except RuntimeError as error:
        what = f"images of {image_size} pixels are too small for {backbone.name}."
        raise InputError(what, "--image-size", "Choose larger ones.") from error


def one_hot(labels: Tensor, way: int, like: Tensor) -> Tensor:
    """`[N, way]` ones and zeros, of the dtype and on the device of another tensor."""
    return functional.one_hot(labels, way).to(like)


def check_ways(way: int, outputs: int, where: str) -> None:
    """Check that an episode has no more classes than there are outputs.

    Raises:
        InputError: it has.
    """
    if way > outputs:
        raise InputError(
            f"an episode of {way} classes is more than the {outputs} outputs.",
            where,
            f"Train with outputs={way}, or choose a protocol of at most {outputs} ways.",
        )
