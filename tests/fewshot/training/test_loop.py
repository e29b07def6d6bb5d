"""Training: reproducible to the last bit, whatever interrupts it."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from episodes.faults import InputError
from episodes.loader import LabelledImages
from fewshot.checkpoint import hash_weights, save_tensors
from fewshot.training.loop import Observer, train
from fewshot.training.processes import Place
from fewshot.training.recipe import Recipe
from fewshot.training.snapshots import Snapshots
from fewshot.training.supervised import prepare

CPU = Place(torch.device("cpu"))
RECIPE = Recipe(
    epochs=2,
    batch_size=32,
    learning_rate=0.05,
    weight_decay=1e-3,
    warmup=0.2,
    augment="flip",
    seed=5,
)
PROJECT = Path(__file__).resolve().parents[3]


def begin(name, images, recipe):
    return prepare(name, [images], recipe, CPU)


def run(name, images, recipe, path, **options):
    return train(begin(name, images, recipe), Snapshots(path), **options)


def stop_after(training, steps):
    for batches in training.batches(workers=0):
        training.learn(batches)
        if training.step == steps:
            return


@pytest.fixture(scope="module")
def images(miniature):
    return LabelledImages(miniature, "cu_birds", "train", 32)


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """The weights of an uninterrupted training, and what it reported."""
    reports = []
    state = tmp_path_factory.mktemp("trained") / "state.safetensors"
    backbone = run("aa_resnet18", images, RECIPE, state, observer=Observer(reports.append))
    return hash_weights(backbone.network.state_dict()), reports


def weights(backbone):
    return hash_weights(backbone.network.state_dict())


def test_the_loss_falls(images, tmp_path):
    reports = []
    recipe = replace(RECIPE, epochs=6, learning_rate=0.01, augment="none")
    run("resnet18", images, recipe, tmp_path / "s", observer=Observer(reports.append))
    losses = [report.loss for report in reports]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_reports_end_with_the_last_step(images, trained):
    _, reports = trained
    steps = 2 * (len(images) // 32)
    assert (reports[-1].step, reports[-1].total) == (steps, steps)
    assert [one.step for one in reports] == sorted({one.step for one in reports})
    assert all(0 < one.data_seconds < one.step_seconds for one in reports)
    assert all(one.images_per_second == pytest.approx(32 / one.step_seconds) for one in reports)


def test_workers_do_not_move_a_bit(images, trained, tmp_path):
    backbone = run("aa_resnet18", images, RECIPE, tmp_path / "s", workers=2)
    assert weights(backbone) == trained[0]


def test_another_seed_is_another_training(images, trained, tmp_path):
    backbone = run("aa_resnet18", images, replace(RECIPE, seed=6), tmp_path / "s")
    assert weights(backbone) != trained[0]


@pytest.mark.parametrize("steps", [1, 7, 13])
def test_stopped_after_any_step_it_goes_on_to_the_same_weights(images, trained, tmp_path, steps):
    first = begin("aa_resnet18", images, RECIPE)
    stop_after(first, steps)
    first.save(Snapshots(tmp_path / "state"))
    backbone = run("aa_resnet18", images, RECIPE, tmp_path / "state")
    assert weights(backbone) == trained[0]


@pytest.mark.parametrize("change", [{"epochs": 3}, {"augment": "crop"}])
def test_a_state_of_another_training_is_not_taken_up(images, tmp_path, change):
    other = begin("aa_resnet18", images, replace(RECIPE, **change))
    other.save(Snapshots(tmp_path / "state"))
    assert not begin("aa_resnet18", images, RECIPE).resume(Snapshots(tmp_path / "state"))


def test_a_killed_process_goes_on_to_the_same_weights(miniature, trained, tmp_path):
    code = f"""
import sys, torch
sys.path.insert(0, {str(PROJECT)!r})
from pathlib import Path
from episodes.loader import LabelledImages
from fewshot.training.loop import train
from fewshot.training.processes import Place
from fewshot.training.recipe import Recipe
from fewshot.training.snapshots import Snapshots
from fewshot.training.supervised import prepare
images = LabelledImages({str(miniature)!r}, "cu_birds", "train", 32)
torch.set_num_threads({torch.get_num_threads()})
training = prepare("aa_resnet18", [images], {RECIPE!r}, Place(torch.device("cpu")))
train(training, Snapshots(Path({str(tmp_path / "state")!r})), save_every=0)
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while not (tmp_path / "state").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    images = LabelledImages(miniature, "cu_birds", "train", 32)
    backbone = run("aa_resnet18", images, RECIPE, tmp_path / "state")
    assert weights(backbone) == trained[0]


