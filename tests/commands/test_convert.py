"""`convert` as a user sees it: what it prints, what it refuses, its exit status."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tyro
from rich.console import Console

from commands.convert import Command, run
from episodes import InputError, load_spec
from episodes.folder import FolderImages
from episodes.records import Records
from tests.episodes.convert.raw_data import draw_image, encoded
from tests.episodes.convert.raw_folders import make_dtd, make_traffic_sign
from tests.episodes.convert.raw_lists import make_mscoco

PROJECT = Path(__file__).parents[2]


def run_convert(*arguments):
    console = Console(file=io.StringIO(), width=300, force_terminal=False)
    flags = [str(argument) for argument in arguments]
    status = run(tyro.cli(Command, args=[*flags, "--jobs", "1"]), console)
    return status, console.file.getvalue()


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """One folder with several sources in it, one of them still an archive."""
    folder = tmp_path_factory.mktemp("raw")
    make_traffic_sign().write(folder)
    make_dtd().pack(folder / "downloads")
    return folder


def test_one_source(raw, tmp_path):
    status, text = run_convert("dtd", "--raw", raw, "--records", tmp_path, "--verify")
    assert status == 0
    assert "dtd: 47 classes, 141 images, 0.00 GB, 141 written now" in text
    assert "note  not the full benchmark: 141 of 5640 images, 47 of 47 classes, with oth" in text
    assert "dtd: verified, no faults." in text
    again = run_convert("dtd", "--raw", raw, "--records", tmp_path)[1]
    assert "141 images, 0.00 GB, all there already" in again


def test_all_that_is_there(raw, tmp_path):
    status, text = run_convert("all", "--raw", raw, "--records", tmp_path)
    assert status == 0
    assert "traffic_sign: 43 classes, 430 images" in text and "dtd: 47 classes" in text
    assert {path.name for path in tmp_path.iterdir()} == {"splits", "traffic_sign", "dtd"}


def test_one_that_is_broken_does_not_keep_the_others(raw, tmp_path):
    shutil.copytree(raw, tmp_path / "raw")
    path = tmp_path / "raw/downloads/dtd-r1.0.1.tar.gz"
    os.truncate(path, path.stat().st_size // 2)
    status, text = run_convert("all", "--raw", tmp_path / "raw", "--records", tmp_path / "records")
    assert status == 2
    assert f"error {path}: is not a whole archive" in text
    assert "traffic_sign: 43 classes, 430 images" in text


def test_verify_finds_what_was_damaged(raw, tmp_path):
    run_convert("dtd", "--raw", raw, "--records", tmp_path)
    path = tmp_path / "dtd/3.tfrecords"
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    status, text = run_convert("dtd", "--raw", raw, "--records", tmp_path, "--verify")
    assert status == 1 and "3.tfrecords" in text and "dtd: verified, 1 faults." in text


def test_what_is_left_out_is_listed(tmp_path):
    raw = make_mscoco().write(tmp_path / "raw")
    status, text = run_convert("mscoco", "--raw", raw, "--records", tmp_path / "records")
    report = tmp_path / "records/mscoco/conversion.json"
    assert status == 0
    assert f"12 images are left out, as in the benchmark: {report}" in text
    assert text.count("holds no pixel") == 12 == len(json.loads(report.read_text())["skipped"])


def test_splits_only(raw, tmp_path, capsys):
    status, _ = run_convert("dtd", "--raw", raw, "--splits-only", "--records", tmp_path / "records")
    assert status == 0
    assert json.loads(capsys.readouterr().out) == make_dtd().splits
    assert list(tmp_path.iterdir()) == []
    own = {"train": ["waffled"], "valid": [], "test": ["banded"]}
    (tmp_path / "own.json").write_text(json.dumps(own))
    run_convert("dtd", "--raw", raw, "--splits-only", "--splits", tmp_path / "own.json")
    assert json.loads(capsys.readouterr().out) == own


def test_splits_of_several(raw, capsys):
    run_convert("all", "--raw", raw, "--splits-only")
    assert list(json.loads(capsys.readouterr().out)) == ["dtd", "traffic_sign"]


def test_a_split_is_printed_by_the_program(raw):
    command = [PROJECT / "run_meta_dataset.py", "convert", "dtd", "--raw", raw, "--splits-only"]
    done = subprocess.run(
        [sys.executable, *map(str, command)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == make_dtd().splits


def test_own_images(tmp_path):
    """The records hold what is read from the folder without conversion, in the same order."""
    for name, count in (("b c", 3), ("a.b", 12), ("ü", 2)):
        (tmp_path / "own" / name).mkdir(parents=True)
        for k in range(count):
            (tmp_path / "own" / name / f"{k}.jpg").write_bytes(encoded(draw_image(k)))
    status, _ = run_convert(f"mine={tmp_path / 'own'}", "--records", tmp_path / "records")
    spec = load_spec(tmp_path / "records/mine")
    direct = FolderImages("mine", tmp_path / "own")
    assert status == 0
    assert spec.fingerprint == direct.spec.fingerprint
    for split, ids in spec.split_classes.items():
        for class_id in ids:
            numbers = np.arange(spec.images_per_class[class_id])
            read = Records(spec, split).read(class_id, numbers)
            assert [one for one, _ in read] == [one for one, _ in direct.read(class_id, numbers)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no source is named"),
        (["birds"], "unknown source 'birds'. Did you mean 'cu_birds'"),
        (["dtd"], "where the raw data of dtd lie is not said"),
        (["dtd", "--raw", "/nowhere/at/all"], "/nowhere/at/all: there is no such folder"),
        (["all", "--raw", "{empty}"], "holds the raw data of no source"),
        (["dtd", "--raw", "{raw}"], "where to write is not said"),
        (["dtd", "--raw", "{raw}", "--splits", "gone.json"], "gone.json: there is no such file"),
        (["dtd", "all", "--raw", "{raw}", "--splits", "{file}"], "the split of one source, and"),
    ],
)
def test_refusals(arguments, message, raw, tmp_path):
    (tmp_path / "own.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    places = {"raw": raw, "empty": tmp_path / "empty", "file": tmp_path / "own.json"}
    arguments = [argument.format(**places) for argument in arguments]
    with pytest.raises(InputError) as caught:
        run_convert(*arguments)
    assert message in str(caught.value)
    assert caught.value.remedy
