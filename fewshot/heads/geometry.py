"""Lengths, distances and class means of feature vectors; every function takes leading dimensions.

A head computes in float64 whatever the dtype of its features, and its scores are rounded to that
dtype at the end. So the last bits of a sum, which depend on the number of threads, on the
device and on what else is in a batch, decide neither a prediction nor a tie; and a rule such as
Adam, which divides by the size of a gradient, never amplifies rounding errors to full steps.
"""

import torch
from torch import Tensor

COSINE_SCALE = 10.0
"""The factor on every cosine. Source: fixed at 10 in SUR, URL, URT (test) and TSA."""


def unit(vectors: Tensor) -> Tensor:
    """Vectors `[..., D]` scaled to length 1; a zero vector stays zero.

    Dividing by the largest entry first keeps huge and tiny vectors from over- or underflowing
    when squared. It cancels out, so no gradient flows through it.
    """
    largest = vectors.detach().abs().amax(dim=-1, keepdim=True)
    scaled = vectors / torch.where(largest > 0, largest, 1.0)
    length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / torch.where(length > 0, length, 1.0)


def inverse_length(vectors: Tensor) -> Tensor:
    """`1 / |x|` of vectors `[..., D]`, `[..., 1]`; 0 for a zero vector."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(length > 0, 1 / length, 0.0)


def cosines(items: Tensor, prototypes: Tensor) -> Tensor:
    """`cos(x, c)` of items `[..., N, D]` and prototypes `[..., W, D]`: `[..., N, W]`."""
    return unit(items) @ unit(prototypes).mT


def squared_distances(items: Tensor, prototypes: Tensor) -> Tensor:
    """`||x - c||^2` of items `[..., N, D]` and prototypes `[..., W, D]`: `[..., N, W]`.

    By `|x|^2 - 2 xc + |c|^2` about the first prototype: a large offset that all features share
    costs no digits.
    """
    origin = prototypes[..., :1, :]
    items, prototypes = items - origin, prototypes - origin
    squares = items.square().sum(-1)[..., :, None] + prototypes.square().sum(-1)[..., None, :]
    return (squares - 2 * items @ prototypes.mT).clamp(min=0)


def softmax(scores: Tensor) -> Tensor:
    """Over the classes of scores `[..., W]`: along so short a dimension PyTorch's own takes five
    times as long.
    """
    chances = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return chances / chances.sum(dim=-1, keepdim=True)


def class_means(features: Tensor, members: Tensor) -> Tensor:
    """Prototypes `[..., W, D]`: the mean of the features `[..., N, D]` of each class.

    A matrix product, so that a GPU gives the same bits every time.

    Args:
        features: `[..., N, D]`.
        members: `[..., N, W]`, how much each item belongs to each class: one-hot, or weights. A
            class without members gets the zero vector.
    """
    mass = members.sum(dim=-2)
    return (members.mT @ features) / torch.where(mass > 0, mass, 1.0)[..., None]


def cholesky(matrix: Tensor, floor: float) -> Tensor:
    """The lower triangular factor L of positive matrices `[..., D, D]`, `M = L L^T`.

    Where rounding errors defeat Cholesky's method (a spread of sizes beyond 10^16), by way of the
    eigenvalues.

    Args:
        matrix: M.
        floor: what no eigenvalue would be below, were it not for rounding errors.
    """
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not failed.any():
        return factor
    values, vectors = torch.linalg.eigh(matrix)
    root = values.clamp(min=floor).sqrt()[..., None] * vectors.mT
    triangle: Tensor = torch.linalg.qr(root).R
    return (triangle * triangle.diagonal(dim1=-2, dim2=-1).sign()[..., None]).mT


def predicted(scores: Tensor) -> Tensor:
    """The class of the highest score `[..., W]`; of scores that are equal, the first.

    Compared in single precision, so that rounding errors of a double decide no tie.
    """
    return scores.float().argmax(dim=-1)