def test_each_pass_shows_every_image_once_but_for_the_last_short_batch(images):
    training = begin("resnet18", images, replace(RECIPE, augment="none"))
    size, steps = RECIPE.batch_size, training.steps_per_epoch
    order = images.order(RECIPE.seed, epoch=0)
    assert sorted(order) == list(range(len(images)))
    expected = images.labels(order[: size * steps])
    found = []
    for (batch,) in training.batches(workers=0):
        found.append(batch.labels)
        training.step += 1
        if training.step == steps:
            break
    assert torch.cat(found).tolist() == expected.tolist()


def test_half_of_the_images_are_mirrored_and_the_rest_left_alone(images):
    plain = next(begin("resnet18", images, replace(RECIPE, augment="none")).batches(0))[0].images
    drawn = next(begin("resnet18", images, RECIPE).batches(0))[0].images
    same = [torch.equal(a, b) for a, b in zip(plain, drawn, strict=True)]
    mirrored = [torch.equal(a.flip(2), b) for a, b in zip(plain, drawn, strict=True)]
    assert all(s or m for s, m in zip(same, mirrored, strict=True))
    assert 6 < sum(same) < 26


def test_an_augmented_training_goes_on_to_the_same_weights(images, tmp_path):
    recipe = replace(RECIPE, epochs=1, augment="crop")
    whole = run("resnet18", images, recipe, tmp_path / "whole")
    first = begin("resnet18", images, recipe)
    stop_after(first, 2)
    first.save(Snapshots(tmp_path / "state"))
    resumed = run("resnet18", images, recipe, tmp_path / "state", workers=2)
    assert weights(resumed) == weights(whole)
    plain = run("resnet18", images, replace(recipe, augment="none"), tmp_path / "plain")
    assert weights(plain) != weights(whole)


def test_an_unknown_augmentation_is_refused(images):
    with pytest.raises(InputError, match="unknown augmentation 'crops'"):
        begin("resnet18", images, replace(RECIPE, augment="crops"))


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    rates = [RECIPE.rate(step, 100) for step in (0, 10, 19, 20, 60, 100)]
    expected = [0.05 / 21, 0.05 * 11 / 21, 0.05 * 20 / 21, 0.05, 0.025, 0.0]
    assert rates == pytest.approx(expected)
    at_once = replace(RECIPE, warmup=0.0)
    assert [at_once.rate(step, 100) for step in (0, 50)] == pytest.approx([0.05, 0.025])


def test_one_step_is_sgd_with_momentum_and_decay(images):
    """Against the update written out, over two steps."""
    recipe = replace(RECIPE, augment="none")
    training = begin("resnet18", images, recipe)
    parameter = training.objective.backbone.network.fc.weight
    batches = training.batches(workers=0)
    expected, velocity = parameter.detach().clone(), torch.zeros_like(parameter)
    for step in range(2):
        training.learn(next(batches))
        gradient = parameter.grad + recipe.weight_decay * expected
        velocity = 0.9 * velocity + gradient
        expected = expected - recipe.rate(step, training.total) * velocity
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-7)


def test_a_loss_that_is_not_finite_stops_and_says_the_step(images, tmp_path):
    with pytest.raises(InputError, match=r"not finite at step \d+.*Lower --learning-rate"):
        run("resnet18", images, replace(RECIPE, learning_rate=1e30), tmp_path / "state")


def test_a_batch_larger_than_the_data(images):
    with pytest.raises(InputError, match=r"a batch of 9999 is larger than the \d+ images"):
        begin("resnet18", images, replace(RECIPE, batch_size=9999))


def test_a_damaged_state_says_what_to_do(images, tmp_path):
    (tmp_path / "state").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="Remove it to train from the start"):
        begin("resnet18", images, RECIPE).resume(Snapshots(tmp_path / "state"))


def test_a_foreign_state_is_not_taken_up(images, tmp_path):
    save_tensors(tmp_path / "state", {"x": torch.zeros(1)}, {})
    assert not begin("resnet18", images, RECIPE).resume(Snapshots(tmp_path / "state"))


def test_only_files_of_train_classes_are_opened(images, monkeypatch, tmp_path):
    opened = set()
    original = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: (opened.add(self.name), original(self, *a, **k))[1]
    )
    recipe = replace(RECIPE, epochs=1)
    run("resnet18", images, recipe, tmp_path / "state")
    records = {int(name.split(".")[0]) for name in opened if name.endswith(".tfrecords")}
    assert records <= set(range(len(images.class_names)))
