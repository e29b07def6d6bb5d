"""Packs: the same bits as records, resumed after a kill, never wrong when stale or damaged."""

import errno
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from commands import pack as pack_command
from episodes import EpisodeReader, ImageReader
from episodes.faults import InputError
from episodes.images import IMAGE_RULES
from episodes.packing import pack_split
from episodes.packs import PAGE, pack_folder
from episodes.protocol import SOURCES, Split

ROOT = Path(__file__).parents[2]
SIZE = 31


@pytest.fixture
def records(miniature, tmp_path, monkeypatch):
    """Records of two sources that a test may change."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for source in ("dtd", "traffic_sign"):
        ignored = shutil.ignore_patterns(".*")
        shutil.copytree(miniature / source, tmp_path / "records" / source, ignore=ignored)
    return tmp_path / "records"


def pack(records, source="dtd", rule="official_rounded", packs=None, **more):
    reader = ImageReader(records, source, "test", SIZE, rule, packs)
    folder = pack_folder(reader.spec, packs)
    return pack_split(reader.encoded, reader.split, reader.rule, reader.size, folder, **more)


def all_images(reader):
    ids = reader.spec.split_classes[reader.split]
    counts = reader.spec.images_in_split(reader.split)
    class_ids = np.repeat(np.asarray(ids), counts)
    return class_ids, np.concatenate([np.arange(count) for count in counts])


# ---- the same bits -----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", IMAGE_RULES)
@pytest.mark.parametrize("source", SOURCES)
def test_a_pack_gives_the_bits_of_the_records(miniature, tmp_path, source, rule):
    pack(miniature, source, rule, tmp_path)
    unpacked = ImageReader(miniature, source, "test", SIZE, rule)
    packed = ImageReader(miniature, source, "test", SIZE, rule, tmp_path)
    assert packed.pack is not None and unpacked.pack is None
    class_ids, images = all_images(unpacked)
    order = np.random.RandomState(0).permutation(len(images))
    one, other = (r.read(class_ids[order], images[order]) for r in (unpacked, packed))
    assert one.dtype == other.dtype == torch.float32
    assert one.numpy().tobytes() == other.numpy().tobytes()


def test_episodes_from_a_pack(records):
    before = EpisodeReader(records, "dtd", "test", size=SIZE)[3]
    pack(records, rule="official")
    reader = EpisodeReader(records, "dtd", "test", size=SIZE)
    assert reader.images.pack is not None
    after = reader[3]
    assert torch.equal(before.support_images, after.support_images)
    assert torch.equal(before.query_images, after.query_images)


def test_a_rounded_pack_never_stands_in_for_the_official_rule(records):
    pack(records, rule="official_rounded")
    exact = ImageReader(records, "dtd", "test", SIZE, "official")
    assert exact.pack is None and not exact.unpacked_because
    rounded = ImageReader(records, "dtd", "test", SIZE, "official_rounded")
    class_ids, images = all_images(exact)
    levels = [127.5 * (r.read(class_ids, images) + 1.0) for r in (exact, rounded)]
    assert 0.3 < (levels[0] - levels[1]).abs().max() < 0.5001
    assert (levels[1] - levels[1].round()).abs().max() < 1e-4


@pytest.mark.parametrize("rule", IMAGE_RULES)
def test_pixels_do_not_depend_on_threads(records, rule):
    reader = ImageReader(records, "traffic_sign", "test", SIZE, rule)
    class_ids, images = all_images(reader)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(reader.read(class_ids, images))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_a_reader_with_a_pack_travels_to_a_worker(records):
    pack(records)
    reader = ImageReader(records, "dtd", "test", SIZE, "official_rounded")
    copy = pickle.loads(pickle.dumps(reader))
    class_ids, images = all_images(reader)
    assert copy.pack is not None
    assert torch.equal(copy.read(class_ids, images), reader.read(class_ids, images))


def test_images_that_are_not_there(records):
    pack(records)
    reader = ImageReader(records, "dtd", "test", SIZE, "official_rounded")
    last = reader.spec.split_classes[Split.TEST][-1]
    for class_id, image in [(last, 10**6), (last, -1), (0, 0), (last + 1, 0)]:
        with pytest.raises(IndexError):
            reader.read(np.asarray([class_id]), np.asarray([image]))


# ---- stale and damaged packs -------------------------------------------------------------------


def test_a_stale_pack_is_not_read_and_says_why(records):
    path = pack(records).path
    class_file = (
        records
        / "dtd"
        / f"{ImageReader(records, 'dtd', 'test').spec.split_classes[Split.TEST][0]}.tfrecords"
    )
    os.utime(class_file, (1, 1))
    reader = ImageReader(records, "dtd", "test", SIZE, "official_rounded")
    assert reader.pack is None
    assert "the records have changed since" in reader.unpacked_because
    assert str(path) in reader.unpacked_because
    assert pack(records).packed > 0  # packed anew
    assert ImageReader(records, "dtd", "test", SIZE, "official_rounded").pack is not None


def test_a_pack_of_records_converted_again_is_stale(records):
    pack(records)
    spec_file = records / "dtd" / "dataset_spec.json"
    spec = json.loads(spec_file.read_text())
    spec["images_per_class"]["0"] += 1_000_000  # another length of the pack's own header, too
    last = str(len(spec["class_names"]) - 1)
    spec["images_per_class"][last] += 1_000_000
    spec_file.write_text(json.dumps(spec))
    reader = ImageReader(records, "dtd", "test", SIZE, "official_rounded")
    assert reader.pack is None
    assert "the records have changed since" in reader.unpacked_because


def test_other_sizes_rules_splits_and_folders_have_no_pack(records, tmp_path):
    pack(records)
    others = [
        ("test", SIZE + 1, "official_rounded", None),
        ("test", SIZE, "antialiased", None),
        ("valid", SIZE, "official_rounded", None),
        ("test", SIZE, "official_rounded", tmp_path / "elsewhere"),
    ]
    for split, size, rule, packs in others:
        assert ImageReader(records, "dtd", split, size, rule, packs).pack is None


def test_a_truncated_pack_is_noticed_when_opened(records):
    path = pack(records).path
    content = path.read_bytes()
    for length in [0, 1, 15, 16, 17, 200, PAGE, PAGE + 4, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:length])
        reader = ImageReader(records, "dtd", "test", SIZE, "official_rounded")
        assert reader.pack is None and "damaged" in reader.unpacked_because


def test_every_flipped_bit_is_noticed(records):
    done = pack(records)
    reader = ImageReader(records, "dtd", "test", SIZE, "official_rounded")
    class_ids, images = all_images(reader)
    whole, layout = done.path.read_bytes(), reader.pack.layout
    used = [
        *range(len(layout.header)),
        *range(layout.checksums_at, layout.checksums_at + 4 * layout.images),
        *range(layout.images_at, layout.total_bytes),
    ]
    for position in np.random.RandomState(0).choice(used, 120, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(position) % 8
        done.path.write_bytes(damaged)
        reader = ImageReader(records, "dtd", "test", SIZE, "official_rounded")
        if reader.pack is None:
            assert position < len(layout.header)
            continue
        with pytest.raises(InputError, match=r"fails its checksum: .* pack again"):
            reader.read(class_ids, images)


# ---- interruptions -----------------------------------------------------------------------------

SLOWLY = """
import sys, time
from pathlib import Path
from episodes import ImageReader
from episodes.packing import pack_split
from episodes.packs import pack_folder
reader = ImageReader(Path(sys.argv[1]), "dtd", "test", 31, "official_rounded")
def progress(done, total):
    print(done, flush=True)
    time.sleep(0.02)
