"""Indexes of record files: used, refreshed, never trusted against the file."""

import errno
import os
import shutil
import threading

import numpy as np
import pytest

from episodes import records as records_module
from episodes.faults import InputError
from episodes.protocol import Split
from episodes.records import INDEX_FOLDER, Records
from episodes.spec import load_spec
from episodes.tfrecord import encode_example, scan_offsets, write_records


@pytest.fixture
def source(miniature, tmp_path, monkeypatch):
    """A source of its own for each test, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "dtd"
    shutil.copytree(miniature / "dtd", folder, ignore=shutil.ignore_patterns(".*"))
    return load_spec(folder)


@pytest.fixture
def first(source):
    """The first class of the test split: its id, file and images."""
    class_id = source.split_classes[Split.TEST].start
    path = source.class_file(class_id)
    return class_id, path, source.images_per_class[class_id]


def everything(source, class_id):
    count = source.images_per_class[class_id]
    return Records(source, Split.TEST).read(class_id, np.arange(count))


def rewrite(path, class_id, count, prefix):
    examples = (encode_example(prefix + b"%d" % i, class_id) for i in range(count))
    write_records(path, examples)


def test_any_order_repetition_and_distance(source, first):
    class_id, _, count = first
    whole = everything(source, class_id)
    order = np.random.RandomState(0).randint(0, count, 50)
    found = Records(source, Split.TEST).read(class_id, order)
    assert found == [whole[i] for i in order]
    assert Records(source, Split.TEST).read(class_id, order[:0]) == []


def test_far_records_are_read_apart_and_near_ones_together(source, first, monkeypatch):
    class_id, path, count = first
    rewrite(path, class_id, count, b"x" * 100_000)
    whole = everything(source, class_id)
    read, reads = os.pread, []
    monkeypatch.setattr(os, "pread", lambda *a: reads.append(a[1]) or read(*a))
    assert Records(source, Split.TEST).read(class_id, np.asarray([4, 0])) == [whole[4], whole[0]]
    assert len(reads) == 2 and max(reads) < 101_000
    reads.clear()
    assert Records(source, Split.TEST).read(class_id, np.asarray([1, 0])) == [whole[1], whole[0]]
    assert len(reads) == 1


def test_an_index_is_written_once_and_used(source, first, monkeypatch):
    class_id, path, _ = first
    before = everything(source, class_id)
    assert (path.parent / INDEX_FOLDER / f"{class_id}.offsets").is_file()
    monkeypatch.setattr(records_module, "scan_file", lambda *_: pytest.fail("scanned again"))
    assert everything(source, class_id) == before


def test_a_replaced_file_is_never_read_by_the_old_index(source, first):
    class_id, path, count = first
    everything(source, class_id)
    rewrite(path, class_id, count, b"another ")
    assert everything(source, class_id)[1][0] == b"another 1"


def test_nor_one_of_the_same_size_and_time(source, first):
    class_id, path, count = first
    rewrite(path, class_id, count, b"")
    stamp = path.stat()
    images = [b"%d" % i for i in range(count)]
    assert [image for image, _ in everything(source, class_id)] == images
    images = sorted(images, key=len, reverse=True)  # the same bytes in all, other offsets
    write_records(path, [encode_example(image, class_id) for image in images])
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert path.stat().st_size == stamp.st_size
    assert [image for image, _ in everything(source, class_id)] == images


def test_a_file_replaced_while_it_is_open(source, first, monkeypatch):
    """What was opened is read to the end, and its index is not that of the other file."""
    class_id, path, count = first
    before, scan = everything(source, class_id), records_module.scan_file
    shutil.rmtree(path.parent / INDEX_FOLDER)

    def replaced(handle, of):
        rewrite(path, class_id, count, b"the other ")
        monkeypatch.setattr(records_module, "scan_file", scan)
        return scan(handle, of)

    monkeypatch.setattr(records_module, "scan_file", replaced)
    assert everything(source, class_id) == before
    assert everything(source, class_id)[0][0] == b"the other 0"


def test_a_damaged_index_never_changes_what_is_read(source, first):
    class_id, path, _ = first
    before = everything(source, class_id)
    index = path.parent / INDEX_FOLDER / f"{class_id}.offsets"
    whole = index.read_bytes()
    rng = np.random.RandomState(0)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.randint(len(whole))] ^= 1 << rng.randint(8)
        index.write_bytes(damaged)
        assert everything(source, class_id) == before
    for length in [*range(0, 60), len(whole) - 1]:
        index.write_bytes(whole[:length])
        assert everything(source, class_id) == before
    assert index.read_bytes() == whole


def test_a_cut_file_is_noticed_with_and_without_an_index(source, first):
    class_id, path, count = first
    rewrite(path, class_id, count, b"")
    content = path.read_bytes()
    everything(source, class_id)
    last = scan_offsets(path)[-2]
    stamp = path.stat()
    for length in range(last, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"truncated|records, but dataset_spec"):
            everything(source, class_id)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        with pytest.raises(InputError, match=r"truncated|records, but dataset_spec"):
            everything(source, class_id)


def test_flipped_bits_behind_an_index_are_noticed(source, first):
    class_id, path, count = first
    rewrite(path, class_id, count, b"")
    everything(source, class_id)
    stamp, content = path.stat(), path.read_bytes()
    for position in range(scan_offsets(path)[2]):
        damaged = bytearray(content)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        with pytest.raises(InputError):
            everything(source, class_id)


def test_read_only_records_are_indexed_in_the_cache(source, first, tmp_path, monkeypatch):
    class_id, path, _ = first
    real = records_module.replacing

    def refuse(place):
        if place.is_relative_to(path.parent):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(place)

    monkeypatch.setattr(records_module, "replacing", refuse)
    before = everything(source, class_id)
    assert not (path.parent / INDEX_FOLDER).exists()
    assert [p.name for p in (tmp_path / "cache").rglob("*.offsets")] == [f"{class_id}.offsets"]
    monkeypatch.setattr(records_module, "scan_file", lambda *_: pytest.fail("scanned again"))
    assert everything(source, class_id) == before


def test_records_that_fill_their_disk_are_indexed_in_the_cache(
    source, first, tmp_path, monkeypatch
):
    real = records_module.replacing

    def refuse(place):
        if place.is_relative_to(first[1].parent):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(place)

    monkeypatch.setattr(records_module, "replacing", refuse)
    everything(source, first[0])
    assert len(list((tmp_path / "cache").rglob("*.offsets"))) == 1


def test_a_full_disk_while_indexing_is_one_clear_message(source, first, monkeypatch):
    def refuse(place):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records_module, "replacing", refuse)
    with pytest.raises(
        InputError,
        match=r"the index of the records cannot be written: the disk is full. Free some space",
    ):
        everything(source, first[0])


def test_many_index_at_once(source):
    ids = source.split_classes[Split.TEST]
    start, found = threading.Barrier(4), []

    def read():
        records = Records(source, Split.TEST)
        start.wait()
        records.index()
        found.append([records.read(k, np.arange(3)) for k in ids])

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(one == found[0] for one in found)
    names = {path.name for path in (source.folder / INDEX_FOLDER).iterdir()}
    assert names == {f"{k}.offsets" for k in ids}


def test_indexing_reports_progress_and_faults(source, first):
    seen = []
    Records(source, Split.TEST).index(lambda done, total: seen.append((done, total)))
    total = len(source.split_classes[Split.TEST])
    assert seen == [(done, total) for done in range(1, total + 1)]
    content = first[1].read_bytes()
    first[1].write_bytes(content[:-1])
    with pytest.raises(InputError, match="truncated"):
        Records(source, Split.TEST).index()


def test_a_fingerprint_follows_files_and_specification(source, first):
    _, path, _ = first
    before = Records(source, Split.TEST).fingerprint()
    assert Records(source, Split.TEST).fingerprint() == before
    assert Records(source, Split.TRAIN).fingerprint() != before
    os.utime(path, (1, 1))
    touched = Records(source, Split.TEST).fingerprint()
    assert touched != before
    with (source.folder / "dataset_spec.json").open("a") as file:
        file.write("\n")
    assert Records(source, Split.TEST).fingerprint() not in (before, touched)


def test_a_file_that_changes_after_its_fingerprint_is_not_read(source, first):
    class_id, path, _ = first
    opened = Records(source, Split.TEST)
    free = opened.read(class_id, np.arange(2))
    opened.fingerprint()
    assert opened.read(class_id, np.arange(2)) == free
    os.utime(path, (1, 1))
    opened.fingerprint()  # what was begun stays what it is
    with pytest.raises(InputError, match="has changed since this command began"):
        opened.read(class_id, np.arange(2))
    assert Records(source, Split.TEST).read(class_id, np.arange(2)) == free
