"""One call that scores arrays from anywhere with a head."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from episodes.faults import InputError
from fewshot.heads import build_head
from fewshot.heads.base import Features, Head, check_support

Array = TypeVar("Array", Tensor, "np.ndarray[Any, Any]")


def score(
    head: str | Head,
    support: Array | Sequence[Array],
    labels: Array,
    query: Array | Sequence[Array],
    *,
    generator: torch.Generator | None = None,
    **settings: Any,
) -> Array:
    """Score the queries of one episode, from features that come from anywhere.

        fewshot.score("sur", support, labels, query, steps=20)

    Args:
        head: a head, or its text as `build_head` reads it.
        support: `[N, D]`, or `[K, N, D]` for K extractors, or a sequence of K arrays
            `[N, D_k]` when their dimensions differ; PyTorch tensors or NumPy arrays.
        labels: `[N]` integers in 0..W-1, each occurring at least once.
        query: `[Q, D]`, `[K, Q, D]` or a sequence, like `support`.
        generator: for heads that draw random numbers, on the CPU; seed 0 if not given.
        settings: settings of the head, when it is given as text.

    Returns:
        Scores `[Q, W]`, in kind and in the dtype of the query features (heads compute in float64);
        the largest is the prediction, and of equal ones the first.

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
    items, queries = _by_extractor(support, "support"), _by_extractor(query, "query")
    targets = _tensor(labels, "labels")
    countable = targets.numel() > 0 and not targets.is_floating_point()
    way = int(targets.max()) + 1 if countable else 0
    check_support(items, targets, way, head)
    shapes = [features.shape[1:] for features in items]
    if [features.shape[1:] for features in queries] != shapes:
        raise InputError(
            f"the query features are {[list(features.shape) for features in queries]}, the support "
            f"features {[list(features.shape) for features in items]}.",
            "query",
            "Give both from the same extractors.",
        )
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    scores = head.fit(items, targets.to(items[0].device), way, generator)(queries)
    first = query if isinstance(query, Tensor | np.ndarray) else query[0]
    return scores if isinstance(first, Tensor) else scores.numpy()


def _tensor(array: object, where: str) -> Tensor:
    """A tensor as it is, a NumPy array as a tensor.

    Raises:
        InputError: it is neither.
    """
    if isinstance(array, Tensor):
        return array
    if isinstance(array, np.ndarray) and array.dtype.kind in "fiub":
        return torch.from_numpy(np.array(array))  # a copy: arrays may be read-only
    raise InputError(
        f"is a {type(array).__name__}.", where, "Give a PyTorch tensor or a NumPy array of numbers."
    )


def _by_extractor(features: object, where: str) -> Features:
    """One tensor `[N, D]` per extractor."""
    if isinstance(features, list | tuple):
        return tuple(_tensor(part, where) for part in features)
    whole = _tensor(features, where)
    if whole.ndim not in (2, 3):
        raise InputError(
            f"features have shape {list(whole.shape)}.",
            where,
            "Give [N, D], or [K, N, D] for K extractors.",
        )
    return (whole,) if whole.ndim == 2 else whole.unbind()
