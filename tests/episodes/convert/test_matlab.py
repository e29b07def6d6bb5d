"""MATLAB files that SciPy wrote; damaged ones raise an error, whatever is damaged."""

import io
import random

import numpy as np
import pytest
import scipy.io

from episodes.convert.matlab import read_matlab

KINDS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
OTHERS = {"text": "some text", "struct": {"a": 1.0, "b": [1, 2]}, "cells": np.array([1, "x"], "O")}


def saved(compressed=False, **entries):
    stream = io.BytesIO()
    scipy.io.savemat(stream, entries, do_compression=compressed)
    return stream.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (1, 8189), (7, 5)])
def test_what_scipy_wrote(kind, shape, compressed):
    array = (np.arange(np.prod(shape)).reshape(shape) % 103).astype(kind)
    for entries in ({"labels": array}, OTHERS | {"labels": array} | {"more": array + 1}):
        content = saved(compressed, **entries)
        loaded = scipy.io.loadmat(io.BytesIO(content))["labels"]
        assert np.array_equal(read_matlab(content, "labels"), loaded.ravel(order="F"))
        assert np.array_equal(loaded, array)


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 200, saved(other=1), saved()])
def test_what_has_no_such_variable(content):
    with pytest.raises(ValueError, match=r"does not start as|has no variable 'labels'"):
        read_matlab(content, "labels")


@pytest.mark.parametrize("left", range(0, 400, 13))
def test_cut_off(left):
    content = saved(labels=np.arange(204, dtype=np.uint8))
    with pytest.raises(ValueError):  # which, depends on the place
        read_matlab(content[:left], "labels")


@pytest.mark.parametrize("compressed", [False, True])
def test_whatever_is_damaged(compressed):
    content = saved(compressed, text="x", labels=np.arange(204, dtype=np.uint8))
    rng, refused = random.Random(0), 0
    for _ in range(2000):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 3, 20])):
            damaged[rng.randrange(126, len(damaged))] = rng.randrange(256)
        try:
            read_matlab(bytes(damaged), "labels")
        except ValueError:
            refused += 1
    assert refused > 200
