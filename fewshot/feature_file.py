"""Features on disk: one file per extractor and split, a row per image, filled in any order.

A row holds its own checksum, so it is valid by itself: a row that was never written, was torn by
a kill, or is written by another process at this moment fails the checksum and counts as missing.
So nothing is locked, any number of processes read and write one file, and a row is at worst
computed twice, with the same bits. The file is sparse: it takes the space of its filled rows.

File: `magic | u32 header length | u32 crc(header) | header (JSON)`, zeros up to a page, then per
image the features and u32 CRC-32C of the image's number and features, padded to 8 bytes.
"""

import contextlib
import json
import mmap
import os
import struct
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from episodes.faults import InputError, writing
from episodes.plan import Integers

MAGIC = b"MDFEAT01"
START = struct.Struct("<8sII")
PAGE = 4096
ELSEWHERE = "choose another --features, or none to keep nothing"
REMEDY = "Remove it: it is made again."


class FeatureFile:
    """The features that one extractor gives the images of one split.

    Args:
        path: of the file, made with its folder when absent; None for one without a name, which
            is gone when it is closed.
        making: everything the features depend on; two files with equal makings hold equal rows.
        images: how many there are.
        dim: dimension of the features.
        dtype: float32 or float16.

    Raises:
        InputError: the file cannot be made, or holds something else.
    """

    def __init__(
        self, path: Path | None, making: Mapping[str, Any], images: int, dim: int, dtype: str
    ) -> None:
        self.path = path or Path(tempfile.gettempdir())
        fields = [("features", np.dtype(dtype).newbyteorder("<"), (dim,)), ("crc", "<u4")]
        packed = np.dtype(fields)
        size = -(-packed.itemsize // 8) * 8
        self._row = np.dtype(
            {
                "names": ["features", "crc"],
                "formats": [packed["features"], "<u4"],
                "offsets": [0, packed["features"].itemsize],
                "itemsize": size,
            }
        )
        entries = dict(making) | {"images": images, "dim": dim, "dtype": dtype}
        content = json.dumps(entries, sort_keys=True).encode()
        header = START.pack(MAGIC, len(content), google_crc32c.value(content)) + content
        self._start = -(-len(header) // PAGE) * PAGE
        total = self._start + images * size
        with writing(self.path, ELSEWHERE):
            self._handle = _open(path, header, total)
            self._close = weakref.finalize(self, os.close, self._handle)
            length = os.fstat(self._handle).st_size
            if os.pread(self._handle, len(header), 0) != header or length != total:
                raise InputError("is damaged, or holds other features.", self.path, REMEDY)
            self._map = mmap.mmap(self._handle, total, access=mmap.ACCESS_READ)
        self._rows = np.frombuffer(self._map, self._row, count=images, offset=self._start)
        self._known = np.zeros(images, dtype=bool)

    def close(self) -> None:
        """Release the file; the rows that were read stay."""
        self._close()

    def has(self, places: Integers) -> NDArray[np.bool_]:
        """Whether each image has a row; a row that fails its checksum counts as missing.

        Such rows are read from the file, not from memory: to look at a hole of a mapped file takes
        space on a tmpfs, and where there is none ends the process.
        """
        unknown = np.flatnonzero(~self._known[places])
        end = self._row["features"].itemsize
        for place in places[unknown].tolist():
            row = os.pread(self._handle, end + 4, self._at(place))
            found = int.from_bytes(row[end:], "little")
            self._known[place] = found == _checksum(place, row[:end])
        return self._known[places]

    def write(self, places: Integers, features: NDArray[np.floating[Any]]) -> None:
        """Store rows of features `[n, dim]`.

        Raises:
            InputError: the disk is full, or a feature exceeds the range of float16.
        """
        rows = np.zeros(len(places), dtype=self._row)
        with np.errstate(over="ignore"):
            rows["features"] = features
        if not np.isfinite(rows["features"]).all() and np.isfinite(features).all():
            raise InputError(
                f"a feature of {np.abs(features).max():.3g} exceeds the range of float16.",
                self.path,
                "Use --feature-dtype float32.",
            )
        with writing(self.path, ELSEWHERE):
            for place, row in zip(places.tolist(), rows, strict=True):
                row["crc"] = _checksum(place, row["features"].tobytes())
                content = row.tobytes()
                if os.pwrite(self._handle, content, self._at(place)) < len(content):
                    raise OSError("No space left on the disk")
                self._known[place] = True

    def read(self, places: Integers) -> NDArray[np.float32]:
        """Features `[n, dim]` of images that have a row, as float32.

        Raises:
            KeyError: an image has none.
        """
        if not self.has(places).all():
            raise KeyError("embed the plan first")
        return self._rows["features"][places].astype(np.float32, copy=False)

    def _at(self, place: int) -> int:
        return self._start + place * self._row.itemsize


def _checksum(place: int, features: bytes) -> int:
    """Of an image's number and features; never 0, which is what an unwritten row has."""
    value: int = google_crc32c.value(place.to_bytes(8, "little") + features)
    return value or 1


def _open(path: Path | None, header: bytes, total: int) -> int:
    """Open a file, made without rows if absent; if another process makes it first, theirs."""
    if path is not None:
        if path.exists():
            return os.open(path, os.O_RDWR)
        path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path and path.parent, prefix=".making-")
    try:
        os.write(handle, header)
        os.ftruncate(handle, total)
        if path is not None:
            os.fsync(handle)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
    except BaseException:
        os.close(handle)
        raise
    finally:
        Path(temporary).unlink()
    if path is None:
        return handle
    os.close(handle)
    return os.open(path, os.O_RDWR)
