"""Signals whose spectrum, folding and filtered strength are known in advance."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fewshot.aliasing.spectrum import (
    BINS,
    Spectrum,
    above_nyquist,
    energy,
    folded_frequency,
    gain,
    measure_energy,
)
from fewshot.antialiasing import LowPass, parse_filter
from fewshot.backbones import build_backbone

SIDE = 40


def wave(frequency, side=SIDE, axis=-1):
    """A cosine of `frequency` cycles per sample along one axis, [1, 1, side, side]."""
    line = torch.cos(2 * math.pi * frequency * torch.arange(side, dtype=torch.float64))
    plane = line.expand(side, side)
    return (plane if axis == -1 else plane.T)[None, None]


def strongest(row):
    """The strongest frequency of a row, in cycles per sample, and its amplitude."""
    spectrum = torch.fft.rfft(row).abs() * 2 / len(row)
    place = int(spectrum[1:].argmax()) + 1
    return place / len(row), float(spectrum[place])


@pytest.mark.parametrize(
    ("frequency", "stride", "folded"),
    [(0.4, 2, 0.2), (0.3, 2, 0.4), (0.2, 2, 0.4), (0.5, 2, 0.0), (0.25, 2, 0.5), (0.4, 4, 0.4)],
)
def test_where_a_frequency_folds_to(frequency, stride, folded):
    # by hand: 0.4 · 2 = 0.8, which is 0.2 short of a whole turn; 0.4 · 4 = 1.6, 0.4 short of two
    assert folded_frequency(frequency, stride) == pytest.approx(folded)


@pytest.mark.parametrize("frequency", [0.3, 0.35, 0.4, 0.45])
@pytest.mark.parametrize("name", ["binomial3", "binomial5", "gaussian0.8x5", "sinc13"])
def test_a_sinusoid_folds_without_the_filter_and_fades_by_its_gain_with_it(frequency, name):
    waves = wave(frequency, side=160)
    bare = waves[0, 0, 0, ::2]
    assert strongest(bare) == (pytest.approx(folded_frequency(frequency, 2)), pytest.approx(1.0))
    low_pass = LowPass(2, name)
    filtered = low_pass(waves)[0, 0, 40, 20:60]  # away from the borders; whole periods
    place, amplitude = strongest(filtered)
    row = parse_filter(name).row(2)
    expected = float(gain(row, torch.tensor([frequency])))
    assert amplitude == pytest.approx(expected, abs=1e-6)
    if expected > 1e-3:
        assert place == pytest.approx(folded_frequency(frequency, 2))


def test_gains_by_hand():
    # [1 2 1] / 4: (1 + cos 2πf) / 2; [1 1] / 2: |cos πf|
    places = torch.tensor([0.0, 0.25, 0.4, 0.5], dtype=torch.float64)
    expected = [1, 0.5, (1 + math.cos(0.8 * math.pi)) / 2, 0]
    assert gain(torch.tensor([0.25, 0.5, 0.25]), places).tolist() == pytest.approx(
        expected, abs=1e-12
    )
    expected = [1, math.cos(math.pi / 4), math.cos(0.4 * math.pi), 0]
    assert gain(torch.tensor([0.5, 0.5]), places).tolist() == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_energy_is_that_of_the_map(height, width, seed):
    maps = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    assert float(energy(maps).sum()) == pytest.approx(
        float((maps.double() ** 2).sum(dim=(2, 3)).mean())
    )


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize(("frequency", "share"), [(0.1, 0.0), (0.25, 0.0), (0.3, 1.0), (0.5, 1.0)])
def test_a_wave_folds_wholly_or_not_at_all(frequency, share, axis):
    found = Spectrum()
    found.add(wave(frequency, axis=axis), (2, 2))
    assert found.folded == pytest.approx(share, abs=1e-9)
    assert found.bins[min(int(frequency * 2 * BINS), BINS - 1)] == pytest.approx(found.total)


def test_a_dimension_that_is_not_sub_sampled_does_not_fold():
    down, across = Spectrum(), Spectrum()
    down.add(wave(0.4, axis=-2), (1, 2))
    across.add(wave(0.4, axis=-1), (1, 2))
    assert (down.folded, across.folded) == (pytest.approx(0, abs=1e-9), pytest.approx(1))


def test_shares_with_and_without_the_mean_by_hand():
    # a mean of 1: energy 1 a sample; a wave of amplitude 1: energy 1/2; one of 1/2 below: 1/8
    maps = 1 + wave(0.4) + 0.5 * wave(0.1)
    found = Spectrum()
    found.add(maps, (2, 2))
    assert found.total == pytest.approx(SIDE**2 * (1 + 0.5 + 0.125))
    assert found.folded == pytest.approx(0.5 / 1.625)
    assert found.folded_of_variation == pytest.approx(0.5 / 0.625)


def test_energies_are_averaged_before_they_are_divided():
    loud, soft = 3 * wave(0.4), wave(0.1)
    together, apart = Spectrum(), Spectrum()
    together.add(torch.cat([loud, soft]), (2, 2))
    apart.add(loud, (2, 2))
    apart.add(soft, (2, 2))
    assert together.folded == apart.folded == pytest.approx(9 / 10)
    assert (together.images, apart.images) == (2, 2)


def test_white_noise_folds_by_area():
    mask = above_nyquist(64, 64, (2, 2))
    # 33 of 64 frequencies stay along each side: 0 to ±1/4, both ends included
    assert mask.double().mean() == pytest.approx(1 - (33 / 64) ** 2)
    noise = torch.randn(4, 8, 64, 64, generator=torch.Generator().manual_seed(0))
    found = Spectrum()
    found.add(noise, (2, 2))
    assert found.folded == pytest.approx(1 - (33 / 64) ** 2, abs=0.005)


def test_nothing_folds_in_an_empty_map():
    found = Spectrum()
    found.add(torch.zeros(1, 2, 8, 8), (2, 2))
    assert found.folded == found.folded_of_variation == 0


# ---- networks --------------------------------------------------------------------------------


class OneStep(nn.Module):
    """Passes an image on and keeps every other sample, with or without a filter."""

    def __init__(self, filtered):
        super().__init__()
        self.step = LowPass(2, "binomial3") if filtered else nn.AvgPool2d(1, 2)

    def forward(self, images):
        return self.step(images)


@pytest.mark.parametrize("filtered", [False, True])
def test_a_network_of_one_step_by_hand(filtered):
    # a grating of amplitude 1 at 0.4 that folds, and one at 0.1 that stays
    image = (wave(0.4, 80) + wave(0.1, 80)).float().expand(1, 3, 80, 80)
    (found,) = measure_energy(OneStep(filtered), [image])
    assert found.before.folded == pytest.approx(0.5, abs=1e-3)
    if not filtered:
        assert found.after.folded == pytest.approx(0.5, abs=1e-3)
        return
    high, low = gain(torch.tensor([0.25, 0.5, 0.25]), torch.tensor([0.4, 0.1])).tolist()
    # the borders, where the map is mirrored, add a little
    assert found.after.folded == pytest.approx(high**2 / (high**2 + low**2), abs=0.005)


@pytest.mark.parametrize("name", ["resnet18", "aa_resnet18", "aa_efficientnet_b0"])
def test_filters_lower_the_share_at_every_step_they_stand_at(name):
    network = build_backbone(name, 4, 0).network.eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found = measure_energy(network, [images, images])
    assert len(found) == (5 if "efficientnet" in name else 8)
    for one in found:
        assert 0 < one.before.folded < 1 and one.before.images == 4
        if one.step.filtered:
            assert one.after.folded < 0.7 * one.before.folded
        else:
            assert one.after.folded == one.before.folded