folder = pack_folder(reader.spec, None)
pack_split(reader.encoded, reader.split, reader.rule, 31, folder, 1, progress)
"""


def start_packing(records):
    return subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(records)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_a_killed_packing_resumes_to_the_same_bytes(records, tmp_path):
    whole = pack(records, packs=tmp_path / "whole")
    process = start_packing(records)
    lines = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert lines[0] == "0\n" and int(lines[3]) > 0
    folder = records / "dtd" / ".packs" / "dtd"
    assert [path.suffix for path in folder.iterdir()] == [".partial"]
    assert ImageReader(records, "dtd", "test", SIZE, "official_rounded").pack is None
    resumed = pack(records)
    assert 0 < resumed.packed <= whole.images - int(lines[3])
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    assert list(folder.iterdir()) == [resumed.path]
    assert pack(records).packed == 0


def test_interruption_at_any_image(records, tmp_path):
    """Whatever part of the last write reached the file, the bytes end the same."""
    whole = pack(records, packs=tmp_path / "whole").path.read_bytes()
    partial = records / "dtd" / ".packs" / "dtd" / "test-official_rounded-31.pack.partial"
    partial.parent.mkdir(parents=True)
    for kept in [0, 10, PAGE, PAGE + 6, len(whole) // 2, len(whole) - 7]:
        partial.write_bytes(whole[:kept] + bytes(len(whole) - kept))
        path = pack(records).path
        assert path.read_bytes() == whole
        path.unlink()


def test_a_beginning_of_other_records_is_thrown_away(records):
    process = start_packing(records)
    for _ in range(3):
        process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    class_id = ImageReader(records, "dtd", "test").spec.split_classes[Split.TEST][0]
    os.utime(records / "dtd" / f"{class_id}.tfrecords", (1, 1))
    done = pack(records)
    assert done.packed == done.images


def test_two_processes_do_not_pack_the_same(records):
    process = start_packing(records)
    process.stdout.readline()
    with pytest.raises(InputError, match="another process is packing this"):
        pack(records)
    process.stdout.read()
    assert process.wait() == 0
    process.stdout.close()
    assert pack(records).packed == 0


def test_a_damaged_record_stops_packing_and_leaves_no_pack(records):
    class_id = ImageReader(records, "dtd", "test").spec.split_classes[Split.TEST][1]
    path = records / "dtd" / f"{class_id}.tfrecords"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{class_id}\.tfrecords: .*checksum"):
        pack(records)
    assert not list(records.rglob("*.pack"))


def test_a_full_disk_in_the_middle(records, monkeypatch):
    write, calls = os.pwrite, []

    def refuse(*arguments):
        calls.append(arguments)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(InputError, match=r"cannot be written: the disk has no room for .* Free"):
        pack(records)
    assert not list(records.rglob("*.pack"))
    monkeypatch.undo()
    done = pack(records)
    assert 0 < done.packed < done.images


FULL = """
import sys
from pathlib import Path
from episodes import ImageReader, InputError
from episodes.packing import pack_split
from episodes.packs import pack_folder
records, packs = map(Path, sys.argv[1:])
reader = ImageReader(records, "dtd", "test", 84, "official")
try:
    pack_split(reader.encoded, reader.split, reader.rule, 84, pack_folder(reader.spec, packs))
