"""Rows of features on disk: two writers, kills, damage, full disks."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from episodes.faults import InputError
from fewshot.feature_file import FeatureFile

MAKING = {"backbone": "resnet18 abc", "source": "dtd"}
PROJECT = Path(__file__).resolve().parents[2]
IMAGES, DIM = 4000, 64
WRITER = """
import sys, numpy as np
from pathlib import Path
from tests.fewshot.test_feature_file import feature, open_file
file = open_file(Path(sys.argv[1]))
order = np.random.default_rng(int(sys.argv[2])).permutation(4000)
print("ready", flush=True)
for start in range(0, 4000, 16):
    places = order[start : start + 16]
    file.write(places, feature(places))
"""


def feature(places):
    """The features of an image are a function of its number."""
    return np.sin(np.outer(np.asarray(places) + 1.0, np.arange(1, DIM + 1))).astype(np.float32)


def open_file(path, **change):
    making = MAKING | change
    return FeatureFile(path, making, IMAGES, DIM, "float32")


def start_writer(path, seed):
    command = [sys.executable, "-c", WRITER, str(path), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)


def finish(process):
    process.communicate(timeout=120)
    return process.returncode


def test_a_file_without_a_name_works_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = open_file(None)
    file.write(np.array([3]), feature([3]))
    assert np.array_equal(file.read(np.array([3])), feature([3]))
    assert not list(tmp_path.iterdir())


def test_rows_come_back_in_any_order(tmp_path):
    file = open_file(tmp_path / "deep" / "a.features")
    places = np.array([7, 3, 3999, 0])
    assert not file.has(places).any()
    file.write(places[:3], feature(places[:3]))
    assert file.has(places).tolist() == [True, True, True, False]
    assert np.array_equal(file.read(places[[2, 0]]), feature([3999, 7]))
    with pytest.raises(KeyError, match="embed"):
        file.read(places)
    again = open_file(tmp_path / "deep" / "a.features")
    assert np.array_equal(again.read(places[:3]), feature(places[:3]))


def test_the_file_takes_the_space_of_its_rows(tmp_path):
    file = open_file(tmp_path / "a.features")
    file.write(np.arange(10), feature(np.arange(10)))
    status = (tmp_path / "a.features").stat()
    assert status.st_size > IMAGES * DIM * 4 > 8 * 512 * status.st_blocks / 8


def test_a_row_that_was_damaged_is_missing_and_written_again(tmp_path):
    file = open_file(tmp_path / "a.features")
    places = np.arange(20)
    file.write(places, feature(places))
    content = bytearray((tmp_path / "a.features").read_bytes())
    at = content.index(feature([5])[0].tobytes())
    content[at + 9] ^= 4
    (tmp_path / "a.features").write_bytes(content)
    again = open_file(tmp_path / "a.features")
    assert np.flatnonzero(~again.has(places)).tolist() == [5]
    again.write(places[5:6], feature([5]))
    assert open_file(tmp_path / "a.features").has(places).all()


def test_a_row_in_another_place_is_missing(tmp_path):
    file = open_file(tmp_path / "a.features")
    file.write(np.array([1]), feature([1]))
    content = bytearray((tmp_path / "a.features").read_bytes())
    at, size = content.index(feature([1])[0].tobytes()), DIM * 4 + 8
    content[at + size : at + 2 * size] = content[at : at + size]
    (tmp_path / "a.features").write_bytes(content)
    assert open_file(tmp_path / "a.features").has(np.array([1, 2])).tolist() == [True, False]


def test_another_making_is_refused(tmp_path):
    open_file(tmp_path / "a.features")
    with pytest.raises(InputError, match=r"holds other features\. Remove it"):
        open_file(tmp_path / "a.features", backbone="resnet18 abd")
    (tmp_path / "a.features").write_bytes(b"short")
    with pytest.raises(InputError, match="is damaged"):
        open_file(tmp_path / "a.features")


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_stops_with_a_message_and_spoils_no_row(small_disk):
    path = small_disk / "a.features"
    file, done = open_file(path), 0
    with pytest.raises(InputError, match="disk is full"):
        for start in range(0, IMAGES, 16):
            places = np.arange(start, start + 16)
            file.write(places, feature(places))
            done = start + 16
    again, places = open_file(path), np.arange(IMAGES)
    there = places[again.has(places)]
    assert 0 < done <= len(there) < IMAGES
    assert np.array_equal(again.read(there), feature(there))


def test_two_writers_at_once_agree(tmp_path):
    path = tmp_path / "a.features"
    writers = [start_writer(path, seed) for seed in (1, 2)]
    assert [finish(writer) for writer in writers] == [0, 0]
    places = np.arange(IMAGES)
    file = open_file(path)
    assert file.has(places).all()
    assert np.array_equal(file.read(places), feature(places))
    assert not [p for p in tmp_path.iterdir() if p != path]


def test_a_killed_writer_leaves_whole_rows_and_another_finishes(tmp_path):
    path = tmp_path / "a.features"
    writer = start_writer(path, 1)
    assert writer.stdout.readline() == "ready\n"
    time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    file, places = open_file(path), np.arange(IMAGES)
    there = places[file.has(places)]
    assert np.array_equal(file.read(there), feature(there))
    assert finish(start_writer(path, 2)) == 0
    assert np.array_equal(open_file(path).read(places), feature(places))


def test_rows_of_another_process_are_seen(tmp_path):
    path, places = tmp_path / "a.features", np.arange(IMAGES)
    reader = open_file(path)
    assert not reader.has(places).any()
    assert finish(start_writer(path, 1)) == 0
    assert np.array_equal(reader.read(places), feature(places))


def test_half_precision_has_a_range(tmp_path):
    file = FeatureFile(tmp_path / "h.features", MAKING, 4, 2, "float16")
    file.write(np.array([2]), np.array([[1.0, 60000.0]]))
    assert file.read(np.array([2])).dtype == np.float32
    with pytest.raises(InputError, match="exceeds the range of float16"):
        file.write(np.array([1]), np.array([[1.0, 70000.0]]))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="hoose another --features"):
        open_file(tmp_path / "file" / "a.features")
