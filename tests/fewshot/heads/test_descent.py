"""The rules of descent against PyTorch's optimisers."""

import pytest
import torch

from fewshot.heads.descent import Adadelta, Adam, descend

MATRIX = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
START = torch.tensor([[1.0, -2.0], [0.5, 4.0]], dtype=torch.float64)


def loss(parameter):
    return (parameter @ MATRIX * parameter).sum(dim=1) + parameter[:, 0]


def slope(parameter, gradient):
    gradient.copy_(parameter @ (MATRIX + MATRIX.T) + torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize(
    ("rule", "optimiser"),
    [(Adam, torch.optim.Adam), (Adadelta, torch.optim.Adadelta)],
)
def test_against_pytorch(rule, optimiser):
    parameter = START.clone().requires_grad_(True)
    reference = optimiser([parameter], lr=0.07)
    for _ in range(25):
        reference.zero_grad()
        loss(parameter).sum().backward()
        reference.step()
    found = descend(START, slope, rule(0.07), 25)
    torch.testing.assert_close(found, parameter.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", [Adam, Adadelta])
def test_each_episode_has_its_own_rate(rule):
    rates = torch.tensor([[0.1], [0.02]], dtype=torch.float64)
    together = descend(START, slope, rule(rates), 9)
    alone = [descend(START[e : e + 1], slope, rule(rates[e].item()), 9) for e in range(2)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_no_step_is_no_change():
    assert torch.equal(descend(START, slope, Adam(1.0), 0), START)
