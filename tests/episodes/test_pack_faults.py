"""Packs on disks and in folders that refuse them."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes import ImageReader
from episodes.faults import InputError
from episodes.packing import pack_split
from episodes.packs import PAGE, pack_folder

SIZE = 31


@pytest.fixture
def records(miniature, tmp_path, monkeypatch):
    """Records of one source that a test may change."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "records"
    shutil.copytree(miniature / "dtd", folder / "dtd", ignore=shutil.ignore_patterns(".*"))
    return folder


def open_reader(records, source="dtd"):
    return ImageReader(records, source, "test", SIZE, "official_rounded")


def pack(records, source="dtd"):
    reader = open_reader(records, source)
    folder = pack_folder(reader.spec, None)
    return pack_split(reader.encoded, reader.split, reader.rule, reader.size, folder)


@pytest.mark.parametrize("size", [84, 10**8])
def test_a_pack_that_no_disk_holds(records, tmp_path, size, monkeypatch):
    reader = ImageReader(records, "dtd", "test", size)
    if size == 84:  # more than the disk has, less than a file may have

        def refuse(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(InputError, match=r"the disk has no room for .* Free .* GB, or name"):
        pack_split(reader.encoded, reader.split, reader.rule, size, tmp_path / "packs")
    assert not list((tmp_path / "packs").iterdir())


def test_a_folder_that_cannot_be_written_needs_no_room(records, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(InputError, match=r"Read-only file system\. Name a folder") as fault:
        pack(records)
    assert "Free" not in str(fault.value)


def test_a_pack_that_is_cut_while_open_is_an_error(records):
    done = pack(records)
    reader = open_reader(records)
    class_ids = np.asarray(reader.spec.split_classes[reader.split])
    os.truncate(done.path, PAGE)
    with pytest.raises(InputError, match="cut while it was open"):
        reader.read(class_ids, np.zeros_like(class_ids))


def test_a_pack_that_may_not_be_looked_at_is_said_and_left(records, monkeypatch):
    pack(records)
    real = Path.stat

    def refuse(path, **options):
        if path.suffix == ".pack":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    reader = open_reader(records)
    assert reader.pack is None and "Permission denied" in reader.unpacked_because


def test_two_names_of_one_folder_have_two_packs(tmp_path, miniature):
    folder = tmp_path / "images"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for k in range(2):
            Image.new("RGB", (9, 9), (k, 0, 0)).save(folder / name / f"{k}.png")
    (folder / "splits.json").write_text('{"train": [], "valid": [], "test": ["a", "b"]}')
    sources = [f"{name}={folder}" for name in ("one", "other")]
    for source in sources:
        pack(tmp_path, source)
    readers = [open_reader(tmp_path, source) for source in sources]
    assert all(reader.pack is not None for reader in readers)
