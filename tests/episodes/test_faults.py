"""What the disk refuses is one message: where, why, what to do."""

import errno
import os
import pickle

import pytest

from episodes import InputError
from episodes.convert.archive import list_archive
from episodes.faults import writing
from tests.episodes.convert.raw_data import pack


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "x: the rows cannot be written: the disk is full. Free some space, or go."),
        (errno.EDQUOT, "x: the rows cannot be written: the disk is full. Free some space, or go."),
        (
            errno.EROFS,
            "x: the rows cannot be written: Read-only file system. "
            "Check the folder and its permissions, or go.",
        ),
    ],
)
def test_what_the_disk_refuses(number, message):
    with pytest.raises(InputError) as caught, writing("x", "go", "the rows"):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == message
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_the_place_may_tell_what_is_written(tmp_path):
    path = tmp_path / "none/x"
    with pytest.raises(InputError, match=r"/none/x: cannot be written: No such"), writing(path, ""):
        path.write_text("")


def test_other_errors_pass():
    with pytest.raises(InputError, match=r"^damaged$"), writing("x", "go"):
        raise InputError("damaged")
    with pytest.raises(KeyError), writing("x", "go"):
        raise KeyError("x")


def test_a_cache_without_room_is_not_the_archives_fault(tmp_path, monkeypatch):
    (tmp_path / "a.tgz").write_bytes(pack(".tgz", {"x": b"x"}))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"file/.*cannot be written.*set XDG_CACHE_HOME"):
        list_archive(tmp_path / "a.tgz")
