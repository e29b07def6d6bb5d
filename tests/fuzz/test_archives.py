"""Mutated archives of raw downloads, and pickles that are read as data."""

import io
import pickle
import tarfile
import zipfile

import pytest

from episodes import InputError
from episodes.convert.archive import list_archive
from episodes.convert.pickled import read_pickled
from episodes.convert.raw import read_raw
from tests.fuzz.mutation import mutate_bytes, put, survive

FILES = {"a/one.jpg": b"1" * 700, "a/two.jpg": bytes(range(256)) * 3, "list.txt": b""}


def tar(mode):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as archive:
        for name, content in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def zipped():
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return sink.getvalue()


ARCHIVES = {"a.tar": (tar("w"), 400), "a.tgz": (tar("w:gz"), 200), "a.zip": (zipped(), 1000)}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(tmp_path, monkeypatch, name):
    whole, count = ARCHIVES[name]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def read(content):
        for file in list_archive(put(tmp_path / name, content)):
            assert ".." not in file.name.split("/") and not file.name.startswith("/")
            read_raw(file)

    survive(name, count, lambda draw: mutate_bytes(whole, draw), read)


@pytest.mark.filterwarnings("ignore:invalid escape:DeprecationWarning")  # pickletools
def test_pickles():
    whole = [pickle.dumps({b"data": b"x" * 40, b"labels": [1, 2, 3]}, p) for p in range(5)]

    def read(content):
        try:
            read_pickled(content)
        except ValueError as error:  # its caller says where
            raise InputError(str(error)) from error

    survive("pickles", 3000, lambda draw: mutate_bytes(draw.choice(whole), draw), read)
