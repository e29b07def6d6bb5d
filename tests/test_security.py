"""What a stranger wrote is data: it runs nothing, leads nowhere, and is shown as text."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image

from episodes import InputError
from episodes.convert import raw
from episodes.convert.archive import list_archive
from episodes.images import decode
from episodes.spec import SPEC_FILE, load_spec
from fewshot.foreign import read_weights
from fewshot.gallery import Example, ExampleClass
from fewshot.results.page import _environment
from run_meta_dataset import main

PROJECT = Path(__file__).resolve().parents[1]
EVIL = '<script>alert(1)</script><img src="http://x.invalid/a"> & "b"'


def test_code_audit():
    pytest.importorskip("bandit")
    rooms = ["baselines", "commands", "episodes", "fewshot", "run_meta_dataset.py"]
    command = [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-r", *rooms]
    done = subprocess.run(command, check=False, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", ".hidden", "a\\b", "", "a\nb", EVIL, "x" * 200]
)
def test_names_of_sources_lead_nowhere(miniature, tmp_path, name):
    content = json.loads((miniature / "dtd" / SPEC_FILE).read_text()) | {"name": name}
    (tmp_path / SPEC_FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match="names the source"):
        load_spec(tmp_path)


def test_names_of_classes_lead_nowhere(miniature, tmp_path):
    shutil.copytree(miniature / "dtd", tmp_path / "records" / "dtd")
    path = tmp_path / "records" / "dtd" / SPEC_FILE
    content = json.loads(path.read_text())
    for number, name in enumerate(["../../../outside", "/etc/passwd", EVIL]):
        content["class_names"][str(number)] = name
    path.write_text(json.dumps(content))
    before = {p for p in tmp_path.rglob("*") if "dtd" not in p.parts}
    assert main(["check", "--records", str(tmp_path / "records"), "--sources", "dtd"]) == 0
    plans = tmp_path / "plans.parquet"
    flags = ["--records", str(tmp_path / "records"), "--source", "dtd", "--out", str(plans)]
    assert main(["plan", *flags, "--episodes", "2"]) == 0
    assert {p for p in tmp_path.rglob("*") if "dtd" not in p.parts} - before == {plans}


def test_names_of_classes_are_text_in_pages():
    one = ExampleClass(0, EVIL, ("data:,",), (), (0, 0), {EVIL: "1 of 2"})
    example = Example(EVIL, 0, (EVIL,), (one,), {EVIL: 0.5})
    source = '{% import "examples.html" as show %}{{ show.gallery(example, true) }}'
    text = _environment().from_string(source).render(example=example)
    page = BeautifulSoup(text, "html.parser")
    assert not page.find("script") and page.th and EVIL in page.text
    assert {image["src"] for image in page.find_all("img")} == {"data:,"}


class Deed:
    """What a hostile pickle would do."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "write", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))]
)
def test_pickled_weights_run_nothing(tmp_path, write):
    write({"state_dict": {"a": torch.ones(1)}, "deed": Deed(tmp_path / "done")}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="cannot be read as weights") as caught:
        read_weights(tmp_path / "w.pth")
    assert "weights_only" not in str(caught.value)  # PyTorch's advice would run it
    assert not (tmp_path / "done").exists()


def test_a_zip_does_not_unpack_to_any_size(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large", bytes(1 << 22))
    (member,) = list_archive(tmp_path / "a.zip")
    assert raw.read_raw(member) == bytes(1 << 22)
    monkeypatch.setattr(raw, "MOST_UNPACKED", 1 << 20)
    with pytest.raises(InputError, match="it unpacks to too much"):
        raw.read_raw(member)


def test_an_image_of_few_bytes_is_not_decoded_to_any_size():
    small = io.BytesIO()
    Image.new("L", (16, 16)).save(small, "JPEG")
    content = bytearray(small.getvalue())
    at = content.index(b"\xff\xc0") + 5  # height and width of the frame
    content[at : at + 4] = b"\xff\xdc\xff\xdc"
    with pytest.raises(ValueError, match="65500 × 65500 pixels is larger than any photograph"):
        decode(bytes(content))


def test_what_is_printed_steers_no_terminal():
    message = str(InputError("has \x1b[31m\x07 and \u202e in it\nand more.", "a\x1b/b"))
    assert message == "a\\x1b/b: has \\x1b[31m\\x07 and \\u202e in it and more."
