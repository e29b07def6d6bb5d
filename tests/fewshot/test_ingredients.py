"""What rows are made of has a name and a hash."""

import os
import shutil

from episodes import EpisodeReader
from fewshot.checkpoint import Card
from fewshot.evaluation import line_up
from fewshot.heads import build_head
from fewshot.ingredients import collect_ingredients, fingerprint, hash_head

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


def test_every_ingredient_has_a_name_and_a_hash(miniature):
    readers = {"dtd": EpisodeReader(miniature, "dtd", "test")}
    entries = line_up([build_head("prototypical")], ["resnet18"])
    card = Card(
        "resnet18", "r", "ilsvrc_2012", "train", (), 84, "official", "md-v1", 0, weights="w"
    )
    assert collect_ingredients(readers, entries, [card]) == {
        "the source dtd": "miniature v1",
        "the episodes of dtd": readers["dtd"].plan(0).hash,
        "the head prototypical": hash_head(build_head("prototypical")),
        "backbone 0 (resnet18)": "w",
    }
