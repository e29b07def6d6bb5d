"""`train` as a user runs it: real processes, killed for real; and every kind of bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.distributed.run import main as torchrun

from fewshot.checkpoint import Card, load_checkpoint, load_tensors, read_card, save_checkpoint
from run_meta_dataset import main

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = str(PROJECT / "run_meta_dataset.py")
QUICK = ["--image-size", "32", "--steps", "8", "--batch-size", "16", "--device", "cpu"]
VALIDATED = ["--select", "few_shot", "--validation-episodes", "2", "--validate-every", "2"]
PLAIN = ["--backbone", "resnet18", "--train-sources", "cu_birds", *QUICK]
assert torchrun  # what the tests start by its module's name


@pytest.fixture
def train(miniature, tmp_path, capsys):
    """Trains in this process; status, output, errors."""

    def call(*arguments, records=miniature, output=tmp_path / "run"):
        flags = ["train", "--records", records, "--output", output, *arguments]
        status = main([*map(str, flags)])
        return status, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def finished(miniature, tmp_path_factory):
    """The folder of an uninterrupted training with validation."""
    folder = tmp_path_factory.mktemp("finished")
    command = ["train", "--records", miniature, "--output", folder, *PLAIN, *VALIDATED]
    assert main([*map(str, command), "--held-out", "0.1"]) == 0
    return folder


def start(*arguments, processes=1, **options):
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(several if processes > 1 else []), PROGRAM, "train"]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def wait_for(path, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def weights(folder, name="cu_birds"):
    return read_card(load_tensors(folder / f"{name}.safetensors")[1], folder).weights


# ---- the job ---------------------------------------------------------------------------------


def test_checkpoint_card_and_log(finished):
    _, card = load_checkpoint(finished / "cu_birds.safetensors", "resnet18")
    assert card.method == "supervised" and card.seen == ("cu_birds:train",)
    assert card.training["batch_size"] == 16 and card.image_size == 32
    lines = [json.loads(line) for line in (finished / "cu_birds.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["validation"] for line in lines if "validation" in line}
    assert sorted(scores) == [2, 4, 6, 8]
    best = card.metrics["step"]
    assert scores[best] == max(scores.values())
    assert best == min(step for step, score in scores.items() if score == scores[best])
    assert card.metrics["few_shot"]["cu_birds"][0] == scores[best]
    assert 0 <= card.metrics["held_out"]["cu_birds"] <= 1
    last = read_card(load_tensors(finished / "cu_birds.last.safetensors")[1], finished)
    assert last.metrics == {"step": 8}
    reported = [line for line in lines if "loss" in line]
    assert [line["step"] for line in reported] == [2, 4, 5, 6, 8]
    assert all(line["images_per_second"] > 0 for line in reported)
    assert not list(finished.glob("*training*")) and not list(finished.glob("*best*"))


def test_killed_at_any_moment_the_same_command_ends_with_the_same_bits(
    miniature, finished, tmp_path
):
    flags = ["--records", miniature, "--output", tmp_path, *PLAIN, *VALIDATED, "--held-out", 0.1]
    state = tmp_path / "cu_birds.training.safetensors"
    for extra in (0.0, 0.3):
        process = start(*flags)
        wait_for(state)
        time.sleep(extra)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = start(*flags)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and "going on from step" in errors
    assert weights(tmp_path) == weights(finished)
    told, whole = ((f / "cu_birds.jsonl").read_text().splitlines() for f in (tmp_path, finished))
    steps = [json.loads(line)["step"] for line in told]
    assert steps == [json.loads(line)["step"] for line in whole]


def test_a_finished_training_is_not_repeated(finished, train):
    before = weights(finished)
    status, _, errors = train(*PLAIN, *VALIDATED, "--held-out", "0.1", output=finished)
    assert status == 0 and "cu_birds is trained already" in errors
    assert weights(finished) == before


def test_processes_with_the_same_command_share_the_work(miniature, tmp_path):
    sources = ["dtd", "cu_birds", "vgg_flower"]
    flags = ["--records", miniature, "--output", tmp_path, "--backbone", "resnet18", *QUICK]
    processes = [start(*flags, "--train-sources", *sources) for _ in range(2)]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    for source in sources:
        trained = [f"trained {source}: " in one for one in errors]
        assert sorted(trained) == [False, True], (source, errors)
    assert not list(tmp_path.glob("*.lock"))


def test_what_a_kill_left_behind_a_finished_training_is_removed(finished, train, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    left = [folder / f"cu_birds.{kind}.safetensors" for kind in ("training", "best")]
    for path in left:
        shutil.copy(folder / "cu_birds.safetensors", path)
    assert train(*PLAIN, *VALIDATED, "--held-out", "0.1")[0] == 0
    assert not any(path.exists() for path in left)


def test_one_network_per_source_then_one_for_all_then_one_that_learns_from_them(train, tmp_path):
    flags = ["--backbone", "resnet18", *QUICK, "--steps", "2", "--train-sources", "dtd", "cu_birds"]
    assert train(*flags)[0] == 0
    teachers = [tmp_path / "run" / f"{name}.safetensors" for name in ("dtd", "cu_birds")]
    assert all(path.exists() for path in teachers)
    assert train(*flags, "--method", "multi_domain")[0] == 0
    taught = [*flags, "--method", "distillation", "--teachers", *reversed(teachers)]
    assert train(*taught, "--learning-rate", "0.01")[0] == 0
    backbone, card = load_checkpoint(tmp_path / "run" / "distillation.safetensors", "resnet18")
    assert card.source == "dtd+cu_birds" and card.seen == ("dtd:train", "cu_birds:train")
    assert len(card.classes) == backbone.network.fc.out_features
    assert card.classes[0].startswith("dtd/") and card.classes[-1].startswith("cu_birds/")
    assert card.made_from["teachers"] == [weights(tmp_path / "run", n) for n in ("dtd", "cu_birds")]
    again = [*QUICK, "--backbone", "resnet18", "--method", "self_distillation"]
    alone = [*again, "--train-sources", "dtd", "--teachers", teachers[0]]
    assert train(*alone)[0] == 0
    assert (tmp_path / "run" / "dtd.born_again.safetensors").exists()
    both = [*again, "--train-sources", "cu_birds", "dtd", "--teachers", *teachers]
    assert train(*both, "--dry-run")[0] == 0
    status, _, errors = train(*alone, "--temperature", "2")
    assert status == 2 and "comes from a training with other settings" in errors


def test_a_dry_run_says_what_would_happen_and_leaves_nothing(train, tmp_path):
    status, out, _ = train(*PLAIN, "--held-out", "0.1", "--dry-run")
    assert status == 0
    assert "14 train classes, 329 images, 37 held out" in out
    assert "8 steps of 16 images" in out and "measured over ten steps" in out
    assert not (tmp_path / "run").exists()


def test_profile_and_tensorboard(train, tmp_path):
    pytest.importorskip("tensorboard")
    assert train(*PLAIN, "--steps", "10", "--profile", "--tensorboard")[0] == 0
    trace = json.loads((tmp_path / "run" / "trace.json").read_text())
    assert any("conv" in str(event.get("name")) for event in trace["traceEvents"])
    assert list((tmp_path / "run" / "tensorboard" / "cu_birds").glob("events*"))


@pytest.mark.parametrize(
    ("gone", "flags"),
    [(("valid", "test"), ["--select", "held_out", "--held-out", "0.1"]), (("test",), VALIDATED)],
)
def test_only_train_classes_are_read_and_valid_ones_to_select(
    miniature, train, tmp_path, gone, flags
):
    """The record files of the other classes are removed: nothing misses them."""
    folder = tmp_path / "records" / "cu_birds"
    shutil.copytree(miniature / "cu_birds", folder)
    spec = json.loads((folder / "dataset_spec.json").read_text())
    counts = {name.lower(): n for name, n in spec["classes_per_split"].items()}
    first = counts["train"] + (0 if "valid" in gone else counts["valid"])
    for class_id in range(first, sum(counts.values())):
        (folder / f"{class_id}.tfrecords").unlink()
    assert train(*PLAIN, *flags, "--steps", "4", records=tmp_path / "records")[0] == 0


# ---- several processes -----------------------------------------------------------------------


def test_two_processes_take_the_same_steps_as_one(miniature, tmp_path):
    """With group norms instead of batch norms, whose statistics are those of each process."""
    script = PROJECT / "tests" / "fewshot" / "training" / "in_a_group.py"
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for name, launcher, parts in (("one", [], 1), ("two", several, 1), ("parts", [], 2)):
        command = [sys.executable, *launcher, script, tmp_path / name, miniature, parts]
        done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, two, parts = (load_tensors(tmp_path / name)[0] for name in ("one", "two", "parts"))
    assert len(one) > 60
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(parts[name], one[name], rtol=1e-5, atol=1e-6)


def test_a_process_that_dies_stops_all_with_one_message_and_the_training_goes_on(
    miniature, tmp_path
):
    flags = ["--records", miniature, *PLAIN, *VALIDATED]
    whole = start(*flags, "--output", tmp_path / "whole", processes=2)
    _, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors
    folder = tmp_path / "killed"
    process = start(*flags, "--output", folder, processes=2)
    wait_for(folder / "cu_birds.training.safetensors")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        process.communicate()
        pytest.skip("the children of a process cannot be listed here")
    os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert errors.count("error: ") <= 1
    again = start(*flags, "--output", folder, processes=2)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0 and "going on from step" in errors
    assert weights(folder) == weights(tmp_path / "whole")


# ---- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--train-sources", "mscoco"], "the train split is empty"),
        (["--batch-size", "4096"], "is larger than the"),
        (["--batch-size", "16", "--accumulate", "3"], "do not part among 1 processes with 3 parts"),
        (["--method", "multi_domain", "--shares", "2", "1"], "--shares has 2 parts for 1 sources"),
        (["--learning-rate", "1e30"], "the loss is not finite at step"),
        (["--method", "distillation"], "takes 1 teachers, not 0"),
        (["--method", "distilation"], "Did you mean 'distillation'?"),
        (["--optimizer", "adm"], "Did you mean 'adam'?"),
        (["--select", "held_out"], "needs a share to hold out"),
        (["--schedule", "restarts"], "needs a --period"),
        (["--stochastic-depth", "0.2"], "has no residual branches to skip"),
        (["--sync-bn"], "batch norm over processes needs GPUs"),
        (["--config", "none.yaml"], "cannot be read"),
    ],
)
def test_wrong_settings(train, flags, words):
    status, _, errors = train(*PLAIN, *flags)
    assert status == 2 and words in errors and errors.count("error: ") == 1


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(train, tmp_path):
    status, _, errors = train(*PLAIN, *VALIDATED, "--learning-rate", "1e12", "--warmup", "0.9")
    assert status == 2 and "the loss is not finite at step" in errors
    state = tmp_path / "run" / "cu_birds.training.safetensors"
    if state.exists():
        assert all(torch.isfinite(t).all() for t in load_tensors(state)[0].values() if t.ndim > 1)


def test_a_folder_of_another_training(train, finished):
    status, _, errors = train(*PLAIN, "--steps", "9", output=finished)
    assert status == 2 and "comes from a training with other settings" in errors


def test_a_state_of_another_training(train, miniature, tmp_path):
    folder = tmp_path / "run"
    process = start("--records", miniature, "--output", folder, *PLAIN, *VALIDATED)
    wait_for(folder / "cu_birds.training.safetensors")
    process.kill()
    process.communicate()
    status, _, errors = train(*PLAIN, *VALIDATED, "--seed", "3")
    assert status == 2 and "is of a training with other settings" in errors


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ("a", "b")}, "has learned 2 classes of cu_birds, not the 13 train classes"),
        ({"image_size": 84}, "was trained at 84 pixels, not 32"),
    ],
)
def test_a_teacher_that_does_not_fit(train, finished, tmp_path, change, words):
    backbone, card = load_checkpoint(finished / "cu_birds.safetensors", "resnet18")
    source = "dtd" if "classes" in change else "cu_birds"
    content = {name: getattr(card, name) for name in card.__dataclass_fields__}
    save_checkpoint(tmp_path / "teacher.safetensors", backbone, Card(**content | change))
    flags = ["--backbone", "resnet18", *QUICK, "--method", "self_distillation"]
    flags += ["--train-sources", source, "--teachers", tmp_path / "teacher.safetensors"]
    status, _, errors = train(*flags)
    assert status == 2 and words in errors


def test_a_full_disk_is_said(train, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    status, _, errors = train(*PLAIN, *VALIDATED)
    assert status == 2 and "the disk is full" in errors
