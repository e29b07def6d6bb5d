"""The heads of CNAPS against covariances and inverses written out class by class."""

import pytest
import torch

from fewshot import score
from fewshot.heads.mahalanobis import gaussians, unbiased
from tests.fewshot.heads.drawn import SHOTS, draw, means_of

NEAR = {"rtol": 1e-7, "atol": 1e-7}


def estimate(examples, one_shot):
    """The released routine: rows are variables, so a single item is one variable."""
    if one_shot == "zero" and len(examples) == 1:
        return torch.zeros(examples.shape[1], examples.shape[1], dtype=examples.dtype)
    variables = examples.T if len(examples) > 1 else examples  # one item is not turned
    away = variables - variables.mean(dim=1, keepdim=True)
    return away @ away.T / (variables.shape[1] - 1)


def simple_cnaps(support, labels, query, one_shot):
    whole, columns = estimate(support, one_shot), []
    identity = torch.eye(support.shape[1], dtype=support.dtype)
    for k, mean in enumerate(means_of(support, labels)):
        members = support[labels == k]
        share = len(members) / (len(members) + 1)
        spread = share * estimate(members, one_shot) + (1 - share) * whole + identity
        away = query - mean
        columns.append(-torch.einsum("qd,de,qe->q", away, torch.linalg.inv(spread), away))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("one_shot", ["published", "zero"])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shots", SHOTS)
def test_against_the_formula(shots, signed, one_shot):
    for dim in (16, 64, 200):  # fewer dimensions than items, and more
        [support], labels, [query] = draw(len(shots), shots, [dim], signed)
        scores = score("mahalanobis", support, labels, query, one_shot=one_shot)
        expected = simple_cnaps(support, labels, query, one_shot)
        torch.testing.assert_close(scores, expected, **NEAR)


def test_many_dimensions():
    [support], labels, [query] = draw(0, [1, 20, 3], [512], signed=False)
    scores = score("mahalanobis", support, labels, query)
    expected = simple_cnaps(support, labels, query, "published")
    torch.testing.assert_close(scores, expected, **NEAR)


def test_gradients_reach_the_features():
    [support], labels, _ = draw(0, [2, 3], [4], signed=True)
    members = torch.nn.functional.one_hot(labels).double()

    def scores(items):
        found = gaussians(items, members, unbiased("published", torch.ones(4).double()))
        return found.scores(support[:2])

    assert torch.autograd.gradcheck(scores, (support.requires_grad_(True),))


def test_by_hand():
    # Class 0: 0 and 2, mean 1, variance 2. Class 1: 5 and 5. All: 0, 2, 5, 5, variance 6.
    support = torch.tensor([[0.0], [2.0], [5.0], [5.0]], dtype=torch.float64)
    query = torch.tensor([[2.0]], dtype=torch.float64)
    scores = score("mahalanobis", support, torch.tensor([0, 0, 1, 1]), query)
    expected = torch.tensor([[-1 / (2 / 3 * 2 + 1 / 3 * 6 + 1), -9 / (1 / 3 * 6 + 1)]])
    torch.testing.assert_close(scores, expected.double())


def transductive_cnaps(support, labels, query, rounds=4):
    way = int(labels.max()) + 1
    hard = torch.nn.functional.one_hot(labels).double()

    def fit(items, belonging):
        whole_away = items - items.mean(dim=0)
        whole = whole_away.T @ whole_away / len(items)
        classes = []
        for k in range(way):
            mass = belonging[:, k].sum()
            mean = (belonging[:, k, None] * items).sum(dim=0) / mass
            away = items - mean
            spread = (belonging[:, k, None] * away).T @ away / mass
            share = mass / (mass + 1)
            regular = share * spread + (1 - share) * whole + torch.eye(items.shape[1]).double()
            classes.append((mean, torch.linalg.inv(regular)))
        return torch.stack(
            [-((query - m) @ inverse * (query - m)).sum(dim=1) for m, inverse in classes], dim=1
        )

    logits = fit(support, hard)
    for step in range(rounds):
        before = logits.argmax(dim=1)
        soft = torch.cat([hard, logits.softmax(dim=1)])
        logits = fit(torch.cat([support, query]), soft)
        if step >= 1 and torch.equal(before, logits.argmax(dim=1)):
            break
    return logits


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shots", SHOTS)
def test_transductive_against_the_formula(shots, signed):
    [support], labels, [query] = draw(len(shots), shots, [24 if sum(shots) > 9 else 64], signed)
    scores = score("transductive_cnaps", support, labels, query)
    torch.testing.assert_close(scores, transductive_cnaps(support, labels, query), **NEAR)
