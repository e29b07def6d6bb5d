"""Few-shot heads: the table, how a head is written as text, and one call to score arrays.

To add a head: one file with a class derived from `Head` (its text is the contract), its test,
and one line in `HEADS`; the contract suite then runs on it. A head outside the repository needs
no line: `mine.py:MyHead` works wherever a name does.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from episodes.faults import InputError, unknown_name
from fewshot.heads.base import Features, Head, ImagePredictor, Predictor, check_support
from fewshot.heads.finetune import Finetune
from fewshot.heads.prototypical import Prototypical
from fewshot.heads.settings import apply_settings, split_settings
from fewshot.heads.sur import Sur
from fewshot.heads.user_file import file_of_head, load_head_class

__all__ = [
    "HEADS",
    "Features",
    "Head",
    "ImagePredictor",
    "Predictor",
    "build_head",
    "file_of_head",
    "score",
]

HEADS: dict[str, type[Head]] = {
    "prototypical": Prototypical,
    "finetune": Finetune,
    "sur": Sur,
}


def build_head(text: str, **settings: Any) -> Head:
    """Make a head from its text and, optionally, settings by name.

    Args:
        text: `name`, `name:key=value,key=value`, `path/mine.py:MyHead`, or
            `path/mine.py:MyHead:key=value`.
        settings: more settings, as values of the field's type or as text.

    Raises:
        InputError: an unknown name, setting or choice, with the nearest known one; a value of
            the wrong type or out of range; a file that gives no head (see `load_head_class`).
    """
    file = re.fullmatch(r"(?P<path>.+\.py)(?::(?P<head>[^:=]*))?(?::(?P<settings>.*))?", text)
    if file:
        head = load_head_class(Path(file["path"]), file["head"] or "")
        if head.name in HEADS:
            raise InputError(
                f"the head calls itself '{head.name}', the name of a head of this project.",
                file["path"],
                "Choose another `name`.",
            )
        written = file["settings"] or ""
    else:
        name, _, written = text.partition(":")
        if name not in HEADS:
            raise unknown_name("head", name, HEADS)
        head = HEADS[name]
    values = split_settings(written, text)
    twice = values.keys() & settings.keys()
    if twice:
        raise InputError(f"the setting '{min(twice)}' is given twice.", f"head {text}")
    return apply_settings(head, {**values, **settings})


def score(
    head: str | Head,
    support: Tensor | Features,
    labels: Tensor,
    query: Tensor | Features,
    *,
    generator: torch.Generator | None = None,
    **settings: Any,
) -> Tensor:
    """Score the queries of one episode, from features that come from anywhere.

    Args:
        head: a head, or its text as `build_head` reads it.
        support: `[N, D]`, or `[K, N, D]` for K extractors, or a sequence of K tensors
            `[N, D_k]` when their dimensions differ.
        labels: `[N]` integers in 0..W-1, each occurring at least once.
        query: `[Q, D]`, `[K, Q, D]` or a sequence, like `support`.
        generator: for heads that draw random numbers, on the CPU; seed 0 if not given.
        settings: settings of the head, when it is given as text.

    Returns:
        Scores `[Q, W]` in the dtype of the query features; the largest is the prediction.

    Raises:
        InputError: bad head or setting (see `build_head`), features or labels that break the
            contract, a query unlike the support, or a head that needs images.
    """
    if isinstance(head, str):
        head = build_head(head, **settings)
    elif settings:
        raise InputError(
            f"settings ({', '.join(settings)}) given with a head that is already made.",
            f"head {head}",
        )
    support, query = _by_extractor(support, "support"), _by_extractor(query, "query")
    countable = labels.numel() > 0 and not labels.is_floating_point()
    way = int(labels.max()) + 1 if countable else 0
    check_support(support, labels, way, head)
    shapes = [features.shape[1:] for features in support]
    if [features.shape[1:] for features in query] != shapes:
        raise InputError(
            f"the query features are {[list(features.shape) for features in query]}, the support "
            f"features {[list(features.shape) for features in support]}.",
            "query",
            "Give both from the same extractors.",
        )
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    return head.fit(support, labels.to(support[0].device), way, generator)(query)


def _by_extractor(features: Tensor | Features, where: str) -> Features:
    """One tensor `[N, D]` per extractor."""
    if not isinstance(features, Tensor):
        return tuple(features)
    if features.ndim not in (2, 3):
        raise InputError(
            f"features have shape {list(features.shape)}.",
            where,
            "Give [N, D], or [K, N, D] for K extractors.",
        )
    return (features,) if features.ndim == 2 else features.unbind()
