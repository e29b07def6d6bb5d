"""Tuned layers against PyTorch's own layers, optimisers and gradients."""

import math

import pytest
import torch
from torch.nn import functional

from fewshot import score
from tests.fewshot.heads.drawn import SHOTS, draw, means_of

NEAR = {"rtol": 1e-8, "atol": 1e-8}


def unit(features):
    return features / features.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("shots", [*SHOTS, [60, 70, 30]])
def test_linear_against_sgd_in_shuffled_batches(shots):
    [support], labels, [query] = draw(len(shots), shots, [24], signed=False)
    layer = torch.nn.utils.skip_init(torch.nn.Linear, 24, len(shots), dtype=torch.float64)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    sgd = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(3)
    step, steps = 0, 10 * math.ceil(len(support) / 100)
    for _ in range(10):
        order = torch.randperm(len(support), generator=generator)
        for start in range(0, len(support), 100):
            sgd.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / steps))
            chosen = order[start : start + 100]
            sgd.zero_grad()
            functional.cross_entropy(layer(unit(support[chosen])), labels[chosen]).backward()
            sgd.step()
            step += 1
    draws = torch.Generator().manual_seed(3)
    scores = score("finetune_linear", support, labels, query, generator=draws, epochs=10, lr=0.1)
    torch.testing.assert_close(scores, layer(unit(query)).detach(), **NEAR)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shots", SHOTS)
def test_cosine_against_adam(shots, signed):
    [support], labels, [query] = draw(len(shots), shots, [64], signed)
    prototypes = means_of(support, labels).requires_grad_(True)
    adam = torch.optim.Adam([prototypes], lr=1e-3)

    def logits(items):
        return 10 * functional.cosine_similarity(items[:, None], prototypes[None], dim=2)

    for _ in range(50):
        adam.zero_grad()
        functional.cross_entropy(logits(support), labels).backward()
        adam.step()
    scores = score("finetune_cosine", support, labels, query, lr=1e-3)
    torch.testing.assert_close(scores, logits(query).detach(), **NEAR)


@pytest.mark.parametrize("start", ["zero", "prototypes"])
@pytest.mark.parametrize("shots", SHOTS)
def test_anil_against_autograd(shots, start):
    [support], labels, [query] = draw(len(shots), shots, [16], signed=True)
    means = means_of(support, labels)
    weight, bias = 2 * means, -(means**2).sum(dim=1)
    if start == "zero":
        weight, bias = torch.zeros_like(weight), torch.zeros_like(bias)
    for _ in range(5):
        weight.requires_grad_(True), bias.requires_grad_(True)
        loss = functional.cross_entropy(support @ weight.T + bias, labels)
        slopes = torch.autograd.grad(loss, (weight, bias))
        weight, bias = (weight - 0.1 * slopes[0]).detach(), (bias - 0.1 * slopes[1]).detach()
    scores = score("anil", support, labels, query, start=start)
    torch.testing.assert_close(scores, query @ weight.T + bias, **NEAR)


def test_a_layer_from_prototypes_ranks_as_the_prototypes_do():
    [support], labels, [query] = draw(1, [3, 1, 6], [16], signed=True)
    scores = score("anil", support, labels, query, start="prototypes", steps=0)
    distances = score("prototypical", support, labels, query)
    offset = (query**2).sum(dim=1, keepdim=True)
    torch.testing.assert_close(scores - offset, distances)
