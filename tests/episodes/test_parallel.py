"""Work in several processes: all results, faults that travel, and a process that dies."""

import os
import subprocess
import sys
from pathlib import Path

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


FIRST_START = """
import signal
from episodes.parallel import start_connected
process, _ = start_connected(print)
status = open(f"/proc/{process.pid}/status").read().split()
masks = [int(status[status.index(name) + 1], 16) for name in ("SigBlk:", "SigIgn:")]
process.kill()
print(bool((masks[0] | masks[1]) >> (signal.SIGINT - 1) & 1))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_no_interruption_wakes_the_first_process_while_it_starts():
    # in a process of its own: the first start of all lifts the mask if it is not prepared for
    line = [sys.executable, "-c", FIRST_START]
    found = subprocess.run(line, capture_output=True, text=True, check=True)
    assert found.stdout == "True\n"
