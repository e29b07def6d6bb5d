"""Filters by name, against scipy and hand-made rows."""

import pickle

import numpy as np
import pytest
import torch
from scipy.signal import windows

from episodes.faults import InputError
from fewshot.antialiasing import parse_filter
from fewshot.antialiasing.filters import binomial, exact

NAMES = [f"binomial{taps}" for taps in range(2, 8)]
NAMES += [
    "gaussian",
    "gaussian0.8x5",
    "gaussian1.5x6",
    "sinc13",
    "sinc6",
    "taps1:3:3:1",
    "taps1:2:4",
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def row(name, stride=2):
    kernel = parse_filter(name).taps((stride, 1))
    assert kernel.shape[1] == 1
    return kernel[:, 0].numpy()


@pytest.mark.parametrize(
    ("taps", "counts"),
    [(2, "1 1"), (3, "1 2 1"), (4, "1 3 3 1"), (5, "1 4 6 4 1"), (7, "1 6 15 20 15 6 1")],
)
def test_binomial_rows(taps, counts):
    counts = np.array(list(map(float, counts.split())))
    assert row(f"binomial{taps}").tolist() == (counts / counts.sum()).tolist()
    assert binomial(1).tolist() == [1.0]


def test_a_gaussian_is_scipys():
    expected = windows.gaussian(5, 0.8)
    np.testing.assert_allclose(row("gaussian0.8x5"), expected / expected.sum(), rtol=1e-12)


@pytest.mark.parametrize(("stride", "sigma", "taps"), [(2, 1 / 3, 2), (3, 1 / 2, 2), (4, 2 / 3, 3)])
def test_the_gaussian_by_stride_follows_the_rule(stride, sigma, taps):
    expected = windows.gaussian(taps, sigma)  # facts on anti-aliasing: σ = s/6, ⌈2σ + 1⌉ taps
    np.testing.assert_allclose(row("gaussian", stride), expected / expected.sum(), rtol=1e-12)


def gain(taps, frequency):
    places = np.arange(len(taps)) - (len(taps) - 1) / 2
    return float(np.sum(taps * np.cos(2 * np.pi * frequency * places)))


def test_the_sinc_is_nearest_to_an_ideal_low_pass():
    taps = row("sinc31")
    assert gain(taps, 0.15) > 0.98 and abs(gain(taps, 0.35)) < 0.02
    assert gain(taps, 0.25) == pytest.approx(0.5, abs=0.01)
    assert gain(row("binomial3"), 0.25) == pytest.approx(0.5)
    assert gain(row("gaussian"), 0.25) == pytest.approx(np.cos(np.pi / 4))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stride", [(2, 2), (2, 1), (4, 4)])
def test_taps_sum_to_one_exactly_in_every_precision(name, dtype, stride):
    kernel = parse_filter(name).taps(stride)
    rounded = exact(kernel, dtype)
    assert rounded.dtype == dtype
    assert float(rounded.double().sum()) == 1.0  # sums of multiples of one power of two are exact
    tolerance = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 2e-3}.get(dtype, 2e-2)
    assert (rounded.double() - kernel).abs().max() < tolerance
    if torch.equal(kernel, kernel.flip(0, 1)):
        assert torch.equal(rounded, rounded.flip(0, 1))


def test_own_kernels_are_scaled_and_named():
    assert parse_filter([1.0, 2.0, 1.0]).name == "taps1:2:1"
    own = parse_filter(parse_filter([1.0, 2.0, 1.0]).name)
    assert own.taps((2, 2)).tolist() == parse_filter("binomial3").taps((2, 2)).tolist()
    kernel = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]])
    plus = parse_filter(kernel)
    assert plus.name == "own3x3" and torch.equal(plus.taps((2, 2)), kernel.double() / 8)
    assert parse_filter(plus) is plus


@pytest.mark.parametrize("name", NAMES)
def test_a_filter_survives_pickling(name):
    again = pickle.loads(pickle.dumps(parse_filter(name)))
    assert torch.equal(again.taps((2, 2)), parse_filter(name).taps((2, 2)))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("binomial9", "unknown filter 'binomial9'. Known: binomial2 to binomial7, gaussian"),
        ("gaussian0x3", "unknown filter"),
        ("sinc1", "unknown filter"),
        ("taps1:b", "unknown filter"),
        ("taps1:-1", "sum to 0, so it lets no constant pass"),
        ([1.0], "filters nothing"),
        (torch.ones(2, 2, 2), "has shape"),
        (torch.tensor([float("nan"), 1.0]), "sum to nan"),
        ([], "has shape"),
    ],
)
def test_what_is_no_low_pass_is_refused(wanted, message):
    with pytest.raises(InputError, match=message):
        parse_filter(wanted)
