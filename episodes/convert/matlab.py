"""A numeric array in a MATLAB file of version 5 to 7, by the published description of the format.

SciPy reads such files too, but a damaged one ends its process instead of raising an error.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

HEADER = 128
"""Bytes before the first element; the last two tell the order of bytes."""
COMPRESSED, MATRIX = 15, 14
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Number of a type of elements → NumPy's code."""


def read_matlab(content: bytes, name: str) -> npt.NDArray[np.generic]:
    """The values of a variable, in the order in which they lie (columns first), without its shape.

    Raises:
        ValueError: the file is no MATLAB file, is damaged, or has no numeric variable of this name.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[HEADER - 2 : HEADER])
    if order is None:
        raise ValueError("it does not start as a MATLAB file")
    try:
        for kind, data in _elements(content[HEADER:], order):
            for inner, matrix in (
                _elements(zlib.decompress(data), order) if kind == COMPRESSED else [(kind, data)]
            ):
                if inner != MATRIX:
                    continue
                _, _, (_, called), (code, values), *_ = _elements(matrix, order)
                if called.rstrip(b"\0").decode("latin-1") == name:
                    return np.frombuffer(values, np.dtype(order + TYPES[code]))
    except (struct.error, zlib.error, KeyError) as error:
        raise ValueError(f"it is damaged: {error!r}") from error
    raise ValueError(f"it has no variable {name!r}")


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and data of the elements that lie one behind the other.

    Raises:
        ValueError: one is longer than what is there.
    """
    place = 0
    while place < len(content):
        kind, size = struct.unpack_from(order + "2I", content, place)
        start = place + 8
        if kind >> 16:  # up to four bytes lie in the tag itself
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        if start + size > len(content):
            raise ValueError("it ends too early")
        yield kind, content[start : start + size]
        padded = size if kind == COMPRESSED else -(-size // 8) * 8
        place = place + 8 if start == place + 4 else start + padded
