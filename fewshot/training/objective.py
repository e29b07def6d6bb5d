"""What a training minimises: a module whose forward pass gives the loss of a lesson.

An objective holds all that learns, so that wrapping and compiling it covers every method.
Cross-entropy is the base of those on labelled images: on one source it is plain supervised
training, on several the multi-domain network (MDL), whose linear heads are the parts of one
classifier.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot.backbones import Backbone
from fewshot.training.classifier import make_linear


class Objective(nn.Module):
    """What every method has: a backbone, and a loss as its forward pass.

    Args:
        backbone: what is trained, or the part of it that is kept.
    """

    name: str
    skips_parameters = False
    """Whether some parameters have no gradient at some steps."""
    begun_with = ""
    """Hash of the weights that it began with, where they were not drawn."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    @property
    def learning(self) -> nn.Module:
        """What the optimiser of the recipe takes its steps with."""
        return self.backbone

    def advance(self, step: int) -> None:
        """Told of every step before it is taken, for what changes with time."""

    def companions(self) -> list[tuple[torch.optim.Optimizer, float]]:
        """Optimisers of what learns beside the backbone, each with its highest rate."""
        return []

    def facts(self) -> list[object]:
        """What beside backbone, recipe and lessons decides the weights, as JSON keeps it."""
        return [self.name, *([self.begun_with] if self.begun_with else [])]

    def finish(self, backbone: Backbone) -> Backbone:
        """A copy of the trained backbone as it is kept and evaluated."""
        return backbone


class CrossEntropy(Objective):
    """Cross-entropy over the classes of each source, summed over the sources.

    Args:
        backbone: whose classifier has the classes of all sources, one source after the other.
        classes: how many each source has.
        label_smoothing: share of the target that is spread over all classes.
    """

    name = "supervised"

    def __init__(
        self, backbone: Backbone, classes: Sequence[int], label_smoothing: float = 0.0
    ) -> None:
        super().__init__(backbone)
        self.label_smoothing = label_smoothing
        bounds = [0, *accumulate(classes)]
        self.classes = [slice(*pair) for pair in pairwise(bounds)]

    def forward(self, images: Tensor, labels: Tensor, sizes: Sequence[int]) -> Tensor:
        """The loss of a batch.

        Args:
            images: [n, 3, S, S], the images of one source after those of the other.
            labels: int64 [n] in their source, or float [n, classes] where images are mixed.
            sizes: images of each source; their sum is n.
        """
        return self.cross_entropy(self.backbone(images), labels, sizes)

    def cross_entropy(self, scores: Tensor, labels: Tensor, sizes: Sequence[int]) -> Tensor:
        """Of the classes of each image's own source, averaged in it, summed over sources."""
        terms = [
            functional.cross_entropy(own.float(), target, label_smoothing=self.label_smoothing)
            for own, target in zip(
                self.per_source(scores, sizes), labels.split(list(sizes)), strict=True
            )
        ]
        return torch.stack(terms).sum() if len(terms) > 1 else terms[0]

    def per_source(self, scores: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """The scores [n_d, classes_d] of each source's images for its own classes."""
        rows = scores.split(list(sizes))
        return [own[:, classes] for own, classes in zip(rows, self.classes, strict=True)]

    def finish(self, backbone: Backbone) -> Backbone:
        """With a linear classifier, whatever it was while it was trained."""
        make_linear(backbone)
        return backbone
