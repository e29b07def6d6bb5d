"""Foreign files, mutated: bytes, JSON values, texts; and readers that must survive all of them.

Every input is a function of the target's name and a number, so a failure names what repeats it.
`FUZZ=50 pytest tests/fuzz` tries fifty times as many as the tests do by default.
"""

import contextlib
import copy
import os
import random
import resource
import signal
from pathlib import Path

from episodes import InputError

TIMES = int(os.environ.get("FUZZ", "1"))
SECONDS = 30
"""A reader that has not answered after these hangs."""
MEMORY = 1 << 29
"""Bytes of address space that reading a small foreign file may take."""
LONGEST_MESSAGE = 12_100
NUMBERS = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
]
TEXTS = ["", "a", "../../x", "/etc/passwd", "a\nb", "\0", "\x1b[31m", "ü\u202e", "<b>", "9" * 5000]
VALUES = [
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**62, 2**63, 2**64, 10**30, -(10**30)),
    *(0.5, 1e300, -1e-300, float("nan"), float("inf"), [], {}, [[]], [{}], {"": 0}, {"a": {}}),
    *TEXTS,
]


# ---- mutation --------------------------------------------------------------------------------


def mutate_bytes(data: bytes, draw: random.Random) -> bytes:
    """The data with one to four things done to it."""
    found = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        size = len(found)
        at = draw.randrange(size + 1)
        length = min(size - at, draw.choice([1, 2, 4, 8, 16, 100, 4000]))
        match draw.randrange(9):
            case 0 if size:
                found[min(at, size - 1)] ^= 1 << draw.randrange(8)
            case 1 if size:
                found[min(at, size - 1)] = draw.randrange(256)
            case 2:
                del found[at:]
            case 3:
                del found[at : at + length]
            case 4:
                found[at:at] = draw.randbytes(length or 1)
            case 5:
                found[at:at] = found[at : at + length] * draw.choice([1, 2, 50])
            case 6:
                width = draw.choice([1, 2, 4, 8])
                number = draw.choice(NUMBERS) % (1 << 8 * width)
                found[at : at + width] = number.to_bytes(width, draw.choice(["little", "big"]))
            case 7:
                found[at : at + length] = bytes(length)
            case 8:
                start = draw.randrange(size + 1)
                found[at : at + length] = found[start : start + length]
    return bytes(found)


def mutate_value(value: object, draw: random.Random) -> object:
    """A JSON-like value with one to three things in it replaced, removed, renamed or repeated."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice([1, 1, 2, 3])):
        places = list(_places(value))
        if not places:
            return draw.choice(VALUES)
        parent, key = draw.choice(places)
        match draw.randrange(7):
            case 0 | 1:
                parent[key] = copy.deepcopy(draw.choice(VALUES))
            case 2:
                del parent[key]
            case 3:
                other, place = draw.choice(places)
                with contextlib.suppress(LookupError):
                    parent[key] = copy.deepcopy(other[place])
            case 4 if isinstance(parent, dict):
                parent[draw.choice(["", "a", str(key) + "x", "0", "-1"])] = parent.pop(key)
            case 4 | 5 if isinstance(parent, list):
                parent.insert(key, copy.deepcopy(parent[key]))
            case 6 if isinstance(parent[key], int | float) and draw.random() < 0.8:
                parent[key] = parent[key] + draw.choice([1, -1, 10**12, 2**40, 0.5])
            case 6 if isinstance(parent[key], str):
                parent[key] = mutate_text(parent[key], draw)
    return value


def mutate_text(text: str, draw: random.Random) -> str:
    """A text with a few bytes changed."""
    return mutate_bytes(text.encode("utf-8", "replace"), draw).decode("utf-8", "replace")


def _places(value):
    """Every (container, key) in a JSON-like value."""
    stack = [value]
    while stack:
        part = stack.pop()
        keys = part.keys() if isinstance(part, dict) else range(len(part))
        for key in list(keys):
            yield part, key
            if isinstance(part[key], dict | list):
                stack.append(part[key])


def put(path: Path, content: bytes) -> Path:
    """Write a new file; some file systems flush one that is truncated and written again."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


# ---- survival --------------------------------------------------------------------------------


def survive(name, number_of_inputs, make, read):
    """Give a reader mutated inputs; it answers, or rejects each in one line.

    Args:
        name: of the target; decides the inputs.
        number_of_inputs: how many.
        make: from a `random.Random` to an input.
        read: the reader.

    Returns:
        How many were read, and how many rejected.
    """
    read_count = rejected = 0
    with bounded_memory():
        for number in range(number_of_inputs * TIMES):
            draw = random.Random(f"{name}/{number}")
            given = make(draw)
            try:
                with bounded_time():
                    read(given)
                read_count += 1
            except InputError as error:
                rejected += 1
                message = str(error)
                assert "\n" not in message, (name, number, message)
                assert len(message) < LONGEST_MESSAGE, (name, number, message[:500])
                assert message.isprintable(), (name, number, message)
            except BaseException as error:
                error.add_note(f"input {number} of {name}: {repr(given)[:2000]}")
                raise
    assert rejected, "nothing was rejected: the inputs are not wrong"
    return read_count, rejected


@contextlib.contextmanager
def bounded_memory(size=MEMORY):
    """More than so many bytes of address space beyond the present ones are a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def bounded_time(seconds=SECONDS):
    """What takes longer is a TimeoutError."""

    def ring(*_):
        raise TimeoutError(f"no answer after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
