"""The contract of a few-shot head: support in, predictor out.

A head is a frozen dataclass whose fields are its settings, with the published values as
defaults. It learns one episode at a time:

    predict = head.fit(support, labels, way, generator)
    scores = predict(query)                       # [Q, way]; the largest score wins

What a head may rely on, and what the contract suite holds it to:

* Features come as a sequence of K tensors, one per feature extractor: `support[k]` is
  `[N, D_k]`, `query[k]` is `[Q, D_k]`. A head with `extractors = "one"` gets K = 1.
* `labels` are integers `[N]` in 0..way-1, in any order; every class occurs at least once,
  and shots may be unequal.
* A head sees tensors only. It never learns which source an episode came from.
* `fit` leaves nothing behind: no state on the head, no change to its inputs or to the
  backbone, no draw from a global random generator. Randomness comes from `generator`, which
  lives on the CPU. The same call gives the same bits.
* Scores have the dtype of the features, are finite, and depend on the class numbering only
  through the order of their columns.
* An inductive head scores each query by itself. One that looks at the other queries says so
  with `transductive = True`, and every table marks it.
* A head that tunes the backbone answers `adapts_backbone` with True and implements
  `fit_backbone`, which takes images instead of features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from episodes.faults import InputError

Features = Sequence[Tensor]
Predictor = Callable[[Features], Tensor]
ImagePredictor = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Head:
    """One way of classifying queries from a labelled support set; see the module's text.

    Attributes:
        name: what `--heads` and the tables call it.
        transductive: whether a query's scores depend on the other queries.
        extractors: "one" for a head on a single feature extractor, "many" for a head that
            wants the features of all of them.
        tuning: what labelled data beyond an episode's support its settings are chosen on, e.g.
            "validation classes"; results carry it. No head of this project is tuned on any.
    """

    name: ClassVar[str]
    transductive: ClassVar[bool] = False
    extractors: ClassVar[Literal["one", "many"]] = "one"
    tuning: ClassVar[str] = "none"

    @property
    def adapts_backbone(self) -> bool:
        """Whether this head, as set, tunes the backbone and so needs images, not features."""
        return False

    def fit(
        self, support: Features, labels: Tensor, way: int, generator: torch.Generator
    ) -> Predictor:
        """Learn one episode from its support features.

        Args:
            support: K tensors `[N, D_k]`.
            labels: `[N]` in 0..way-1.
            way: number of classes.
            generator: the only source of randomness, on the CPU.

        Returns:
            A function from query features (K tensors `[Q, D_k]`) to scores `[Q, way]`.

        Raises:
            InputError: this head works on images, or the support breaks the contract.
        """
        raise InputError(
            "this head tunes the backbone: it needs the support images, and features are not "
            "enough.",
            f"head {self}",
        )

    def fit_backbone(
        self,
        backbone: nn.Module,
        images: Tensor,
        labels: Tensor,
        way: int,
        generator: torch.Generator,
    ) -> ImagePredictor:
        """Learn one episode from its support images, starting from a backbone.

        The given backbone is bitwise the same afterwards.

        Args:
            backbone: a module with `embed(images) -> [N, D]`.
            images: `[N, 3, S, S]`.
            labels: `[N]` in 0..way-1.
            way: number of classes.
            generator: the only source of randomness, on the CPU.

        Returns:
            A function from query images `[Q, 3, S, S]` to scores `[Q, way]`.

        Raises:
            InputError: this head works on features, or the support breaks the contract.
        """
        raise InputError("this head leaves the backbone alone: give it features.", f"head {self}")

    def __str__(self) -> str:
        """The head's row label, `name` or `name:key=value,...` with what is not the default.

        For a head of the table, `build_head` reads it back.
        """
        changed = [
            f"{field.name}={spell_setting(getattr(self, field.name))}"
            for field in fields(self)
            if field.default is MISSING or getattr(self, field.name) != field.default
        ]
        return f"{self.name}:{','.join(changed)}" if changed else self.name

    def unlike(self, trained: Mapping[str, object]) -> list[str]:
        """What it was trained with and has otherwise now, as `--heads` writes settings.

        Args:
            trained: settings of its training, by name.
        """
        own = asdict(self)
        others = [name for name, value in trained.items() if own.get(name) != value]
        return [f"{name}={spell_setting(trained[name])}" for name in others]


def spell_setting(value: object) -> str:
    """A setting's value as `--heads` and YAML write it (true and false in lower case)."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_labels(labels: Tensor, count: int, way: int) -> None:
    """Check that the labels describe a support set of `count` items and `way` classes.

    Raises:
        InputError: not one integer label per item, a label outside 0..way-1, or a class
            without a support item.
    """
    if labels.shape != (count,):
        raise InputError(
            f"the labels have shape {list(labels.shape)}, but the support has {count} items.",
            "labels",
            "Give one label per support item.",
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(
            f"the labels are of type {labels.dtype}.", "labels", "Give integers in 0..way-1."
        )
    if count == 0:
        raise InputError("the support set is empty.", "labels")
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high >= way:
        raise InputError(
            f"the labels run from {low} to {high}, but an episode of {way} classes has labels "
            f"0 to {way - 1}.",
            "labels",
        )
    if way < 2:
        raise InputError("an episode of one class has nothing to tell apart.", "labels")
    present = labels.unique().tolist()
    if len(present) < way:
        first = next(label for label in range(way) if label not in present[: label + 1])
        raise InputError(
            f"{way - len(present)} of {way} classes have no support item (first: class {first}).",
            "labels",
            "Number the classes 0..way-1 without gaps.",
        )


def check_support(support: Features, labels: Tensor, way: int, head: Head) -> None:
    """Check that support features and labels are what a head's `fit` expects.

    Raises:
        InputError: see `check_labels`; also for features that are not `[N, D]` tensors of
            floating point with D > 0, and several extractors for a head that takes one.
    """
    if not support:
        raise InputError("there is no feature extractor.", "support")
    if head.extractors == "one" and len(support) != 1:
        raise InputError(
            f"the head takes one feature extractor, and there are {len(support)}.",
            f"head {head}",
            "Choose one of them, or a head over several such as sur.",
        )
    for features in support:
        if features.ndim != 2 or not features.shape[1] or not features.is_floating_point():
            raise InputError(
                f"features are a {features.dtype} tensor of shape {list(features.shape)}.",
                "support",
                "Give floating-point features, [N, D] with D > 0, for each extractor.",
            )
    counts = {len(features) for features in support}
    if len(counts) > 1:
        raise InputError(
            f"the extractors have different numbers of items: {sorted(counts)}.", "support"
        )
    check_labels(labels, counts.pop(), way)


def check_setting(holds: bool, head: Head, rule: str) -> None:
    """Check a rule on a head's settings, for use in `__post_init__`.

    Raises:
        InputError: the rule does not hold.
    """
    if not holds:
        raise InputError(f"{rule}.", f"head {head}")
