"""`baseline` as a user runs it: trained, killed, evaluated; and every kind of bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fewshot.checkpoint import load_checkpoint, load_tensors, read_card
from fewshot.results import RowStore
from run_meta_dataset import main

PROGRAM = str(Path(__file__).resolve().parents[2] / "run_meta_dataset.py")
CONFIG = Path(PROGRAM).parent / "configs" / "baselines" / "miniature.yaml"
QUICK = ["--config", CONFIG, "--backbone", "four_layer_convnet", "--image-size", "16"]
QUICK += ["--protocol", "5w1s", "--steps", "6", "--validate-every", "2", "--device", "cpu"]
QUICK += ["--validation-episodes", "2", "--sources", "dtd", "--episodes", "2"]
SOURCES = ["--train-sources", "ilsvrc_2012", "cu_birds"]


@pytest.fixture
def baseline(miniature, tmp_path, capsys):
    """Runs in this process; status, output, errors."""

    def call(*arguments, output=tmp_path / "run"):
        flags = ["baseline", arguments[0], *QUICK, "--records", miniature, "--output", output]
        status = main([*map(str, [*flags, *arguments[1:]])])
        return status, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def finished(miniature, tmp_path_factory):
    """The folder of an uninterrupted matching network."""
    folder = tmp_path_factory.mktemp("finished")
    command = ["baseline", "matchingnet", *QUICK, *SOURCES, "--records", miniature]
    assert main([*map(str, command), "--output", str(folder)]) == 0
    return folder


def weights(folder, name="matchingnet"):
    return read_card(load_tensors(folder / f"{name}.safetensors")[1], folder).weights


def rows(folder):
    with RowStore(folder / "rows.sqlite") as store:
        return [(row.name, row.accuracy) for run in store.runs() for row in store.rows(run.id)]


def test_checkpoint_log_and_rows(finished):
    backbone, card = load_checkpoint(finished / "matchingnet.safetensors", "four_layer_convnet")
    assert card.method == "matchingnet" and card.outputs == 1
    assert card.learner == {"batch_norm": "support", "exact_cosine": False}
    assert card.seen == ("ilsvrc_2012:train", "cu_birds:train")
    assert backbone.learned.method == "matchingnet" and not backbone.learned.weights
    lines = [json.loads(line) for line in (finished / "matchingnet.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["validation"] for line in lines if "validation" in line}
    assert sorted(scores) == [2, 4, 6]
    assert scores[card.metrics["step"]] == max(scores.values())
    assert list(card.metrics["few_shot"]) == ["ilsvrc_2012"]
    assert len(rows(finished)) == 2


def test_killed_at_any_moment_it_ends_with_the_same_bits_whatever_the_workers(
    miniature, finished, tmp_path
):
    flags = ["matchingnet", *QUICK, *SOURCES, "--records", miniature, "--output", tmp_path]
    command = [*map(str, [sys.executable, PROGRAM, "baseline", *flags])]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    state = tmp_path / "matchingnet.training.safetensors"
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not state.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    again = subprocess.run(
        [*command, "--workers", "2"], env=environment, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0 and "going on from step" in again.stderr
    assert weights(tmp_path) == weights(finished)
    assert rows(tmp_path) == rows(finished)


def test_a_finished_one_is_not_repeated_and_others_are_not_taken_for_it(finished, baseline):
    before = weights(finished)
    status, out, errors = baseline("matchingnet", *SOURCES, output=finished)
    assert status == 0 and "trained already" in errors and "learned_matchingnet" in out
    assert weights(finished) == before
    other = ("--settings", "exact_cosine=true")
    for flags in (other, ("--train-protocol", "5w5s"), ("--validation-sources", "dtd")):
        status, _, errors = baseline("matchingnet", *SOURCES, *flags, output=finished)
        assert status == 2 and "comes from a training with other settings" in errors


def test_ordinary_heads_and_the_method_share_an_evaluation(finished, miniature, tmp_path, capsys):
    flags = ["--checkpoint", finished / "matchingnet.safetensors", "--records", miniature]
    flags += ["--backbone", "four_layer_convnet", "--image-size", 16, "--sources", "dtd"]
    flags += ["--protocol", "5w1s", "--episodes", 2, "--output", tmp_path, "--features", "none"]
    assert main([*map(str, [*flags, "--heads", "prototypical", "learned_matchingnet"])]) == 0
    assert "learned_matchingnet" in capsys.readouterr().out
    assert [row for row in rows(tmp_path) if "learned" in row[0]] == rows(finished)
    assert "trained with" not in (tmp_path / "table.md").read_text()
    other = "learned_matchingnet:exact_cosine=true"
    assert main([*map(str, [*flags, "--heads", other])]) == 0
    assert f"{other}: trained with exact_cosine=false." in capsys.readouterr().out
    run = [*map(str, [*flags, "--heads", "learned_protonet"])]
    assert main(run) == 2
    assert "was trained by matchingnet, not by protonet" in capsys.readouterr().err


def test_relation_network_with_its_weights_beside_is_marked_transductive(baseline, tmp_path):
    status, out, _ = baseline("relationnet", "--steps", "2")
    assert status == 0 and "learned_relationnet (transductive)" in out
    found, _ = load_checkpoint(tmp_path / "run" / "relationnet.safetensors", "four_layer_convnet")
    assert any(name.startswith("relation.layers") for name in found.learned.weights)


def test_it_begins_from_another_network(finished, baseline, tmp_path):
    flags = ("--init", finished / "matchingnet.safetensors", "--steps", "2")
    assert baseline("protonet", *flags)[0] == 0
    card = load_checkpoint(tmp_path / "run" / "protonet.safetensors", "four_layer_convnet")[1]
    assert card.made_from["init"] == weights(finished)
    assert card.seen == ("ilsvrc_2012:train", "cu_birds:train")


def test_a_classifier_with_nearest_neighbours(baseline, tmp_path):
    status, out, _ = baseline("baseline", "--batch-size", "16", "--steps", "2")
    assert status == 0 and "benchmark_knn" in out


def test_a_dry_run_leaves_nothing(baseline, tmp_path):
    status, out, _ = baseline("protonet", "--dry-run", "--steps", "20")
    assert status == 0 and "20 steps of" in out and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["protonets"], "Did you mean 'protonet'"),
        (["protonet", "--settings", "distance=2"], "distance'"),
        (["protonet", "--train-sources", "mscoco"], "the train split is empty"),
        (["protonet", "--mix", "mixup"], "is not for methods that learn from episodes"),
        (["protonet", "--steps", "0"], "has no passes over images"),
        (["protonet", "--schedule", "staircase", "--period", "0"], "needs a --period"),
        (["simple_cnaps"], "adapts a trained network"),
        (["simple_cnaps", "--settings", "penalty=-1"], "penalty is not negative"),
        (["baseline", "--settings", "k=2"], "unknown setting"),
        (["protonet", "--config", "none.yaml"], "cannot be read"),
    ],
)
def test_wrong_settings(baseline, flags, words):
    status, _, errors = baseline(*flags)
    assert status == 2 and words in errors and errors.count("error: ") == 1
