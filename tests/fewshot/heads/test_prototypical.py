"""Prototypical heads against values worked by hand and a direct loop."""

import math

import pytest
import torch

from fewshot import score
from fewshot.heads.geometry import class_means, squared_distances, unit

# Class 0: (0, 0) and (2, 0), mean (1, 0). Class 1: (0, 3), alone.
SUPPORT = torch.tensor([[0.0, 3.0], [0.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([1, 0, 0])
QUERY = torch.tensor([[1.0, 1.0], [0.0, 0.0], [4.0, 3.0]], dtype=torch.float64)


def test_euclidean_by_hand() -> None:
    expected = torch.tensor([[-1, -5], [-1, -9], [-18, -16]], dtype=torch.float64)
    torch.testing.assert_close(score("prototypical", SUPPORT, LABELS, QUERY), expected)


def test_cosine_by_hand() -> None:
    half = 10 / math.sqrt(2)
    expected = torch.tensor([[half, half], [0, 0], [8, 6]], dtype=torch.float64)
    scores = score("prototypical", SUPPORT, LABELS, QUERY, distance="cosine")
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_against_a_direct_loop(distance: str) -> None:
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(40, 64, generator=generator, dtype=torch.float64)
    query = torch.randn(15, 64, generator=generator, dtype=torch.float64)
    labels = torch.cat([torch.arange(7), torch.randint(0, 7, (33,), generator=generator)])
    scores = score("prototypical", support, labels, query, distance=distance)
    for k in range(7):
        mean = support[labels == k].mean(dim=0)
        for j in range(15):
            expected = -((query[j] - mean) ** 2).sum()
            if distance == "cosine":
                expected = 10 * torch.cosine_similarity(query[j], mean, dim=0)
            torch.testing.assert_close(scores[j, k], expected, rtol=1e-12, atol=1e-12)


def test_means_do_not_need_sorted_labels() -> None:
    means = class_means(SUPPORT, torch.nn.functional.one_hot(LABELS).double())
    assert means.tolist() == [[1.0, 0.0], [0.0, 3.0]]


def test_a_large_offset_costs_no_digits() -> None:
    queries = torch.tensor([[1e4, 1e4 + 1]])
    assert squared_distances(queries, torch.tensor([[1e4, 1e4]])).item() == 1.0


@pytest.mark.parametrize("size", [1e-42, 1e-25, 1.0, 1e25, 1e38])
def test_unit_of_tiny_and_huge_vectors(size: float) -> None:
    assert torch.linalg.vector_norm(unit(torch.tensor([[size, size]]))).item() == pytest.approx(1)


def test_unit_of_a_zero_vector_is_zero_and_so_is_its_gradient() -> None:
    vector = torch.zeros(1, 3, requires_grad=True)
    result = unit(vector)
    result.sum().backward()
    assert result.tolist() == [[0, 0, 0]]
    assert vector.grad is not None and vector.grad.isfinite().all()


def test_unit_gradient_is_that_of_plain_division() -> None:
    vector = torch.tensor([[3.0, -4.0, 1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit, (vector,))


def test_scores_stay_finite_when_the_distance_leaves_the_dtype() -> None:
    huge = SUPPORT.float() * 1e30
    assert score("prototypical", huge, LABELS, QUERY.float()).isfinite().all()
