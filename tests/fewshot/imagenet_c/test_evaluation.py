"""Scores of classifiers whose answers are known, kept cell by cell."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from episodes.faults import InputError
from fewshot.imagenet_c.evaluation import Column, Preparation, Score, errors_of, evaluate
from fewshot.imagenet_c.folders import CLEAN, open_images
from fewshot.kept import KeptResults
from tests.fewshot.imagenet_c.layouts import CLASSES, write_release, write_validation

CPU = torch.device("cpu")


class ByLight(nn.Module):
    """Knows the three classes by their light, as the layouts paint them."""

    def __init__(self, side=224):
        super().__init__()
        self.side, self.seen = side, 0

    def forward(self, images):
        assert images.shape[1:] == (3, self.side, self.side)
        self.seen += 1
        level = (images.mean(dim=(1, 2, 3)) + 1) * 127.5
        return -(level[:, None] - torch.tensor([20.0, 80.0, 140.0])).abs()


class AlwaysFirst(ByLight):
    """Says the first class whatever it sees."""

    def forward(self, images):
        return super().forward(images) * 0 + torch.tensor([1.0, 0.0, 0.0])


def column(folder, network, name="light", classes=CLASSES, **identity):
    return Column(name, network, classes, KeptResults(folder / f"{name}.json", identity))


@pytest.fixture
def released(tmp_path):
    folder = write_release(tmp_path / "c", ["fog", "snow"])
    return open_images(folder, CLASSES, ("snow", "fog"))


def test_known_answers_are_counted(tmp_path, released):
    columns = [column(tmp_path, ByLight()), column(tmp_path, AlwaysFirst(), "first")]
    right, first = evaluate(columns, Preparation(released, None, "official"), CPU, 0)
    assert set(right) == {(name, s) for name in ("snow", "fog") for s in range(1, 6)}
    assert all((score.correct, score.images) == (6, 6) for score in right.values())
    assert all(error == pytest.approx(4 / 6) for error in errors_of(first).values())


def test_classes_are_matched_by_name_not_by_order(tmp_path, released):
    turned = column(tmp_path, ByLight(), classes=CLASSES[::-1])
    (scores,) = evaluate([turned], Preparation(released, None, "official"), CPU, 0)
    assert all(score.correct == 2 for score in scores.values())  # the middle one only


def test_jobs_move_no_number_and_images_are_resized_when_asked(tmp_path):
    images = open_images(write_validation(tmp_path / "val"), CLASSES, ("shot_noise", "snow"))
    found = []
    for jobs in (0, 2):
        network = ByLight(side=32)
        one = column(tmp_path / str(jobs), network)
        (scores,) = evaluate([one], Preparation(images, 32, "official"), CPU, jobs)
        found.append({cell: score.correct for cell, score in scores.items()})
        assert network.seen == 11
    assert found[0] == found[1] and found[0][CLEAN] == 6


def test_what_is_kept_is_not_computed_again(tmp_path, released):
    preparation = Preparation(released, None, "official")
    first = ByLight()
    (scores,) = evaluate([column(tmp_path, first)], preparation, CPU, 0)
    again = ByLight()
    assert evaluate([column(tmp_path, again)], preparation, CPU, 0) == [scores]
    assert (first.seen, again.seen) == (10, 0)
    # a new column is computed beside it, and the old one keeps its scores
    columns = [column(tmp_path, again), column(tmp_path, AlwaysFirst(), "first")]
    kept, new = evaluate(columns, preparation, CPU, 0)
    assert kept == scores and len(new) == 10


def test_every_finished_cell_survives_a_stop(tmp_path, released):
    def stop(cell, done, total):
        if cell == ("snow", 3):
            raise KeyboardInterrupt

    one = column(tmp_path, ByLight())
    with pytest.raises(KeyboardInterrupt):
        evaluate([one], Preparation(released, None, "official"), CPU, 0, stop)
    assert set(one.read()) == {("snow", 1), ("snow", 2)}


def test_scores_of_other_makings_are_refused(tmp_path, released):
    preparation = Preparation(released, None, "official")
    evaluate([column(tmp_path, ByLight(), weights="abc", resize=None)], preparation, CPU, 0)
    other = column(tmp_path, ByLight(), weights="abd", resize=84)
    with pytest.raises(InputError, match="results of another resize, weights"):
        evaluate([other], preparation, CPU, 0)


DAMAGED = ("", "[]", '{"identity": {}}', '{"identity": {}, "results": {"x": 1}}')


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_of_scores_is_named(tmp_path, text):
    (tmp_path / "light.json").write_text(text)
    with pytest.raises(InputError, match=r"light.json: is not a file of (scores|results)"):
        column(tmp_path, ByLight()).read()


def test_the_file_says_all(tmp_path):
    one = column(tmp_path, ByLight(), weights="abc")
    one.write({("fog", 2): Score(3, 4, 0.5)})
    assert json.loads(one.kept.path.read_text()) == {
        "identity": {"weights": "abc"},
        "results": {"fog/2": {"correct": 3, "images": 4, "seconds": 0.5}},
    }
    assert one.read() == {("fog", 2): Score(3, 4, 0.5)}


def test_kept_images_are_a_release(tmp_path):
    images = open_images(write_validation(tmp_path / "val"), CLASSES, ("contrast",))
    preparation = Preparation(images, None, "official", tmp_path / "c")
    evaluate([column(tmp_path, ByLight())], preparation, CPU, 0)
    again = open_images(tmp_path / "c", CLASSES, ("contrast",), clean=tmp_path / "val")
    assert again.kind != images.kind and again.missing == ()
    assert (again.cells, again.names) == (images.cells, images.names)
    memory = images.read(("contrast", 2), "n002/0.JPEG").astype(int)
    stored = again.read(("contrast", 2), "n002/0.JPEG")
    assert 0 < np.abs(stored - memory).max() < 30
    with Image.open(tmp_path / "c/contrast/2/n002/0.JPEG") as opened:
        assert opened.size == (224, 224) and opened.format == "JPEG"


def test_a_damaged_image_stops_with_its_name(tmp_path, released):
    path = released.folder / "snow" / "2" / "n001" / "1.JPEG"
    path.write_bytes(b"\xff\xd8\xff")
    one = column(tmp_path, ByLight())
    for jobs in (0, 1):
        with pytest.raises(InputError, match=r"snow/2/n001/1.JPEG"):
            evaluate([one], Preparation(released, None, "official"), CPU, jobs)
    assert set(one.read()) == {("snow", 1)}
    assert replace(one, name="x").read() == one.read()
