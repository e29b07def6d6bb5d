"""Conversions that are killed, repeated, forced, or meet what they must not touch."""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from episodes import InputError, load_spec
from episodes.convert import open_raw
from episodes.convert.conversion import convert
from episodes.convert.source import Options
from tests.episodes.convert.raw_folders import make_dtd, make_omniglot, make_traffic_sign
from tests.episodes.convert.raw_lists import make_mscoco, make_quickdraw

PROJECT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def signs(tmp_path_factory):
    return make_traffic_sign().write(tmp_path_factory.mktemp("signs"))


def run(source, raw, records, **options):
    chosen = Options(options.pop("duplicates", ()))
    return convert(open_raw(source, raw, records, chosen), **options)


def digests(records):
    """Path and hash of every file below a folder."""
    return {
        str(path.relative_to(records)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(records.rglob("*"))
        if path.is_file()
    }


def start(source, raw, records, jobs=2):
    command = [PROJECT / "run_meta_dataset.py", "convert", source, "--raw", raw]
    command += ["--records", records, "--jobs", jobs]
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(("jobs", "when"), [(2, 3), (1, 20), (2, 40)])
def test_killed_and_resumed(jobs, when, tmp_path):
    """Killed at once, with its workers, after some class files; nothing tells in the end."""
    raw = make_quickdraw().write(tmp_path / "raw")
    for path in sorted(raw.glob("quickdraw/*.npy"))[:60]:  # these take a while
        path.write_bytes(_longer(path.read_bytes(), 300))
    whole = run("quickdraw", raw, tmp_path / "whole", jobs=1)
    folder = tmp_path / "killed" / "quickdraw"
    process = start("quickdraw", raw, tmp_path / "killed", jobs)
    while len(list(folder.glob("*.tfrecords"))) < when and process.poll() is None:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = digests(folder)
    assert when <= len(list(folder.glob("*.tfrecords"))) < 345
    assert "dataset_spec.json" not in kept
    resumed = run("quickdraw", raw, tmp_path / "killed")
    assert 0 < resumed.written < whole.written == whole.images == resumed.images
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    assert {k: v for k, v in digests(folder).items() if "tfrecords" in k}.items() >= {
        k: v for k, v in kept.items() if k.endswith(".tfrecords")
    }.items()


def _longer(content, times):
    import io

    import numpy as np

    stream = io.BytesIO()
    np.save(stream, np.tile(np.load(io.BytesIO(content), allow_pickle=False), (times, 1)))
    return stream.getvalue()


@pytest.mark.parametrize("place", [".parts/*.crops", "*.tfrecords"])
def test_killed_in_both_stages_of_crops(place, tmp_path):
    raw = make_mscoco().write(tmp_path / "raw")
    run("mscoco", raw, tmp_path / "whole", jobs=1)
    folder = tmp_path / "killed" / "mscoco"
    process = start("mscoco", raw, tmp_path / "killed", jobs=1)
    while len(list(folder.glob(place))) < 7 and process.poll() is None:
        time.sleep(0.0005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "dataset_spec.json").exists()
    run("mscoco", raw, tmp_path / "killed", jobs=2)
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


@pytest.mark.parametrize("place", ["shutil.rmtree", "episodes.convert.journal.write_json"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_killed_at_the_very_end(place, call, tmp_path, monkeypatch):
    """Crops that were skipped are told by parts, which must not go before their list is safe."""
    raw = make_mscoco().write(tmp_path / "raw")
    whole = run("mscoco", raw, tmp_path / "whole")
    module, name = place.rsplit(".", 1)
    real, calls = getattr(sys.modules[module], name), []

    def killed(*arguments, **options):
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(sys.modules[module], name, killed)
    with contextlib.suppress(KeyboardInterrupt):
        run("mscoco", raw, tmp_path / "killed")
    monkeypatch.undo()
    assert run("mscoco", raw, tmp_path / "killed").skipped == whole.skipped != ()
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_workers_leave_with_a_killed_parent(tmp_path):
    raw = make_quickdraw().write(tmp_path / "raw")
    for path in sorted(raw.glob("quickdraw/*.npy"))[:60]:
        path.write_bytes(_longer(path.read_bytes(), 300))
    process = start("quickdraw", raw, tmp_path / "records")
    while not list((tmp_path / "records").glob("quickdraw/*.tfrecords")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(200):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError("workers outlived their parent by twenty seconds")


def test_a_finished_conversion_is_left_alone(signs, tmp_path):
    first = run("traffic_sign", signs, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    again = run("traffic_sign", signs, tmp_path, jobs=2)
    assert (first.written, again.written, again.images) == (430, 0, 430)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


def test_a_lost_file_is_made_again(signs, tmp_path):
    run("traffic_sign", signs, tmp_path)
    before = digests(tmp_path)
    (tmp_path / "traffic_sign/7.tfrecords").unlink()
    (tmp_path / "traffic_sign/8.tfrecords").write_bytes(b"cut off")
    assert run("traffic_sign", signs, tmp_path).written == 20
    assert digests(tmp_path) == before


def test_foreign_records_are_not_touched(signs, miniature, tmp_path):
    shutil.copytree(miniature / "traffic_sign", tmp_path / "traffic_sign")
    before = digests(tmp_path)
    with pytest.raises(InputError, match=r"holds records that were not converted here\..*--force"):
        run("traffic_sign", signs, tmp_path)
    assert digests(tmp_path) == before
    (tmp_path / "traffic_sign/mine.txt").write_text("kept")
    assert run("traffic_sign", signs, tmp_path, force=True).written == 430
    run("traffic_sign", signs, tmp_path / "fresh")
    forced = digests(tmp_path / "traffic_sign")
    assert forced.pop("mine.txt")
    assert forced == digests(tmp_path / "fresh/traffic_sign")


def test_another_conversion_is_not_mixed_in(tmp_path):
    raw = make_dtd().write(tmp_path / "raw")
    run("dtd", raw, tmp_path / "records")
    before = digests(tmp_path / "records")
    folder = raw / "dtd/dtd/images/banded"
    shutil.copy(folder / "banded_0001.jpg", folder / "banded_0002.jpg")
    with pytest.raises(InputError, match="holds another conversion of this source: other images"):
        run("dtd", raw, tmp_path / "records")
    assert digests(tmp_path / "records") == before


def test_two_at_once_do_not_meet(signs, tmp_path):
    import fcntl

    (tmp_path / "traffic_sign").mkdir()
    handle = os.open(tmp_path / "traffic_sign", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(InputError, match="another process is converting into this folder"):
        run("traffic_sign", signs, tmp_path)
    os.close(handle)
    assert run("traffic_sign", signs, tmp_path).written == 430


def test_a_disk_that_fills_up(tmp_path):
    """A real process that may write no file beyond 64 KB, as if the disk were full."""
    raw = make_quickdraw().write(tmp_path / "raw")
    path = raw / "quickdraw/thing 7.npy"
    path.write_bytes(_longer(path.read_bytes(), 100))
    command = [PROJECT / "run_meta_dataset.py", "convert", "quickdraw", "--raw", raw]
    command += ["--records", tmp_path / "records", "--jobs", 1]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)),
    )
    assert done.returncode == 2
    assert "the records cannot be written: File too large" in done.stderr
    assert "the same command goes on" in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "records/quickdraw").glob(".writing-*"))
    run("quickdraw", raw, tmp_path / "records")
    run("quickdraw", raw, tmp_path / "whole")
    assert digests(tmp_path / "records") == digests(tmp_path / "whole")


def test_room_is_looked_for_first(signs, tmp_path, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(InputError, match=r"needs about 0\.\d MB, and 0\.0 MB are free"):
        run("traffic_sign", signs, tmp_path)
    assert not list(tmp_path.rglob("*.tfrecords"))


def test_progress_ends_at_its_total(signs, tmp_path):
    seen = []
    run("traffic_sign", signs, tmp_path, jobs=2, progress=lambda *numbers: seen.append(numbers))
    assert seen[0] == (0, 430, 0) and seen[-1] == (430, 430, 430)
    assert seen == sorted(seen)


# ---- splits ----------------------------------------------------------------------------------


def test_own_splits_are_honoured(tmp_path):
    made = make_dtd()
    raw = made.write(tmp_path / "raw")
    own = {"train": ["waffled", "banded"], "valid": [], "test": ["texture 03.x"]}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(own))
    done = run("dtd", raw, tmp_path / "records", own_splits=path)
    assert done.classes == 3
    assert any("mine.json, which leaves 44 classes out" in note for note in done.notes)
    assert load_spec(done.folder).class_names == ("waffled", "banded", "texture 03.x")
    kept = json.loads((tmp_path / "records/splits/dtd_splits.json").read_text())
    assert kept == own
    # a file beside the records counts too, as for the official converters
    assert run("dtd", raw, tmp_path / "records").written == 0


def test_own_splits_of_part_of_the_raw_data(tmp_path):
    raw = make_dtd().write(tmp_path / "raw")
    shutil.rmtree(raw / "dtd/dtd/images/texture 01.x")
    with pytest.raises(InputError, match="46 classes of dtd are there, not 47"):
        run("dtd", raw, tmp_path / "records")
    own = {"train": ["banded"], "valid": ["dotted"], "test": ["waffled"]}
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/dtd_splits.json").write_text(json.dumps(own))
    assert run("dtd", raw, tmp_path / "records", own_splits=tmp_path / "splits").classes == 3


def test_a_folder_of_splits_that_has_none_of_this_source_is_said(signs, tmp_path):
    (tmp_path / "splits").mkdir()
    done = run("traffic_sign", signs, tmp_path / "records", own_splits=tmp_path / "splits")
    assert any("splits has no traffic_sign_splits.json" in n for n in done.notes)


def test_the_split_of_a_hierarchy_may_be_given_but_not_changed(tmp_path):
    raw = make_omniglot().write(tmp_path / "raw")
    first = run("omniglot", raw, tmp_path / "records")
    folder = tmp_path / "records/splits"
    again = run("omniglot", raw, tmp_path / "again", own_splits=folder)
    assert again.classes == first.classes and again.notes == first.notes
    changed = json.loads((folder / "omniglot_splits.json").read_text())
    changed["train"], changed["valid"] = changed["valid"], changed["train"]
    (tmp_path / "mine.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="the split of omniglot follows from its hierarchy"):
        run("omniglot", raw, tmp_path / "third", own_splits=tmp_path / "mine.json")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"train": ["banded", "banded"], "valid": [], "test": []}, "1 classes are named twice"),
        ({"train": ["plain"], "valid": [], "test": []}, "1 classes are not in the raw data: plain"),
        ({"train": ["banded"], "test": []}, "does not list the classes"),
        ({"train": 3, "valid": [], "test": []}, "does not list the classes"),
        ({"train": "banded", "valid": [], "test": []}, "does not list class names"),
        ({"train": {"banded": 1}, "valid": [], "test": []}, "does not list class names"),
        ({"train": [1], "valid": [], "test": []}, "does not list class names"),
        ({"train": [["banded"]], "valid": [], "test": []}, "does not list class names"),
        (["banded"], "does not list the classes"),
        ('{"train": ["banded"], "train": [], "valid": [], "test": []}', "is there twice"),
        ("train: banded", "does not list the classes"),
        ({"train": [], "valid": [], "test": []}, "does not list class names"),
    ],
)
def test_broken_splits(own, message, tmp_path):
    raw = make_dtd().write(tmp_path / "raw")
    (tmp_path / "mine.json").write_text(own if isinstance(own, str) else json.dumps(own))
    with pytest.raises(InputError, match=message):
        run("dtd", raw, tmp_path / "records", own_splits=tmp_path / "mine.json")
    assert not (tmp_path / "records").exists()
