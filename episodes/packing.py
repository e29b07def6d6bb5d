"""Packing: decode the images of a split once and keep them as a pack.

While it is made, a pack is called `….partial`. An image in it is done when it agrees with its
checksum, so a packing that was killed at any moment goes on where it was.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from episodes.faults import InputError, is_disk_full
from episodes.packs import Pack, PackLayout, pack_name, plan_pack
from episodes.pixels import DecodedImages
from episodes.protocol import Split
from episodes.source import EncodedImages

LARGEST_FILE = (1 << 63) - 1
CHUNK_BYTES = 1 << 24
"""Images are packed in portions of about this many bytes."""


@dataclass(frozen=True)
class Packing:
    """What packing a split came to.

    Attributes:
        path: of the pack.
        images: in it.
        bytes: of the file.
        packed: images decoded now; the others were there from an earlier run.
    """

    path: Path
    images: int
    bytes: int
    packed: int


def pack_split(
    encoded: EncodedImages,
    split: Split,
    rule: str,
    size: int,
    folder: Path,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Packing:
    """Decode a split once and keep it; goes on where an interrupted run stopped.

    Args:
        encoded, split: the images.
        rule, size: how they become pixels.
        folder: of the packs of this source.
        threads: that decode. The bytes are the same.
        progress: called with images done and in all.

    Raises:
        InputError: an image is missing or damaged, the disk is full (what is done is kept, or,
            when it was full from the start, nothing), or another process packs the same.
    """
    layout = plan_pack(encoded, split, rule, size)
    path = folder / pack_name(split, rule, size)
    if path.exists() and _is_current(path, layout):
        return Packing(path, layout.images, layout.total_bytes, 0)
    partial = path.with_name(path.name + ".partial")
    with _writable(partial, layout), _locked(partial) as handle:
        _prepare(handle, partial, layout)
        decoded = DecodedImages(encoded, size, rule)
        packed = _fill(handle, decoded, layout, threads, progress)
        os.fsync(handle)
        partial.replace(path)
    return Packing(path, layout.images, layout.total_bytes, packed)


def _is_current(path: Path, layout: PackLayout) -> bool:
    try:
        Pack(path, layout)
    except InputError:
        return False
    return True


@contextmanager
def _writable(path: Path, layout: PackLayout) -> Iterator[None]:
    """Turn what the disk refuses into one message."""
    elsewhere = "name a folder that can be written and has room."
    try:
        yield
    except OSError as error:
        if is_disk_full(error) or error.errno == errno.EFBIG:
            need = f"{layout.total_bytes / 1e9:.2f} GB"
            reason, remedy = f"the disk has no room for {need}", f"Free {need}, or {elsewhere}"
        else:
            reason, remedy = error.strerror or str(error), elsewhere.capitalize()
        raise InputError(f"the pack cannot be written: {reason}.", path, remedy) from error


@contextmanager
def _locked(partial: Path) -> Iterator[int]:
    """The unfinished pack, open and ours alone; the lock goes with the process."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(partial, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # a process that finished meanwhile has renamed the file that is open here
            ours = partial.exists() and os.path.samestat(os.fstat(handle), partial.stat())
        except BlockingIOError:
            ours = False
        if not ours:
            raise InputError("another process is packing this.", partial, "Wait for it.")
        yield handle
    finally:
        os.close(handle)


def _prepare(handle: int, partial: Path, layout: PackLayout) -> None:
    """Lay out an empty pack, unless it is the beginning of this one."""
    known = os.pread(handle, len(layout.header), 0) == layout.header
    if known and os.fstat(handle).st_size == layout.total_bytes:
        return
    os.ftruncate(handle, 0)
    try:
        if layout.total_bytes > LARGEST_FILE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        # All the room at once: a disk too small is known before hours of work.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, layout.total_bytes)
        else:
            os.ftruncate(handle, layout.total_bytes)
    except OSError:
        partial.unlink()
        raise
    os.pwrite(handle, layout.header, 0)


def _fill(
    handle: int,
    decoded: DecodedImages,
    layout: PackLayout,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Pack every image that does not agree with its checksum yet; returns how many did not."""
    packed, portion = 0, max(1, CHUNK_BYTES // layout.image_bytes)
    if progress:
        progress(0, layout.images)
    for relative, count in enumerate(layout.images_per_class):
        for first in range(0, count, portion):
            images = np.arange(first, min(first + portion, count))
            place = int(layout.starts[relative]) + first
            if not _done(handle, layout, place, len(images)):
                class_ids = np.full(len(images), layout.first_class + relative)
                pixels = decoded.read(class_ids, images, threads)
                pixels.flags.writeable = False  # as the checksum wants it
                sums = [google_crc32c.value(image) for image in pixels]
                _write(handle, pixels.data, layout.images_at + place * layout.image_bytes)
                checksums = np.asarray(sums, dtype="<u4")
                _write(handle, checksums.data, layout.checksums_at + 4 * place)
                packed += len(images)
            if progress:
                progress(place + len(images), layout.images)
    return packed


def _done(handle: int, layout: PackLayout, place: int, count: int) -> bool:
    """Whether these images are in the file already: nothing agrees with a checksum by chance."""
    sums = np.frombuffer(os.pread(handle, 4 * count, layout.checksums_at + 4 * place), "<u4")
    if len(sums) < count or not sums.any():
        return False
    size = layout.image_bytes
    images = os.pread(handle, count * size, layout.images_at + place * size)
    return all(
        google_crc32c.value(images[k * size : (k + 1) * size]) == expected
        for k, expected in enumerate(sums.tolist())
    )


def _write(handle: int, content: memoryview, offset: int) -> None:
    remaining = content.cast("B")
    while remaining:
        written = os.pwrite(handle, remaining, offset)
        remaining, offset = remaining[written:], offset + written
