"""The records of one source: where each one lies, and reading any of them.

A class file is scanned once, by its record headers alone; the offsets are kept beside the
records, or in the user's cache folder where that cannot be: records are often read-only, or fill
their disk. A look-up maps that index for a moment, so memory and open files do not grow with
classes or records.

One index per class file, not one per source: the first episode scans the files of its own
classes only, a replaced file costs one scan, and processes that index at once never meet in a
file. An index is used for the file of its size and time of modification; should it be wrong all
the same, no record starts where it says, and the file is scanned again.
"""

import errno
import hashlib
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from episodes.faults import InputError, changed_meanwhile, is_disk_full, writing
from episodes.protocol import Split
from episodes.spec import SPEC_FILE, SourceSpec
from episodes.tfrecord import OpenFile, opening, read_file, replacing, scan_file

INDEX_FOLDER = ".index"
# magic, size and modification time of the record file, number of records
INDEX_HEADER = struct.Struct("<8sQQQ")
INDEX_MAGIC = b"MDINDEX1"
WORD = 8  # bytes of one offset
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
CACHE_ELSEWHERE = "set XDG_CACHE_HOME to a folder that can be written and has room"


def cache_folder() -> Path:
    """Where files go that can be made again: `$XDG_CACHE_HOME/run_meta_dataset`."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "run_meta_dataset"
    except RuntimeError:
        raise InputError(
            "there is no home folder to keep a cache in.", remedy="Set XDG_CACHE_HOME."
        ) from None


Spans = tuple[list[int], list[int]]


def _spans(offsets: npt.NDArray[np.uint64], images: npt.NDArray[np.int64]) -> Spans:
    """Starts and stops of the records of some images, in bytes."""
    return offsets[images].tolist(), offsets[images + 1].tolist()


class Records:
    """Random access to the encoded images of a source.

    Args:
        spec: the source.
        split: the split whose class files must all be there.

    Raises:
        InputError: class files are missing.
    """

    def __init__(self, spec: SourceSpec, split: Split) -> None:
        self.spec, self.split = spec, split
        self._folder = spec.folder.resolve()
        self._key = hashlib.sha256(str(self._folder).encode()).hexdigest()[:16]
        self._stamps: dict[int, tuple[int, int]] = {}
        present = self._present()
        wanted = [spec.class_file(class_id).name for class_id in spec.split_classes[split]]
        missing = [] if present is None else [name for name in wanted if name not in present]
        if missing:
            examples = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            raise InputError(
                f"{len(missing)} of the {len(wanted)} class files of the {split} split are "
                f"missing ({examples}).",
                spec.folder,
                "Finish the conversion or the copy of this source.",
            )

    def expect(self, class_ids: npt.NDArray[np.int64], images: npt.NDArray[np.int64]) -> None:
        """Nothing is done ahead."""

    def read(self, class_id: int, images: npt.NDArray[np.int64]) -> list[tuple[bytes, int | None]]:
        """Encoded image and stored label of some images of one class.

        Args:
            class_id: absolute in the source.
            images: numbers of the images in the class's file.

        Raises:
            InputError: the file is missing, truncated or damaged, does not hold as many records
                as the specification says, or has changed since `fingerprint`.
        """
        numbers, path = images.tolist(), self.place(class_id)
        # One open file for everything, so that its index cannot be that of a file which
        # replaced it meanwhile.
        with self._open(class_id) as file:
            if self._stamps.get(class_id) not in (None, (file.size, file.changed)):
                raise changed_meanwhile(path)
            indexed = self._look_up(class_id, file, images)
            if indexed is not None:
                try:
                    return read_file(file, path, *indexed, numbers)
                except InputError:
                    # the file is damaged or its index is: a scan tells
                    if indexed == _spans(scan_file(file, path), images):
                        raise
            offsets = self._index(class_id, file)
            return read_file(file, path, *_spans(offsets, images), numbers)

    def _present(self) -> set[str] | None:
        """Names of files that are there; None where that cannot be known."""
        return {entry.name for entry in os.scandir(self.spec.folder)}

    def place(self, class_id: int) -> str | Path:
        """Where the records of a class lie."""
        return self.spec.class_file(class_id)

    def locate(self, class_id: int, image: int) -> str:
        """The file and record of an image, for messages."""
        return f"{self.place(class_id)}, record {image}"

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when the specification or a class file does.

        Files are told apart by size and time of modification, as everywhere here. From now on
        this object reads no file that has changed: what is made of it is of these files.

        Raises:
            InputError: a file is missing.
        """
        digest = hashlib.sha256()
        try:
            digest.update((self.spec.folder / SPEC_FILE).read_bytes())
            for class_id in self.spec.split_classes[self.split]:
                digest.update(struct.pack("<QQ", *self.stamp(class_id)))
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}.", error.filename) from error
        return digest.hexdigest()[:16]

    def stamp(self, class_id: int) -> tuple[int, int]:
        """Size of a class file and its time of modification, to which reading is held from now on.

        Raises:
            OSError: the file is missing.
        """
        status = self.spec.class_file(class_id).stat()
        found = status.st_size, status.st_mtime_ns
        self._stamps.setdefault(class_id, found)
        return found

    def index(self, progress: Callable[[int, int], None] | None = None, jobs: int = 8) -> None:
        """Index every class file of the split that has no valid index.

        Not needed before reading, which indexes the classes it meets. Threads, because the time
        goes into waiting for the disk; only record headers are read.

        Args:
            progress: called with class files done and in all.
            jobs: files scanned at once.

        Raises:
            InputError: a file is missing, truncated or damaged, or the disk is full.
        """
        class_ids = self.spec.split_classes[self.split]
        with ThreadPoolExecutor(jobs) as pool:
            try:
                for done, _ in enumerate(pool.map(self._ensure_index, class_ids), start=1):
                    if progress:
                        progress(done, len(class_ids))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _ensure_index(self, class_id: int) -> None:
        with self._open(class_id) as file:
            if self._look_up(class_id, file, np.zeros(0, dtype=np.int64)) is None:
                self._index(class_id, file)

    def _open(self, class_id: int) -> AbstractContextManager[OpenFile]:
        return opening(self.spec.class_file(class_id))

    def _index_places(self, class_id: int) -> Iterator[Path]:
        """Beside the records, and in the cache for records that are read-only or fill the disk."""
        yield self._folder / INDEX_FOLDER / f"{class_id}.offsets"
        yield cache_folder() / "index" / self._key / f"{class_id}.offsets"

    def _look_up(
        self, class_id: int, file: OpenFile, images: npt.NDArray[np.int64]
    ) -> Spans | None:
        """Starts and stops from an index; None when it is absent, damaged or of another file."""
        for place in self._index_places(class_id):
            try:
                with place.open("rb", buffering=0) as stored:
                    # Mapped, so that memory does not grow with the records. An index is never
                    # changed in place, only replaced.
                    index = mmap.mmap(stored.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError):  # absent, or empty
                continue
            if len(index) < INDEX_HEADER.size + WORD:
                continue
            magic, size, time, count = INDEX_HEADER.unpack_from(index)
            fresh = (magic, size, time) == (INDEX_MAGIC, file.size, file.changed)
            if not fresh or len(index) != INDEX_HEADER.size + WORD * (count + 1):
                continue
            self._check_count(count, class_id)
            starts, stops = _spans(np.frombuffer(index, "<u8", offset=INDEX_HEADER.size), images)
            if all(a < b <= size for a, b in zip(starts, stops, strict=True)):
                return starts, stops
        return None

    def _check_count(self, found: int, class_id: int) -> None:
        expected = self.spec.images_per_class[class_id]
        if found != expected:
            raise InputError(
                f"holds {found} records, but dataset_spec.json says {expected}.",
                self.place(class_id),
                "Convert this source again, so that records and specification agree.",
            )

    def _index(self, class_id: int, file: OpenFile) -> npt.NDArray[np.uint64]:
        """Scan the headers of a class file and keep the offsets."""
        offsets = scan_file(file, self.place(class_id))
        self._check_count(len(offsets) - 1, class_id)
        self._store(offsets, file, class_id)
        return offsets

    def _store(self, offsets: npt.NDArray[np.uint64], file: OpenFile, class_id: int) -> None:
        header = INDEX_HEADER.pack(INDEX_MAGIC, file.size, file.changed, len(offsets) - 1)
        content = header + offsets.astype("<u8").tobytes()
        for attempt, place in enumerate(self._index_places(class_id)):
            with writing(place, CACHE_ELSEWHERE, "the index of the records"):
                try:
                    with replacing(place) as temporary:
                        temporary.write_bytes(content)
                    return
                except OSError as error:
                    if attempt or not (is_disk_full(error) or error.errno in READ_ONLY):
                        raise
