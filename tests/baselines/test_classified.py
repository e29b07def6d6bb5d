"""Nearest neighbour and fine-tuning, against episodes written out by hand."""

import math

import pytest
import torch
from torch.nn import functional

from baselines.table import build_method
from tests.baselines.given import GivenMaps, points

SUPPORT = points([0, 0, 1], [4, 0, 0], [0, 3, 0])
LABELS = torch.tensor([0, 0, 1])
QUERY = points([3, 1, 0], [0, 2, 1])


def learner_of(text):
    return build_method(text).learner(GivenMaps().double(), 1).double().eval()


def test_the_nearest_support_image_of_each_class_decides():
    root = math.sqrt
    scores = learner_of("baseline")(SUPPORT, LABELS, QUERY, 2)
    expected = [[3 / root(10), 1 / root(10)], [1 / root(5), 2 / root(5)]]
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float64))
    scores = learner_of("baseline:distance=euclidean")(SUPPORT, LABELS, QUERY, 2)
    assert scores.tolist() == [[-2.0, -13.0], [-4.0, -2.0]]


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("layers", ["head", "all"])
@pytest.mark.parametrize("classifier", ["linear", "cosine"])
@pytest.mark.parametrize("weight_norm", [True, False])
def test_finetuning_is_adam_on_the_support_set(loss, layers, classifier, weight_norm):
    """Adam, weight norm and cosines written out; the only weight of the network is a factor."""
    settings = f"steps=4,rate=0.05,loss={loss},layers={layers},classifier={classifier}"
    learner = learner_of(f"finetune:{settings},weight_norm={str(weight_norm).lower()}")
    torch.manual_seed(3)
    scores = learner(SUPPORT, LABELS, QUERY, 2)
    torch.manual_seed(3)
    drawn = torch.empty(2, 3)
    if weight_norm:
        drawn.normal_(std=0.05)
    else:
        torch.nn.init.trunc_normal_(drawn, std=0.1, a=-0.2, b=0.2)
    values = [drawn.double(), torch.ones(2).double() if weight_norm else None]
    values.append(torch.full((2,), 0.0 if weight_norm else 0.1).double())
    factor = torch.ones((), dtype=torch.float64)
    directions, lengths, bias = values

    def score(images, directions, lengths, bias, factor):
        features = factor * images[:, :, 0, 0]
        weight = directions
        if weight_norm:
            weight = lengths[:, None] * directions / directions.norm(dim=1, keepdim=True)
        elif classifier == "cosine":
            weight = directions / directions.square().sum(1, keepdim=True).clamp(min=1e-3).sqrt()
        if classifier == "cosine":
            squares = features.square().sum(1, keepdim=True).clamp(min=1e-3)
            return 10 * features / squares.sqrt() @ weight.T
        return features @ weight.T + bias

    moving = {"directions": directions}
    if weight_norm:
        moving["lengths"] = lengths
    if classifier == "linear":
        moving["bias"] = bias
    if layers == "all":
        moving["factor"] = factor
    fixed = {"directions": directions, "lengths": lengths, "bias": bias, "factor": factor}
    first = {name: torch.zeros_like(value) for name, value in moving.items()}
    second = {name: torch.zeros_like(value) for name, value in moving.items()}
    for step in range(1, 5):
        leaves = {name: value.clone().requires_grad_() for name, value in moving.items()}
        terms = functional.cross_entropy(
            score(SUPPORT, **{**fixed, **leaves}), LABELS, reduction="none"
        )
        total = terms.sum() if loss == "sum" else terms.sum() / 3
        for name, gradient in zip(
            leaves, torch.autograd.grad(total, list(leaves.values())), strict=True
        ):
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            speed = (second[name] / (1 - 0.999**step)).sqrt() + 1e-8
            moving[name] = moving[name] - 0.05 * first[name] / (1 - 0.9**step) / speed
    expected = score(QUERY, **{**fixed, **moving})
    torch.testing.assert_close(scores, expected, rtol=1e-9, atol=1e-9)
