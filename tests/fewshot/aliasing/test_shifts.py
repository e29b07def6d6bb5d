"""Shifts whose result is known, and views of networks that must or must not agree."""

import math

import pytest
import torch
from torch import nn

from fewshot.aliasing.shifts import (
    View,
    look,
    middle,
    random_shift_agreement,
    shift,
    shift_agreement,
)
from tests.fewshot.aliasing.test_spectrum import wave


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(side=40):
    return torch.randn(3, 3, side, side, generator=generator(7))


def test_no_shift_and_whole_shifts():
    before = images()
    assert torch.allclose(shift(before, 0, 0), before, atol=1e-6)
    moved = shift(before, 3, -2)
    assert torch.allclose(moved[..., 3:, :-2], before[..., :-3, 2:], atol=1e-5)


@pytest.mark.parametrize("distance", [0.25, 0.5, 1.75])
def test_a_fraction_turns_the_phase_and_keeps_the_strength(distance):
    # half a sample off, a cosine is symmetric about the border, as its mirror image is
    places = torch.arange(40, dtype=torch.float64) + 0.5
    line = torch.cos(2 * math.pi * 0.35 * places)
    moved = shift(line.expand(1, 3, 40, 40), 0, distance)[0, 0, 0]
    assert torch.allclose(moved, torch.cos(2 * math.pi * 0.35 * (places - distance)), atol=1e-9)


def test_shifts_add_up():
    before = wave(0.1).float().expand(1, 3, 40, 40)
    there = shift(shift(before, 0.3, 0.6), -0.3, -0.6)
    assert torch.allclose(
        there[..., 8:-8, 8:-8], before[..., 8:-8, 8:-8], atol=1e-3
    )  # mirrored, it has a kink


def test_the_middle_and_what_lies_beside_it():
    grid = torch.arange(100.0).reshape(1, 1, 10, 10)
    assert middle(grid, 4)[0, 0, 0].tolist() == [33, 34, 35, 36]
    assert middle(grid, 4, -3, 2)[0, 0, 0].tolist() == [5, 6, 7, 8]


def test_agreement_by_hand():
    one = View(torch.tensor([1, 2]), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    other = View(torch.tensor([1, 0]), torch.tensor([[0.0, 2.0], [3.0, 3.0]]))
    same, cosine = one.agreement(other)
    assert same.tolist() == [1, 0] and cosine.tolist() == pytest.approx([0, 1])


class Sampler(nn.Module):
    """Sees every other column only, with or without a low-pass before."""

    def __init__(self, filtered):
        super().__init__()
        self.filtered = filtered

    def embed(self, pictures):
        line = pictures.mean(dim=(1, 2))
        if self.filtered:
            line = (line.roll(1, -1) + 2 * line + line.roll(-1, -1)) / 4
        return line[:, ::2].sum(dim=1, keepdim=True) * torch.tensor([[1.0, -1.0]]) + 0.001

    def forward(self, pictures):
        return self.embed(pictures)


def test_aliasing_makes_views_disagree_and_a_filter_mends_it():
    # stripes of one pixel: every other column is all light or all dark, depending on the shift
    stripes = wave(0.5, 48).float().expand(6, 3, 48, 48)
    aliased = random_shift_agreement(Sampler(False), stripes, 32, 8, generator(1))
    filtered = random_shift_agreement(Sampler(True), stripes, 32, 8, generator(1))
    assert 0 < float(aliased[0].mean()) < 1 and float(aliased[1].min()) < 0
    assert float(filtered[0].mean()) == 1 and float(filtered[1].min()) == pytest.approx(1)


def test_random_shifts_are_those_of_the_generator():
    found = [
        random_shift_agreement(Sampler(False), images(48), 32, 8, generator(seed))
        for seed in (5, 5, 6)
    ]
    assert torch.equal(found[0][1], found[1][1]) and not torch.equal(found[0][1], found[2][1])


def test_nothing_moves_at_distance_zero():
    before = images(48)
    still = look(Sampler(False), middle(before, 32))
    same, cosine = shift_agreement(Sampler(False), before, 32, 0.0, generator(), still)
    assert same.tolist() == [1, 1, 1] and cosine.tolist() == pytest.approx([1, 1, 1])
