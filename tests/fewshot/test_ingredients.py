"""Rows of different makings are never mixed."""

import os
import shutil

import pytest

from episodes import EpisodeReader
from episodes.faults import InputError
from fewshot.heads import build_head
from fewshot.ingredients import INGREDIENTS, fingerprint, hash_head, refuse_changed
from fewshot.results import RowStore

HEAD = """
from dataclasses import dataclass
from fewshot.heads import Head

@dataclass(frozen=True)
class A(Head):
    name = "same"
    def fit(self, support, labels, way, generator):
        return lambda query: query[0][:, :1].repeat(1, way)

class B(A):
    pass
"""


def test_a_head_is_its_class_its_settings_and_its_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(HEAD, encoding="utf-8")
    texts = ("sur", "sur:steps=39", f"{path}:A", f"{path}:B")
    hashes = [hash_head(build_head(text)) for text in texts]
    assert hash_head(build_head("sur")) == hashes[0]
    path.write_text(HEAD + "# edited\n", encoding="utf-8")
    hashes.append(hash_head(build_head(f"{path}:A")))
    assert len(set(hashes)) == 5


def test_records_converted_again_are_others(miniature, tmp_path):
    shutil.copytree(miniature / "dtd", tmp_path / "dtd")
    before = fingerprint(EpisodeReader(tmp_path, "dtd", "test").images)
    os.utime(tmp_path / "dtd" / "20.tfrecords", (1, 1))
    assert fingerprint(EpisodeReader(tmp_path, "dtd", "test").images) != before


def test_the_miniature_may_be_drawn_again(miniature):
    assert fingerprint(EpisodeReader(miniature, "dtd", "test").images) == "miniature v1"


def test_what_changed_is_named_and_what_is_new_is_not(tmp_path):
    with RowStore(tmp_path / "rows.sqlite") as store:
        refuse_changed(store, {"the head a": "1"})
        store.set_run({}, {INGREDIENTS: {"the head a": "1", "the source dtd": "2"}})
        refuse_changed(store, {"the source dtd": "2", "the head b": "3"})
        with pytest.raises(InputError, match=r"since then the head a, the source dtd changed"):
            refuse_changed(store, {"the head a": "9", "the source dtd": "9", "the head b": "3"})
