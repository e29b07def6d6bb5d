"""SUR-pnf: cross-entropy over scales, offsets and the classifier alone."""

from collections.abc import Sequence

from fewshot.backbones import Backbone
from fewshot.film import freeze_but_film
from fewshot.training.classifier import find_classifier
from fewshot.training.objective import CrossEntropy


class Film(CrossEntropy):
    """Trains what FiLM put in; the rest of the network, which `--init` brought, stays.

    Args:
        backbone, classes, label_smoothing: as for `CrossEntropy`; with scales and offsets put in.
    """

    name = "film"

    def __init__(
        self, backbone: Backbone, classes: Sequence[int], label_smoothing: float = 0.0
    ) -> None:
        super().__init__(backbone, classes, label_smoothing)
        freeze_but_film(backbone, find_classifier(backbone)[1])
