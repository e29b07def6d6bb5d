"""Lists of classes: the forms in which they are published, and what is none."""

import json
import sys

import pytest

from episodes import InputError
from fewshot.class_list import read_classes


@pytest.mark.parametrize(
    "text",
    [
        "n01440764\nn01443537\n",
        "\ufeffn01440764 tench, Tinca tinca\r\nn01443537\tgoldfish\r\n\r\n",
        json.dumps({"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}),
        json.dumps({"1": "n01443537", "0": "n01440764"}),
        json.dumps(["n01440764", "n01443537"]),
    ],
)
def test_published_forms(tmp_path, text):
    path = tmp_path / "classes"
    path.write_bytes(text.encode())
    assert read_classes(str(path)) == ("n01440764", "n01443537")


def test_names_may_have_several_words(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("great dane\nn01443537 goldfish\n")
    assert read_classes(str(path)) == ("great dane", "n01443537 goldfish")


def test_a_folder_of_class_folders(tmp_path):
    for name in ("b", "a10", "a9"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").touch()
    assert read_classes(str(tmp_path)) == ("a10", "a9", "b")


def test_imagenet_in_the_order_of_its_classifiers():
    names = read_classes("imagenet")
    assert len(set(names)) == 1000 and names[0] == "n01440764" and names[-1] == "n15075141"


def test_imagenet_s_list_comes_with_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.data.imagenet_info", None)
    with pytest.raises(InputError, match="comes with timm, which is not installed"):
        read_classes("imagenet")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"a\nb\na\n", "names the class a 2 times"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"\n", "holds no classes"),
        (b"\xff\xfe\x00", "it is no text"),
        (b'{"0": "a", "2": "b"}', "holds no list of classes"),
        (b'["a", 3]', "holds no list of classes"),
        (b"{", "holds no list of classes"),
    ],
)
def test_what_is_no_list(tmp_path, content, what):
    path = tmp_path / "classes"
    path.write_bytes(content)
    with pytest.raises(InputError, match=what):
        read_classes(str(path))


def test_a_list_that_is_not_there():
    with pytest.raises(InputError, match=r"imagnet: cannot be read .*No such file.*or imagenet"):
        read_classes("imagnet")
