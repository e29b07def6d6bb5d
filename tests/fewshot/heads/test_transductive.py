"""BD-CSPN, LaplacianShot, TIM and PT-MAP against their formulas, query by query."""

import pytest
import torch
from torch.nn import functional

from fewshot import score
from fewshot.heads.batch import Episode, gather_queries, gather_support
from fewshot.heads.geometry import class_means
from fewshot.heads.tim import Tim
from tests.fewshot.heads.drawn import SHOTS, draw, means_of

NEAR = {"rtol": 1e-7, "atol": 1e-9}
EPISODES = pytest.mark.parametrize(
    ("shots", "signed"), [(shots, signed) for shots in SHOTS for signed in (True, False)]
)


def cosine(a, b):
    return functional.cosine_similarity(a[:, None], b[None], dim=2)


def rectified(support, labels, query):
    """Prototypes as weighted means of support items and shifted queries."""
    means = means_of(support, labels)
    shifted = query + support.mean(dim=0) - query.mean(dim=0)
    nearest = cosine(shifted, means).argmax(dim=1)
    prototypes = []
    for k, mean in enumerate(means):
        members = torch.cat([support[labels == k], shifted[nearest == k]])
        weights = cosine(members, mean[None]).exp()
        prototypes.append((weights * members).sum(dim=0) / weights.sum())
    return torch.stack(prototypes)


@EPISODES
def test_bd_cspn(shots, signed):
    [support], labels, [query] = draw(len(shots), shots, [64], signed)
    expected = cosine(query, rectified(support, labels, query))
    torch.testing.assert_close(score("bd_cspn", support, labels, query), expected, **NEAR)
    support, query = functional.normalize(support), functional.normalize(query)
    expected = cosine(query, rectified(support, labels, query))
    scores = score("bd_cspn:normalise=true", support, labels, query)
    torch.testing.assert_close(scores, expected, **NEAR)


@pytest.mark.parametrize("settings", [{}, {"knn": 4, "smoothing": 0.7, "steps": 20}])
@EPISODES
def test_laplacian_shot(shots, signed, settings):
    [raw], labels, [raw_query] = draw(len(shots), shots, [64], signed)
    support, query = functional.normalize(raw), functional.normalize(raw_query)
    knn, smoothing = settings.get("knn", 3), settings.get("smoothing", 0.1)
    costs = torch.cdist(query, rectified(support, labels, query)) ** 2
    edges = torch.zeros(len(query), len(query), dtype=torch.float64)
    for j, one in enumerate(query):
        order = ((query - one) ** 2).sum(dim=1).argsort().tolist()
        edges[j, [i for i in order if i != j][: knn - 1]] = 1
    soft, before = (-costs).softmax(dim=1), None
    for step in range(settings.get("steps", 10)):
        soft = (-costs + smoothing * edges @ soft).softmax(dim=1)
        bound = (soft * (soft.log() + costs - smoothing * edges @ soft)).sum()
        if step > 1 and abs(bound - before) <= 1e-6 * abs(before):
            break
        before = bound
    scores = score("laplacian_shot", raw, labels, raw_query, **settings)
    torch.testing.assert_close(scores, soft, **NEAR)


@EPISODES
def test_tim(shots, signed):
    [raw], labels, [raw_query] = draw(len(shots), shots, [32], signed)
    support, query = functional.normalize(raw), functional.normalize(raw_query)
    weights = means_of(support, labels).requires_grad_(True)
    adam = torch.optim.Adam([weights], lr=1e-3)

    def logits(items):
        squares = (weights**2).sum(dim=1) / 2 + (items**2).sum(dim=1, keepdim=True) / 2
        return 15 * (items @ weights.T - squares)

    for _ in range(60):
        chances = logits(query).softmax(dim=1)
        mean = chances.mean(dim=0)
        loss = 0.1 * functional.cross_entropy(logits(support), labels)
        loss = loss + (mean * mean.log()).sum()
        loss = loss - 0.1 * (chances * (chances + 1e-12).log()).sum(dim=1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    scores = score("tim", raw, labels, raw_query, steps=60, lr=1e-3)
    torch.testing.assert_close(scores, logits(query).detach(), rtol=1e-6, atol=1e-7)


def test_tim_slopes_are_the_same_compiled_and_in_tensors():
    sizes = [(0, [2, 1]), (1, [1, 3, 2])]
    episodes = [(*draw(seed, shots, [12], signed=True), len(shots)) for seed, shots in sizes]
    support = gather_support([Episode(x, y, w, q, torch.Generator()) for x, y, q, w in episodes])
    queries = gather_queries([[query[0][: 3 + w]] for _, _, query, w in episodes])
    prototypes = class_means(support.features[0], support.members)
    items = torch.cat([support.features[0], queries.features[0]], dim=1)
    found, expected = torch.empty_like(prototypes), torch.empty_like(prototypes)
    head, scores = Tim(), prototypes @ items.mT
    head.slope(items, support, queries)(prototypes, found)
    head.slopes_in_tensors(scores, support, queries, prototypes, expected)
    torch.testing.assert_close(found, expected + head.temperature * scores @ items)


def sinkhorn(kernel, share):
    plan = kernel / kernel.sum()
    before = torch.zeros(len(plan), dtype=plan.dtype)
    for _ in range(1000):
        if (before - plan.sum(dim=1)).abs().max() <= 1e-6:
            break
        before = plan.sum(dim=1)
        plan = plan / before[:, None]
        plan = plan * (share / plan.sum(dim=0))
    return plan


@pytest.mark.parametrize("centre", [True, False])
@EPISODES
def test_pt_map(shots, signed, centre):
    [raw], labels, [raw_query] = draw(len(shots), shots, [64], signed)

    def transform(features):
        powered = functional.normalize((features.relu() + 1e-6).sqrt())
        return functional.normalize(powered - powered.mean(dim=0)) if centre else powered

    support, query = transform(raw), transform(raw_query)
    share = len(query) / len(shots)
    hard = functional.one_hot(labels).double()
    prototypes = means_of(support, labels)
    both = torch.cat([support, query])
    for _ in range(20):
        plan = sinkhorn((-10 * torch.cdist(query, prototypes) ** 2).exp(), share)
        soft = torch.cat([hard, plan])
        means = soft.T @ both / soft.sum(dim=0)[:, None]
        prototypes = prototypes + 0.2 * (means - prototypes)
    expected = sinkhorn((-10 * torch.cdist(query, prototypes) ** 2).exp(), share)
    scores = score("pt_map", raw, labels, raw_query, centre=centre)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(scores.argmax(dim=1), expected.argmax(dim=1))


def test_reducing_dimensions_without_loss_changes_nothing():
    """The released PT-MAP rotates features into N dimensions first."""
    [support], _, [query] = draw(0, [3, 5, 2], [64], signed=False)
    powered = torch.cat([support, query])
    powered = (powered + 1e-6).sqrt()
    rotated = torch.linalg.qr(powered.T).R.T
    before, after = (functional.normalize(x) for x in (powered, rotated))
    torch.testing.assert_close(torch.cdist(before, before), torch.cdist(after, after))
