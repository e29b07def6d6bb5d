"""`data status`: what it finds, and what it says of what it does not find."""

import io
import json
import os
import shutil

import pytest
import tyro
from rich.console import Console

from commands.convert import Command as Convert
from commands.convert import run as convert
from commands.data import Command, run
from episodes import InputError
from episodes.convert import CONVERTERS
from episodes.packing import pack_split
from episodes.packs import pack_folder
from episodes.protocol import Split
from episodes.source import open_source
from tests.episodes.convert.raw_folders import make_dtd, make_vgg_flower


def status(*arguments):
    console = Console(file=io.StringIO(), width=300, force_terminal=False)
    assert run(tyro.cli(Command, args=["status", *map(str, arguments)]), console) == 0
    table, _, needs = console.file.getvalue().partition("\n\n")
    rows = {line.split()[0]: line for line in table.splitlines()[1:]}
    return rows, needs


def test_nothing_is_there():
    rows, needs = status()
    assert list(rows) == list(CONVERTERS)
    assert rows["vgg_flower"].split() == ["vgg_flower", "0", "of", "2", "downloads", "none"]
    assert "fungi_train_val.tgz, 13 GB, not found: https://labs.gbif.org/" in needs
    assert "known dead" in needs


@pytest.mark.parametrize("source", CONVERTERS)
def test_every_source_says_what_a_user_needs(source):
    origin = CONVERTERS[source].origin
    assert origin.title and origin.licence and origin.page.startswith("http")
    for download in origin.downloads:
        assert download.link.startswith(("http", "gs://"))
        assert download.size.endswith(("GB", "MB", "kB"))
        assert download.landmarks and all(download.landmarks)


def test_raw_data_and_records(tmp_path):
    raw, records = tmp_path / "raw", tmp_path / "records"
    make_dtd().pack(raw / "downloads")
    make_vgg_flower().write(raw)
    (raw / "vgg_flower/imagelabels.mat").unlink()
    command = tyro.cli(
        Convert, args=["dtd", "--raw", str(raw), "--records", str(records), "--jobs", "1"]
    )
    console = Console(file=io.StringIO())
    convert(command, console)
    rows, needs = status("--raw", raw, "--records", records)
    assert rows["dtd"].split() == ["dtd", "found", "partial", "141", "no"]
    assert rows["vgg_flower"].split()[:5] == ["vgg_flower", "1", "of", "2", "downloads"]
    path = raw / "downloads/dtd-r1.0.1.tar.gz"
    size = f"{path.stat().st_size / 1000:.1f} kB on disk, not opened"
    assert f"dtd-r1.0.1.tar.gz, 0.6 GB, found: {path} ({size})" in needs
    assert f"102flowers.tgz, 0.3 GB, found: {raw}/vgg_flower" in needs
    assert "imagelabels.mat, 1 kB, not found: https://www.robots.ox.ac.uk" in needs
    convert(tyro.cli(Convert, args=[*_again(raw, records), "--verify"]), console)
    (records / "dtd/.packs").mkdir(exist_ok=True)
    assert status("--records", records)[0]["dtd"].split()[-3:] == ["partial", "141", "yes"]
    path = records / "dtd/3.tfrecords"
    shutil.copy(path, tmp_path / "copy")
    path.unlink()
    assert "1 class files are missing" in status("--records", records)[0]["dtd"]
    shutil.copy(tmp_path / "copy", path)  # the same bytes, at another time
    assert status("--records", records)[0]["dtd"].split()[-1] == "no"


def _again(raw, records):
    return ["dtd", "--raw", str(raw), "--records", str(records), "--jobs", "1"]


def test_the_miniature(miniature, tmp_path):
    rows, _ = status("--records", miniature, "--sources", "dtd", "omniglot")
    assert list(rows) == ["dtd", "omniglot"]
    assert "partial" in rows["dtd"] and rows["dtd"].split()[-1] == "no"
    shutil.copytree(miniature / "dtd", tmp_path / "dtd")
    spec = json.loads((tmp_path / "dtd/dataset_spec.json").read_text())
    (tmp_path / "dtd/dataset_spec.json").write_text(json.dumps(spec | {"class_names": {}}))
    assert "class_names has 0 entries" in status("--records", tmp_path)[0]["dtd"]
    (tmp_path / "dtd/dataset_spec.json").unlink()
    (tmp_path / "dtd/.converting").write_text("")
    assert "unfinished" in status("--records", tmp_path)[0]["dtd"]


def test_packs_are_listed_and_stale_ones_called_so(miniature, tmp_path):
    shutil.copytree(miniature / "dtd", tmp_path / "dtd")
    images = open_source(tmp_path, "dtd", Split.TEST)
    pack_split(images, Split.TEST, "official_rounded", 16, pack_folder(images.spec, None))
    assert status("--records", tmp_path)[0]["dtd"].split()[-1] == "test-official_rounded-16"
    first = min(images.spec.split_classes[Split.TEST])
    os.utime(tmp_path / f"dtd/{first}.tfrecords", (1, 1))  # as if it had been converted again
    assert status("--records", tmp_path)[0]["dtd"].endswith("test-official_rounded-16 (stale)")


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="unknown source 'birds'"):
        status("--sources", "birds")
    for flag in ("--raw", "--records"):
        with pytest.raises(InputError, match="there is no such folder"):
            status(flag, tmp_path / "gone")
