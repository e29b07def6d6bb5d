"""Work in several processes: all results, faults that travel, and a process that dies."""

import os

import pytest

from episodes import InputError
from episodes.parallel import spread


def square(number):
    return number**2


def refuse(number):
    raise InputError(f"{number} is odd.", "here", "Double it.")


def die(number):
    os._exit(9)


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_every_result_with_its_place(jobs):
    assert sorted(spread(square, [5, 3, 5], jobs)) == [(0, 25), (1, 9), (2, 25)]
    assert list(spread(square, [], jobs)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_fault_keeps_its_parts(jobs):
    with pytest.raises(InputError) as caught:
        list(spread(refuse, [3, 3], jobs))
    assert (caught.value.what, caught.value.where) == ("3 is odd.", "here")


def test_a_process_that_dies_is_one_message():
    with pytest.raises(InputError, match=r"a working process died.*--jobs"):
        list(spread(die, [1, 2], 2))
