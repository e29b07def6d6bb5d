"""Prototypical, matching and relation networks on two-way episodes written out by hand."""

import math

import torch

from baselines.relationnet import RelationModule
from baselines.table import build_method
from tests.baselines.given import GivenMaps, points

SUPPORT = points([0, 0, 0], [2, 0, 0], [0, 3, 0])
LABELS = torch.tensor([0, 0, 1])
QUERY = points([1, 1, 0], [0, 2, 1])


def learner_of(text):
    return build_method(text).learner(GivenMaps().double(), 1).double()


def test_protonet_scores_squared_distances_to_class_means():
    scores = learner_of("protonet")(SUPPORT, LABELS, QUERY, 2)
    # means (1, 0, 0) and (0, 3, 0)
    assert scores.tolist() == [[-1.0, -5.0], [-6.0, -2.0]]


def test_the_loss_is_the_cross_entropy():
    learner = learner_of("protonet")
    loss = learner.loss(torch.tensor([[-1.0, -5.0], [-6.0, -2.0]]), torch.tensor([0, 0]))
    expected = (math.log(1 + math.exp(-4)) + math.log(1 + math.exp(4))) / 2
    assert abs(loss.item() - expected) < 1e-6


def test_matchingnet_sums_the_attention_to_unit_support_features():
    scores = learner_of("matchingnet")(SUPPORT, LABELS, QUERY, 2)
    # products of (1, 1, 0) with 0, (1, 0, 0) and (0, 1, 0): 0, 1, 1; of (0, 2, 1): 0, 0, 2
    e = math.e
    first = [(1 + e) / (1 + 2 * e), e / (1 + 2 * e)]
    second = [2 / (2 + e**2), e**2 / (2 + e**2)]
    torch.testing.assert_close(scores.exp(), torch.tensor([first, second], dtype=torch.float64))
    exact = learner_of("matchingnet:exact_cosine=true")(SUPPORT, LABELS, QUERY, 2)
    halves = [math.exp(value) for value in (0, math.sqrt(0.5), math.sqrt(0.5))]
    expected = (halves[0] + halves[1]) / sum(halves)
    assert abs(exact[0, 0].exp().item() - expected) < 1e-12


def test_relationnet_compares_mean_maps_with_those_of_queries():
    """The module sees every query beside the mean map of every class; written out pair by pair."""
    generator = torch.Generator().manual_seed(0)
    support = torch.rand(3, 3, 4, 4, generator=generator, dtype=torch.float64)
    query = torch.rand(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    learner = build_method("relationnet").learner(GivenMaps(), 4).double()
    scores = learner(support, LABELS, query, 2)
    means = torch.stack([support[:2].mean(dim=0), support[2]])
    pairs = [torch.cat([means[k], query[q]]) for q in range(2) for k in range(2)]
    torch.testing.assert_close(scores, learner.relation(torch.stack(pairs)).view(2, 2))
    assert ((scores > 0) & (scores < 1)).all()


def test_the_relation_module_has_its_published_layers():
    shapes = [tuple(p.shape) for p in RelationModule(64, 7).parameters()]
    # 7 → 3 → 1 pixels a side: 64 numbers into the dense layers
    assert shapes == [(64, 128, 3, 3), (64,), (64,), (64, 64, 3, 3), (64,), (64,), (8, 64), (8,),
                      (1, 8), (1,)]  # fmt: skip


def test_its_loss_is_the_mean_squared_error():
    learner = build_method("relationnet").learner(GivenMaps(), 4).double()
    scores = torch.tensor([[0.5, 0.25], [0.0, 1.0]])
    loss = learner.loss(scores, torch.tensor([0, 0]))
    assert loss.item() == (0.25 + 0.0625 + 1 + 1) / 4
