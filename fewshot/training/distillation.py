"""Objectives with teachers: URL's distillation of several networks into one, and born-again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from episodes.loader import stream_seed
from fewshot.backbones import Backbone
from fewshot.training.classifier import find_classifier
from fewshot.training.objective import CrossEntropy

ADAPTER_RATE, ADAPTER_DECAY = 0.1, 5e-4
SMALLEST_HSIC = 1e-12


def softened_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of softened scores, per image, times the squared temperature.

    Args:
        student, teacher: [n, classes] scores of the same images.
        temperature: by which both are divided first.
    """
    target = functional.log_softmax(teacher / temperature, dim=1)
    found = functional.log_softmax(student / temperature, dim=1)
    divergence = functional.kl_div(found, target, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def rbf_cka(x: Tensor, y: Tensor) -> Tensor:
    """Centred kernel alignment of two sets of features of the same images, in [0, 1].

    The kernel is exp(−d² / 2s²), with s² the median of the squared distances that are not zero
    (facts on heads, section 4).

    Args:
        x, y: [n, D] features; D may differ.
    """
    with torch.autocast(x.device.type, enabled=False):
        return _cka(_centred_kernel(x.float()), _centred_kernel(y.float()))


def _cka(k: Tensor, h: Tensor) -> Tensor:
    own = ((k * k).sum().clamp_min(SMALLEST_HSIC) * (h * h).sum().clamp_min(SMALLEST_HSIC)).sqrt()
    return (k * h).sum() / own


def _centred_kernel(x: Tensor) -> Tensor:
    products = x @ x.T
    squares = products.diagonal()
    distances = (squares[:, None] + squares[None] - 2 * products).clamp_min(0)
    apart = distances.detach()[distances.detach() > 0]
    scale = apart.median() if len(apart) else distances.new_ones(())
    kernel = torch.exp(-distances / (2 * scale))
    rows = kernel - kernel.mean(dim=0, keepdim=True)
    return rows - rows.mean(dim=1, keepdim=True)


@dataclass(frozen=True)
class Teaching:
    """Who teaches, and how.

    Attributes:
        teachers: one per source, with the same classes; they do not change.
        hashes: of their weights.
        temperature: by which scores of teacher and student are divided before they are compared.
    """

    teachers: tuple[Backbone, ...]
    hashes: tuple[str, ...]
    temperature: float = 4.0


class Taught(CrossEntropy):
    """An objective with teachers, which are no part of what learns or is saved.

    Args:
        backbone, classes, label_smoothing: as for `CrossEntropy`.
        teaching: who teaches.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: Sequence[int],
        label_smoothing: float,
        teaching: Teaching,
    ) -> None:
        super().__init__(backbone, classes, label_smoothing)
        self.teaching = teaching
        for teacher in teaching.teachers:
            teacher.eval().requires_grad_(False)

    def taught(self, source: int, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [n, D] and scores [n, classes] of images of a source by its teacher."""
        with torch.no_grad():
            return features_and_scores(self.teaching.teachers[source], images)

    def kl(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The divergence of two sets of scores at the temperature."""
        return softened_kl(student.float(), teacher.float(), self.teaching.temperature)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Taught":
        """Teachers move along to another device or layout."""
        for teacher in self.teaching.teachers:
            teacher._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self

    def facts(self) -> list[object]:
        """The method, and the teachers by the hashes of their weights."""
        return [*super().facts(), *self.teaching.hashes, self.teaching.temperature]


class SelfDistillation(Taught):
    """Born again: (1 − w) cross-entropy + w KL divergence from a teacher of the same kind.

    Args:
        weight: w, above 0, to 1.
    """

    name = "self_distillation"

    def __init__(
        self,
        backbone: Backbone,
        classes: Sequence[int],
        label_smoothing: float,
        teaching: Teaching,
        weight: float = 0.5,
    ) -> None:
        super().__init__(backbone, classes, label_smoothing, teaching)
        self.weight = weight

    def forward(self, images: Tensor, labels: Tensor, sizes: Sequence[int]) -> Tensor:
        """The loss of a batch, as for `CrossEntropy`."""
        scores = self.backbone(images)
        _, target = self.taught(0, images)
        own = self.cross_entropy(scores, labels, sizes)
        return (1 - self.weight) * own + self.weight * self.kl(scores, target)

    def facts(self) -> list[object]:
        """With the weight."""
        return [*super().facts(), self.weight]


class Distillation(Taught):
    """URL: Σ CE_d + Σ w_d a_d(t) [KL_d + 1 − CKA_d], a_d(t) = max(0, 1 − t / T_d).

    KL compares scores at a temperature; CKA compares unit features, the student's behind a
    linear adapter per source that is thrown away afterwards. Per process, the kernels are those
    of its own images. Source: facts on heads, section 4.

    Args:
        weights: w_d of each source.
        steps: T_d of each source.
        seed: of the adapters.
    """

    name = "distillation"
    skips_parameters = True

    def __init__(
        self,
        backbone: Backbone,
        classes: Sequence[int],
        label_smoothing: float,
        teaching: Teaching,
        weights: Sequence[float],
        steps: Sequence[int],
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, classes, label_smoothing, teaching)
        self.weights, self.steps = tuple(weights), tuple(steps)
        self.adapters = nn.ParameterList()
        for number, teacher in enumerate(teaching.teachers):
            adapter = torch.empty(_features_of(teacher), _features_of(backbone))
            generator = torch.Generator().manual_seed(stream_seed("adapter", seed, number) % 2**63)
            nn.init.xavier_normal_(adapter, generator=generator)
            self.adapters.append(nn.Parameter(adapter))
        self.fades: Tensor
        self.register_buffer("fades", torch.tensor(self.weights), persistent=False)
        self.asked = (True,) * len(self.weights)

    def advance(self, step: int) -> None:
        """Let the teachers fade; one that has faded out is not asked any more."""
        pairs = zip(self.weights, self.steps, strict=True)
        fades = torch.tensor([weight * max(0.0, 1 - step / last) for weight, last in pairs])
        self.fades.copy_(fades)
        self.asked = tuple((fades > 0).tolist())

    def companions(self) -> list[tuple[torch.optim.Optimizer, float]]:
        """Adam for the adapters."""
        adam = torch.optim.Adam(
            self.adapters.parameters(), lr=ADAPTER_RATE, weight_decay=ADAPTER_DECAY
        )
        return [(adam, ADAPTER_RATE)]

    def forward(self, images: Tensor, labels: Tensor, sizes: Sequence[int]) -> Tensor:
        """The loss of a batch, as for `CrossEntropy`."""
        features, scores = features_and_scores(self.backbone, images)
        loss = self.cross_entropy(scores, labels, sizes)
        own_scores = self.per_source(scores, sizes)
        parts = zip(images.split(list(sizes)), features.split(list(sizes)), strict=True)
        for source, (pixels, own) in enumerate(parts):
            if not self.asked[source]:
                continue
            target, target_scores = self.taught(source, pixels)
            kl = self.kl(own_scores[source], target_scores)
            adapted = functional.linear(own.float(), self.adapters[source])
            cka = rbf_cka(
                functional.normalize(adapted, dim=1), functional.normalize(target.float(), dim=1)
            )
            loss = loss + self.fades[source] * (kl + 1 - cka)
        return loss

    def facts(self) -> list[object]:
        """With weights and steps."""
        return [*super().facts(), list(self.weights), list(self.steps)]


def features_and_scores(backbone: Backbone, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features [n, D], which are what the classifier is given, and scores [n, classes]."""
    given: list[Tensor] = []
    _, classifier = find_classifier(backbone)
    handle = classifier.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    try:
        scores = backbone(images)
    finally:
        handle.remove()
    return given[0], scores


def _features_of(backbone: Backbone) -> int:
    return find_classifier(backbone)[1].in_features
