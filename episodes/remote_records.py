"""The records of a source that lies elsewhere: ranged reads of blocks, which a cache keeps."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import numpy.typing as npt

from episodes.block_cache import BlockCache, cache_limit
from episodes.faults import InputError, changed_meanwhile
from episodes.protocol import Split
from episodes.records import INDEX_FOLDER, INDEX_HEADER, INDEX_MAGIC, Records, Spans, cache_folder
from episodes.remote import RemoteFiles
from episodes.spec import SPEC_FILE, SourceSpec
from episodes.tfrecord import OpenFile, Span

BLOCK = 1 << 18
"""Bytes fetched and kept together: about two photographs of ImageNet."""
CLASSES_AT_ONCE = 16
"""Asked for together: most of the time is waiting."""


class RemoteFile:
    """A remote file, read by whole blocks that a cache keeps."""

    def __init__(self, remote: RemoteFiles, path: str, cache: BlockCache) -> None:
        self._remote, self._path, self._cache = remote, path, cache
        self._size, self._changed = remote.describe(path)
        self._name = f"{path}-{self._changed:016x}"

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    @property
    def changed(self) -> int:
        """Of its size and its tag."""
        return self._changed

    def read(self, start: int, stop: int) -> bytes:
        """The bytes between two offsets; fewer where the file ends."""
        return self.read_spans([(start, stop)])[0]

    def read_spans(self, spans: Sequence[Span]) -> list[bytes]:
        """The same for many; what is not in the cache is asked for at once.

        Raises:
            InputError: the file changed since it was described; nothing of it is kept.
        """
        spans = [(start, min(stop, self._size)) for start, stop in spans]
        numbers = {
            number for start, stop in spans for number in range(start // BLOCK, -(-stop // BLOCK))
        }
        blocks = {number: self._cache.get(self._name, number) for number in numbers}
        absent = sorted(number for number, block in blocks.items() if block is None)
        edges = [(n * BLOCK, min((n + 1) * BLOCK, self._size)) for n in absent]
        fetched = self._remote.fetch_spans(self._path, edges)
        if absent and self._remote.describe(self._path, anew=True)[1] != self._changed:
            raise changed_meanwhile(f"{self._remote.url}/{self._path}")
        for number, block in zip(absent, fetched, strict=True):
            blocks[number] = block
            self._cache.put(self._name, number, block)
        found = []
        for start, stop in spans:
            first = start // BLOCK
            joined = b"".join(blocks[n] or b"" for n in range(first, -(-stop // BLOCK)))
            found.append(joined[start - first * BLOCK : stop - first * BLOCK])
        return found

    def forget(self) -> None:
        """Remove what the cache has of it."""
        self._cache.forget(self._name)


class RemoteRecords(Records):
    """Random access to the encoded images of a source whose class files are elsewhere.

    Args:
        spec: of the source, in a mirror.
        split: the split to read.
        url: of the folder that holds a folder per source.

    Raises:
        InputError: class files are missing, where the server lists them.
    """

    def __init__(self, spec: SourceSpec, split: Split, url: str) -> None:
        self._remote = RemoteFiles(url)
        self._source = spec.folder.name
        self._cache = BlockCache(cache_folder() / "remote" / "blocks", cache_limit())
        self._known: dict[int, RemoteFile] = {}
        self._sizes = self._remote.sizes(self._source)
        super().__init__(spec, split)

    def _present(self) -> set[str] | None:
        return None if self._sizes is None else set(self._sizes)

    def place(self, class_id: int) -> str:
        """The URL of the records of a class."""
        return f"{self._remote.url}/{self._path(class_id)}"

    def _path(self, class_id: int) -> str:
        return f"{self._source}/{self.spec.class_file(class_id).name}"

    def _file(self, class_id: int) -> RemoteFile:
        if class_id not in self._known:
            file = RemoteFile(self._remote, self._path(class_id), self._cache)
            self._known[class_id] = file
        return self._known[class_id]

    def _open(self, class_id: int) -> AbstractContextManager[OpenFile]:
        @contextmanager
        def opened() -> Iterator[OpenFile]:
            yield self._file(class_id)

        return opened()

    def expect(self, class_ids: npt.NDArray[np.int64], images: npt.NDArray[np.int64]) -> None:
        """Fetch what is not here yet, of many classes at once: most of the time is waiting."""
        wanted = {int(k): images[class_ids == k] for k in np.unique(class_ids)}
        with ThreadPoolExecutor(min(CLASSES_AT_ONCE, max(1, len(wanted)))) as pool:
            list(pool.map(self.read, wanted.keys(), wanted.values()))

    def read(self, class_id: int, images: npt.NDArray[np.int64]) -> list[tuple[bytes, int | None]]:
        """As of records of this machine; a file that fails is fetched once more."""
        try:
            return super().read(class_id, images)
        except InputError:
            if class_id not in self._known:  # it was not there at all
                raise
            self._known.pop(class_id).forget()
            return super().read(class_id, images)

    def _look_up(
        self, class_id: int, file: OpenFile, images: npt.NDArray[np.int64]
    ) -> Spans | None:
        found = super()._look_up(class_id, file, images)
        # A file of a block is read whole in any case, which tells as much.
        if found is None and file.size > BLOCK and self._take_index(class_id, file):
            found = super()._look_up(class_id, file, images)
        return found

    def _take_index(self, class_id: int, file: OpenFile) -> bool:
        """Take over the index that lies beside the remote records; whether there is one that fits.

        Times do not survive a copy, so it is held against the size of the file; each record's
        checksums tell the rest.
        """
        path = f"{self._source}/{INDEX_FOLDER}/{class_id}.offsets"
        content = self._remote.fetch_all([path]).get(path, b"")
        if len(content) < INDEX_HEADER.size:
            return False
        magic, size, _, count = INDEX_HEADER.unpack_from(content)
        whole = len(content) == INDEX_HEADER.size + 8 * (count + 1)
        fits = (magic, size, count) == (
            INDEX_MAGIC,
            file.size,
            self.spec.images_per_class[class_id],
        )
        if not (whole and fits):
            return False
        offsets = np.frombuffer(content, "<u8", offset=INDEX_HEADER.size)
        if int(offsets[-1]) != size:
            return False
        self._store(offsets, file, class_id)
        return True

    def class_bytes(self, class_id: int) -> float:
        """Bytes of the images of a class."""
        if self._sizes is not None:
            return self._sizes[self.spec.class_file(class_id).name]
        return self._file(class_id).size

    def stamp(self, class_id: int) -> tuple[int, int]:
        """As of records of this machine."""
        file = self._file(class_id)
        return self._stamps.setdefault(class_id, (file.size, file.changed))

    def fingerprint(self) -> str:
        """As of records of this machine; files are told apart by size and tag."""
        digest = hashlib.sha256((self.spec.folder / SPEC_FILE).read_bytes())
        for class_id in self.spec.split_classes[self.split]:
            digest.update(self.stamp(class_id)[1].to_bytes(8, "little"))
        return digest.hexdigest()[:16]