except InputError as error:
    print(error)
print(sorted(path.name for path in packs.rglob("*") if path.is_file()))
"""


def test_a_disk_that_is_really_full(records, tmp_path):
    """A file system of 1 MB, where the machine lets us mount one."""
    small = tmp_path / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size=1m small {small} && exec "
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    trial = [*command, mount + "true"]
    if not shutil.which("unshare") or subprocess.run(trial, check=False).returncode:
        pytest.skip("no right to mount a file system")
    ours = f'"{sys.executable}" -c "$0" "{records}" "{small}"'
    done = subprocess.run(
        [*command, mount + ours, FULL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "the disk has no room for" in done.stdout, done.stderr
    assert done.stdout.endswith("[]\n")


# ---- the command -------------------------------------------------------------------------------


def test_the_command_packs_what_is_there(records):
    console = Console(file=io.StringIO(), width=200)
    command = pack_command.Command(records, size=SIZE, rule="antialiased")
    assert pack_command.run(command, console) == 0
    text = console.file.getvalue()
    assert "dtd train" in text and "traffic_sign test" in text
    assert "traffic_sign train" not in text  # has no classes
    for split in Split:
        assert ImageReader(records, "dtd", split, SIZE, "antialiased").pack is not None
    again = Console(file=io.StringIO(), width=200)
    started = time.monotonic()
    pack_command.run(command, again)
    assert again.file.getvalue().count(" 0 decoded now") == 4
    assert time.monotonic() - started < 5


def test_the_command_refuses_what_it_does_not_know(records, tmp_path):
    console = Console(file=io.StringIO())
    for wrong in [{"rule": "oficial"}, {"splits": ("tset",)}, {"sources": ("aircraft",)}]:
        with pytest.raises(InputError):
            pack_command.run(pack_command.Command(records, **wrong), console)
    with pytest.raises(InputError, match="there is no source in this folder"):
        pack_command.run(pack_command.Command(tmp_path), console)
