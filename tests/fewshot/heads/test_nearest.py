"""Nearest neighbour and matching against loops over queries and items."""

import math

import pytest
import torch

from fewshot import score
from tests.fewshot.heads.drawn import SHOTS, draw

NEAR = {"rtol": 1e-10, "atol": 1e-10}
SUPPORT = torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([1, 0, 0])


def test_nearest_by_hand() -> None:
    query = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    by_angle = score("knn", SUPPORT, LABELS, query)
    torch.testing.assert_close(by_angle, torch.tensor([[10 / math.sqrt(2), 10.0]]).double())
    by_distance = score("knn", SUPPORT, LABELS, query, distance="euclidean")
    assert by_distance.tolist() == [[-2.0, -1.0]]


def test_equal_distances_are_equal_scores() -> None:
    query = torch.tensor([[1.0, 0.5]])
    scores = score("knn", SUPPORT.float(), torch.tensor([0, 0, 1]), query, distance="euclidean")
    other = torch.tensor([[0.5, 1.0]])
    assert scores.argmax().item() == 1
    assert score("knn", torch.eye(2), torch.tensor([0, 1]), query + other).diff().item() == 0


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shots", SHOTS)
def test_nearest_against_a_loop(shots: list[int], signed: bool) -> None:
    [support], labels, [query] = draw(len(shots), shots, [64], signed)
    for distance in ("cosine", "euclidean"):
        scores = score("knn", support, labels, query, distance=distance)
        for j, one in enumerate(query):
            for k in range(len(shots)):
                items = support[labels == k]
                if distance == "cosine":
                    expected = max(10 * (one @ x) / (one.norm() * x.norm()) for x in items)
                else:
                    expected = max(-((one - x) ** 2).sum() for x in items)
                torch.testing.assert_close(scores[j, k], expected, **NEAR)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shots", SHOTS)
def test_matching_against_the_formulas(shots: list[int], signed: bool) -> None:
    [support], labels, [query] = draw(len(shots), shots, [512], signed)
    lengths = support.norm(dim=1, keepdim=True)
    attention = (query @ (support / lengths).T).softmax(dim=1)
    classes = range(len(shots))
    chances = torch.stack([attention[:, labels == k].sum(dim=1) for k in classes], dim=1)
    torch.testing.assert_close(score("matching", support, labels, query), chances.log(), **NEAR)

    cosine = query / query.norm(dim=1, keepdim=True) @ (support / lengths).T
    attention = cosine.softmax(dim=1)
    chances = torch.stack([attention[:, labels == k].sum(dim=1) for k in classes], dim=1)
    exact = score("matching", support, labels, query, exact_cosine=True)
    torch.testing.assert_close(exact, chances.log(), **NEAR)

    pooled = torch.stack([cosine[:, labels == k].mean(dim=1) for k in classes], dim=1)
    mean = score("matching", support, labels, query, attention="mean")
    torch.testing.assert_close(mean, 100 * pooled.clamp(min=0), **NEAR)


def test_matching_does_not_underflow() -> None:
    support = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    query = torch.tensor([[5000.0, 0.0]], dtype=torch.float64)
    scores = score("matching", support, torch.tensor([0, 1, 2]), query)
    assert scores.tolist() == [[0.0, -10000.0, -5000.0]]


def test_very_short_items_are_scaled_less_as_in_the_benchmark() -> None:
    support = torch.tensor([[1e-3, 0.0], [0.0, 1.0]], dtype=torch.float64)
    query = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    logit = 1e-3 / math.sqrt(1e-3)
    expected = torch.tensor([[logit, 0.0]]).double().log_softmax(dim=1)
    torch.testing.assert_close(score("matching", support, torch.tensor([0, 1]), query), expected)
