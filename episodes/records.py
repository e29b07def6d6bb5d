"""The records of one source: where each one lies, and reading any of them.

A class file is scanned once, by its record headers alone; the offsets are kept beside the
records, or in the user's cache folder where the records are read-only. A look-up reads two
numbers from that index, so memory and open files do not grow with classes or records.
"""

import errno
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from episodes.faults import InputError, is_disk_full
from episodes.protocol import Split
from episodes.spec import SourceSpec
from episodes.tfrecord import read_examples, replacing, scan_offsets

INDEX_FOLDER = ".index"
# magic, size and modification time of the record file, number of records
INDEX_HEADER = struct.Struct("<8sQQQ")
INDEX_MAGIC = b"MDINDEX1"
WORD = 8  # bytes of one offset


def cache_folder() -> Path:
    """Where files go that can be made again: `$XDG_CACHE_HOME/run_meta_dataset`."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "run_meta_dataset"
    except RuntimeError:
        raise InputError(
            "there is no home folder to keep a cache in.", remedy="Set XDG_CACHE_HOME."
        ) from None


class Records:
    """Random access to the encoded images of a source.

    Args:
        spec: the source.
        split: the split whose class files must all be there.

    Raises:
        InputError: class files are missing.
    """

    def __init__(self, spec: SourceSpec, split: Split) -> None:
        self.spec = spec
        present = {entry.name for entry in os.scandir(spec.folder)}
        wanted = [spec.class_file(class_id) for class_id in spec.split_classes[split]]
        missing = [path.name for path in wanted if path.name not in present]
        if missing:
            examples = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            raise InputError(
                f"{len(missing)} of the {len(wanted)} class files of the {split} split are "
                f"missing ({examples}).",
                spec.folder,
                "Finish the conversion or the copy of this source.",
            )

    def read(self, class_id: int, images: npt.NDArray[np.int64]) -> list[tuple[bytes, int | None]]:
        """Encoded image and stored label of some images of one class.

        Args:
            class_id: absolute in the source.
            images: numbers of the images in the class's file.

        Raises:
            InputError: the file is missing, truncated or damaged, or does not hold as many
                records as the specification says.
        """
        path = self.spec.class_file(class_id)
        offsets = self._offsets(class_id, path, images)
        return read_examples(path, offsets, [int(i) for i in images])

    def locate(self, class_id: int, image: int) -> str:
        """The file and record of an image, for messages."""
        return f"{self.spec.class_file(class_id)}, record {image}"

    def _offsets(
        self, class_id: int, path: Path, images: npt.NDArray[np.int64]
    ) -> list[tuple[int, int]]:
        """Start and stop of each image's record in its file, in bytes."""
        try:
            stamp = path.stat()
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}.", path) from error
        for index in self._index_places(class_id):
            found = self._look_up(index, stamp, path, class_id, images)
            if found is not None:
                return found
        offsets = scan_offsets(path)
        self._check_count(len(offsets) - 1, path, class_id)
        self._store(offsets, stamp, class_id)
        return [(offsets[i], offsets[i + 1]) for i in images]

    def _index_places(self, class_id: int) -> tuple[Path, Path]:
        """Beside the records, and in the cache for records that are read-only."""
        folder = self.spec.folder.resolve()
        key = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        name = f"{class_id}.offsets"
        return folder / INDEX_FOLDER / name, cache_folder() / "index" / key / name

    def _look_up(
        self,
        index: Path,
        stamp: os.stat_result,
        path: Path,
        class_id: int,
        images: npt.NDArray[np.int64],
    ) -> list[tuple[int, int]] | None:
        """Offsets from an index file, or None when it is absent, damaged or of another file."""
        try:
            with index.open("rb", buffering=0) as file:
                handle = file.fileno()
                header = os.pread(handle, INDEX_HEADER.size, 0)
                if len(header) < INDEX_HEADER.size:
                    return None
                magic, size, time, count = INDEX_HEADER.unpack(header)
                fresh = (magic, size, time) == (INDEX_MAGIC, stamp.st_size, stamp.st_mtime_ns)
                whole = os.fstat(handle).st_size == INDEX_HEADER.size + WORD * (count + 1)
                if not (fresh and whole):
                    return None
                self._check_count(count, path, class_id)
                places = [INDEX_HEADER.size + WORD * int(i) for i in images]
                return [struct.unpack("<QQ", os.pread(handle, 2 * WORD, at)) for at in places]
        except OSError:
            return None

    def _check_count(self, found: int, path: Path, class_id: int) -> None:
        expected = self.spec.images_per_class[class_id]
        if found != expected:
            raise InputError(
                f"holds {found} records, but dataset_spec.json says {expected}.",
                path,
                "Convert this source again, so that records and specification agree.",
            )

    def _store(self, offsets: list[int], stamp: os.stat_result, class_id: int) -> None:
        header = INDEX_HEADER.pack(INDEX_MAGIC, stamp.st_size, stamp.st_mtime_ns, len(offsets) - 1)
        content = header + np.asarray(offsets, dtype="<u8").tobytes()
        beside, cached = self._index_places(class_id)
        for place in (beside, cached):
            try:
                with replacing(place) as temporary:
                    temporary.write_bytes(content)
                return
            except OSError as error:
                if is_disk_full(error):
                    raise InputError(
                        "the disk is full: the index of the records cannot be written.",
                        place,
                        "Free some space, or set XDG_CACHE_HOME to a folder with room.",
                    ) from error
                readonly = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
                if place is cached or not readonly:
                    raise InputError(
                        f"the index of the records cannot be written: {error.strerror}.",
                        place,
                        "Set XDG_CACHE_HOME to a folder that can be written.",
                    ) from error
