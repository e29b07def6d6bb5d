"""Solved classifiers: against scipy's own optimum, an explicit inverse, and URL's pipeline."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from episodes.faults import InputError
from fewshot import score
from tests.fewshot.heads.drawn import SHOTS, draw


def optimum(x, labels, way, strength):
    """Weights and bias that minimise cross-entropy summed + |W|^2 / 2C, found by scipy."""
    targets = np.eye(way)[labels]

    def loss(flat):
        weights, bias = flat[: x.shape[1] * way].reshape(-1, way), flat[x.shape[1] * way :]
        logits = x @ weights + bias
        residual = np.exp(logits - logsumexp(logits, axis=1, keepdims=True)) - targets
        value = (logsumexp(logits, axis=1) - (logits * targets).sum(1)).sum()
        value += (weights**2).sum() / (2 * strength)
        slope = x.T @ residual + weights / strength
        return value, np.concatenate([slope.ravel(), residual.sum(0)])

    start = np.zeros((x.shape[1] + 1) * way)
    found = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-9}).x
    return found[: x.shape[1] * way].reshape(-1, way), found[x.shape[1] * way :]


@pytest.mark.parametrize("shots", [[4, 1, 7], [2, 2, 5, 1]])
def test_logistic_against_the_optimum(shots):
    [support], labels, [query] = draw(0, shots, [6], signed=True)
    scores = score("logistic", support, labels, query).softmax(dim=1)
    unit = lambda x: (x / x.norm(dim=1, keepdim=True)).numpy()  # noqa: E731
    weights, bias = optimum(unit(support), labels.numpy(), len(shots), 1.0)
    expected = torch.from_numpy(unit(query) @ weights + bias).softmax(dim=1)
    torch.testing.assert_close(scores, expected, rtol=2e-3, atol=2e-3)  # lbfgs stops early


def test_logistic_of_two_classes_has_one_weight_vector():
    [support], labels, [query] = draw(0, [3, 5], [6], signed=True)
    scores = score("logistic", support, labels, query, normalise=False, C=0.5)
    x, sign = support.numpy(), 2 * labels.numpy() - 1

    def loss(flat):
        margin = sign * (x @ flat[:-1] + flat[-1])
        return np.logaddexp(0, -margin).sum() + (flat[:-1] ** 2).sum() / (2 * 0.5)

    found = minimize(loss, np.zeros(7), tol=1e-12).x
    expected = torch.from_numpy(query.numpy() @ found[:-1] + found[-1])
    torch.testing.assert_close(scores[:, 1] - scores[:, 0], expected, rtol=1e-2, atol=1e-3)


def test_a_stronger_penalty_gives_smaller_margins():
    [support], labels, [query] = draw(0, [4, 4, 4], [16], signed=True)
    spread = [score("logistic", support, labels, query, C=c).std() for c in (0.01, 1.0, 100.0)]
    assert spread[0] < spread[1] < spread[2]
    free = score("logistic", support, labels, query, C=0)
    assert free.std() > spread[2]


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shots", SHOTS)
def test_svm_votes_as_urls_pipeline_predicts(shots, signed):
    [support], labels, [query] = draw(len(shots), shots, [64], signed)
    pipeline = make_pipeline(StandardScaler(), SVC(gamma="auto", C=1, kernel="linear"))
    pipeline.fit(support.numpy(), labels.numpy())
    scores = score("linear_svm", support, labels, query)
    assert scores.argmax(dim=1).tolist() == pipeline.predict(query.numpy()).tolist()
    assert torch.equal(
        scores.sum(dim=1), torch.full((len(query),), len(shots) * (len(shots) - 1) / 2).double()
    )


@pytest.mark.parametrize("dim", [8, 512])
@pytest.mark.parametrize("shots", SHOTS)
def test_ridge_against_both_closed_forms(shots, dim):
    [support], labels, [query] = draw(len(shots), shots, [dim], signed=False)
    x, targets = support.numpy(), np.eye(len(shots))[labels.numpy()]
    primal = np.linalg.inv(x.T @ x + 50 * np.eye(dim)) @ x.T @ targets
    dual = x.T @ np.linalg.inv(x @ x.T + 50 * np.eye(len(x))) @ targets
    scores = score("ridge", support, labels, query)
    for weights in (primal, dual):
        expected = torch.from_numpy(query.numpy() @ weights)
        torch.testing.assert_close(scores, expected, rtol=1e-9, atol=1e-10)


def test_settings_out_of_range():
    [support], labels, [query] = draw(0, [2, 2], [4], signed=True)
    for name, setting, message in (
        ("logistic", {"C": -1}, "C is 0"),
        ("linear_svm", {"C": 0}, "C is positive"),
        ("ridge", {"penalty": 0}, "penalty is positive"),
    ):
        with pytest.raises(InputError, match=message):
            score(name, support, labels, query, **setting)
