"""The main job as a user runs it: real processes, real files, every kind of bad input."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from episodes.protocol import SOURCES
from episodes.tfrecord import encode_example, read_examples, scan_offsets, write_records
from fewshot.results import RowStore
from run_meta_dataset import main

PROJECT = Path(__file__).resolve().parents[1]
QUICK = ["--image-size", "32", "--epochs", "1", "--batch-size", "64", "--device", "cpu"]
FEW = ["--episodes", "3", "--sources", "dtd", "omniglot"]


def start(*arguments, **options):
    command = [sys.executable, str(PROJECT / "run_meta_dataset.py"), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def run(*arguments, **options):
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def rows(folder):
    with RowStore(folder / "rows.sqlite") as store:
        return [
            (r.head, r.source, r.index, r.correct, r.query_count, r.plan_hash) for r in store.rows()
        ]


@pytest.fixture(scope="module")
def finished(miniature, tmp_path_factory):
    """A finished run: trained, evaluated on two sources."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    status, out, err = run("--records", miniature, *QUICK, *FEW, "--output", folder)
    assert status == 0, err
    return folder, out, err


@pytest.fixture
def checkpoint(finished):
    return finished[0] / "aa_resnet18.safetensors"


@pytest.fixture
def evaluate(miniature, checkpoint, tmp_path, capsys):
    """Evaluates in this process from the checkpoint; status, output, errors."""

    def call(*arguments, records=miniature, output=tmp_path / "run"):
        flags = ["--records", records, "--checkpoint", checkpoint, "--image-size", 32]
        status = main([*map(str, [*flags, "--output", output, "--device", "cpu", *arguments])])
        return status, *capsys.readouterr()

    return call


# ---- the job ---------------------------------------------------------------------------------


def test_the_table_and_the_run_folder(finished):
    folder, out, err = finished
    first = out.splitlines()[0]
    assert first.startswith("Train aa_resnet18 on ilsvrc_2012, then evaluate prototypical, ")
    assert f"Run folder: {folder}" in out
    out = " ".join(out.split())
    assert "miniature v1 (not Meta-Dataset), md-v1" in out
    assert "never comparable to published numbers" in out
    assert "aa_resnet18: trained on ilsvrc_2012 (train classes) at 32 px" in out
    names = {path.name for path in folder.iterdir()} - {"rows.sqlite-wal", "rows.sqlite-shm"}
    tables = {"table.md", "table.csv", "table.tex"}
    trained = {"aa_resnet18.safetensors", "aa_resnet18.jsonl"}
    assert names == {"rows.sqlite", "config.yaml"} | trained | tables
    assert "miniature" in (folder / "table.md").read_text(encoding="utf-8")
    assert "miniature" in (folder / "table.tex").read_text(encoding="utf-8")
    lines = list(csv.DictReader((folder / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert all("miniature" in line["table"] for line in lines)
    assert {(line["head"], line["source"]) for line in lines} == {
        (head, source)
        for head in ("prototypical", "finetune", "sur")
        for source in ("dtd", "omniglot")
    }
    assert "train aa_resnet18: " in err


def test_the_first_line_comes_within_two_seconds(miniature, tmp_path):
    started = time.monotonic()
    process = start("--records", miniature, *QUICK, *FEW, "--output", tmp_path / "run")
    line = process.stdout.readline()
    elapsed = time.monotonic() - started
    process.kill()
    process.communicate()
    assert "Train aa_resnet18" in line
    assert elapsed < 2.0 * (1 + os.getloadavg()[0] / (os.cpu_count() or 1))


def test_the_same_command_elsewhere_gives_the_same_rows(miniature, finished, tmp_path):
    folder = tmp_path / "again"
    status, _, err = run("--records", miniature, *QUICK, *FEW, "--output", folder, "--workers", "2")
    assert status == 0, err
    assert rows(folder) == rows(finished[0])
    for name in ("table.csv", "table.md", "table.tex"):
        assert (folder / name).read_bytes() == (finished[0] / name).read_bytes()


def test_a_killed_run_goes_on_to_the_same_rows(miniature, finished, tmp_path):
    folder = tmp_path / "run"
    command = ["--records", miniature, *QUICK, *FEW, "--output", folder]
    process = start(*command)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        time.sleep(0.02)
        if (folder / "aa_resnet18.safetensors").exists() and rows(folder):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    stored = rows(folder)
    assert set(stored) <= set(rows(finished[0]))
    status, _, err = run(*command)
    assert status == 0, err
    assert rows(folder) == rows(finished[0])


def test_an_interrupted_run_says_so_in_one_line(miniature, tmp_path):
    process = start("--records", miniature, *QUICK, *FEW, "--output", tmp_path / "run")
    deadline = time.monotonic() + 100
    while not (tmp_path / "run" / "config.yaml").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err and "the same command goes on" in err


def test_a_run_can_grow(evaluate, tmp_path):
    evaluate("--episodes", 2, "--sources", "dtd", "--heads", "prototypical")
    before = rows(tmp_path / "run")
    status, out, _ = evaluate("--episodes", 3, "--sources", "dtd", "--heads", "prototypical", "sur")
    assert status == 0 and "episodes per source: 3" in out
    grown = rows(tmp_path / "run")
    assert len(before) == 2 and len(grown) == 6 and set(before) <= set(grown)
    _, out, _ = evaluate("--episodes", 2, "--sources", "dtd", "--heads", "prototypical")
    assert "episodes per source: 2" in out and rows(tmp_path / "run") == grown


def test_several_backbones_are_sur_extractors(evaluate, checkpoint):
    copy = checkpoint.with_name("copy.safetensors")
    shutil.copy(checkpoint, copy)
    status, out, _ = evaluate(
        "--checkpoint", checkpoint, copy, "--episodes", 2, "--sources", "dtd",
        "--heads", "prototypical", "sur",
    )  # fmt: skip
    copy.unlink()
    assert status == 0
    assert "aa_resnet18#1" in out and "aa_resnet18#2" in out


def test_default_folders_differ_with_what_matters(evaluate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    head = tmp_path / "mine.py"
    text = (PROJECT / "README.md").read_text(encoding="utf-8").split("```python\n")[1]
    head.write_text(text.split("```")[0], encoding="utf-8")
    common = ("--episodes", 1, "--sources", "dtd", "--heads", f"{head}:NearestNeighbour")
    for change in ([], ["--seed", 1], ["--workers", 1]):
        evaluate(*common, *change, output="None")
    with head.open("a", encoding="utf-8") as file:
        file.write("# edited\n")
    assert "a new run" in evaluate(*common, output="None")[2]
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_pack_gives_the_same_rows_and_a_stale_one_is_named(evaluate, damaged, tmp_path):
    flags = ("--episodes", 2, "--sources", "dtd", "--heads", "prototypical")
    packing = ["pack", "--records", damaged, "--size", 32, "--sources", "dtd", "--splits", "test"]
    evaluate(*flags, records=damaged, output=tmp_path / "records")
    assert main([*map(str, packing)]) == 0
    _, _, err = evaluate(*flags, records=damaged, output=tmp_path / "packed")
    assert "instead of a pack" not in err
    assert rows(tmp_path / "packed") == rows(tmp_path / "records")
    os.utime(class_file(damaged), (1, 1))
    status, _, err = evaluate(*flags, records=damaged, output=tmp_path / "stale")
    assert status == 0 and "instead of a pack" in err and "changed" in err
    assert rows(tmp_path / "stale") == rows(tmp_path / "records")


def test_own_images_train_and_are_evaluated(tmp_path, capsys):
    for name in range(40):
        folder = tmp_path / "mine" / f"class{name:02d}"
        folder.mkdir(parents=True)
        for image in range(6):
            Image.new("RGB", (20, 20), (6 * name, 40 * image, 0)).save(folder / f"{image}.png")
    own = f"mine={tmp_path / 'mine'}"
    flags = [*QUICK, "--episodes", "2", "--records", tmp_path, "--source", own, "--sources", own]
    assert main([*map(str, [*flags, "--output", tmp_path / "run"])]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "aa_resnet18: trained on mine (train classes" in out


def test_help_is_quick_and_names_the_flags(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "--backbone" in out and "--records" in out


# ---- bad input -------------------------------------------------------------------------------


@pytest.fixture
def damaged(miniature, tmp_path):
    """A copy of two sources that a test may damage."""
    folder = tmp_path / "records"
    for source in ("omniglot", "dtd"):
        shutil.copytree(miniature / source, folder / source, ignore=lambda d, n: [".index"])
    return folder


def refused(result, *words):
    """Status 2, one message with these words, no traceback."""
    status, _, err = result
    assert status == 2
    message = " ".join(err[err.index("error: ") :].split())
    assert "Traceback" not in err
    for word in words:
        assert word in message, message


def class_file(damaged, source="dtd", where=-1):
    files = sorted((damaged / source).glob("*.tfrecords"), key=lambda p: int(p.stem))
    return files[where]


def test_missing_sources_are_named_and_left_out(evaluate, damaged):
    status, out, err = evaluate("--episodes", 2, "--heads", "prototypical", records=damaged)
    assert status == 0
    for source in set(SOURCES) - {"omniglot", "dtd"}:
        assert f"skipped: {source}" in err
    assert "ilsvrc_2012: not in the records." in " ".join(out.split())


def test_a_missing_source_that_was_named(evaluate, damaged):
    refused(evaluate("--sources", "fungi", records=damaged), "fungi", "there is no such folder")


def test_an_empty_folder(evaluate, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(
        evaluate(records=tmp_path / "empty"), "none of the sources ilsvrc_2012", "empty/ilsvrc_2012"
    )


def test_no_folder(evaluate, tmp_path):
    refused(evaluate(records=tmp_path / "none"), "there is no such folder", "--records")


def test_a_missing_class_file(evaluate, damaged):
    class_file(damaged).unlink()
    refused(evaluate(records=damaged), "1 of the", "class files of the test split", "25.tfrecords")


def test_a_truncated_record_keeps_the_rows_before_it(evaluate, damaged, tmp_path):
    for path in (damaged / "dtd").glob("*.tfrecords"):
        path.write_bytes(path.read_bytes()[:-7])
    flags = ("--heads", "prototypical", "--episodes", 2, "--sources", "omniglot", "dtd")
    refused(evaluate(*flags, records=damaged), ".tfrecords", "truncated", "Convert or copy")
    assert [row[1] for row in rows(tmp_path / "run")] == ["omniglot"] * 2


def test_a_wrong_checksum(evaluate, damaged):
    for path in (damaged / "dtd").glob("*.tfrecords"):
        content = bytearray(path.read_bytes())
        content[200::500] = bytes(255 - byte for byte in content[200::500])
        path.write_bytes(content)
    refused(evaluate("--sources", "dtd", records=damaged), ".tfrecords", "checksum")


def test_a_spec_that_disagrees_with_the_files(evaluate, damaged):
    spec = damaged / "dtd" / "dataset_spec.json"
    spec.write_text(spec.read_text().replace(": 30", ": 31"), encoding="utf-8")
    result = evaluate("--sources", "dtd", records=damaged)
    refused(result, "holds 30 records, but dataset_spec.json says 31")


def test_a_spec_that_is_no_json(evaluate, damaged):
    (damaged / "dtd" / "dataset_spec.json").write_text("{", encoding="utf-8")
    refused(evaluate("--sources", "dtd", records=damaged), "dataset_spec.json", "JSON")


def test_an_image_that_does_not_decode(evaluate, damaged):
    for path in (damaged / "dtd").glob("*.tfrecords"):
        write_records(path, [encode_example(b"\xff\xd8 no jpeg", int(path.stem))] * 30)
    refused(evaluate("--sources", "dtd", records=damaged), "does not decode", ".tfrecords")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--backbone", "aa_resnet19"], ["unknown backbone", "aa_resnet18"]),
        (["--heads", "prototypicl"], ["unknown head", "Did you mean 'prototypical'"]),
        (["--heads", "sur:stps=3"], ["unknown setting", "Did you mean 'steps'"]),
        (["--sources", "omniglott"], ["omniglott"]),
        (["--checkpoint", "nowhere"], ["nowhere", "there is no such file"]),
        (["--backbone", "resnet18"], ["holds the backbone aa_resnet18, not resnet18"]),
        (["trian"], ["unknown command 'trian'"]),
    ],
)
def test_wrong_names(evaluate, flags, words):
    result = evaluate(*flags) if flags[0] != "trian" else (main(flags), None, None)
    if flags[0] == "trian":
        assert result[0] == 2
    else:
        refused(result, *words)


def test_an_output_of_another_run_takes_a_new_one(evaluate, tmp_path):
    common = ("--episodes", 1, "--sources", "dtd", "--heads", "prototypical")
    evaluate(*common)
    err = evaluate(*common, "--seed", 4)[2]
    assert "a new run" in err and "seed: 0 -> 4" in err and len(rows(tmp_path / "run")) == 2


def test_a_checkpoint_of_other_settings_in_the_run_folder(miniature, finished, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(finished[0] / "aa_resnet18.safetensors", folder)
    flags = ["--records", miniature, *QUICK, *FEW, "--seed", 5, "--output", folder]
    result = (main([*map(str, flags)]), *capsys.readouterr())
    refused(result, "comes from a training with other settings", "Remove it")


def test_brackets_in_names_are_only_brackets(evaluate, tmp_path):
    flags = ("--episodes", 1, "--sources", "dtd", "--heads", "prototypical")
    status, out, _ = evaluate(*flags, output=tmp_path / "a[/b]" / "o[old]")
    assert status == 0 and "a[/b]" in out and "o[old]" in out


def test_records_that_changed_under_a_run(evaluate, damaged):
    common = ("--episodes", 1, "--sources", "dtd", "--heads", "prototypical")
    assert evaluate(*common, records=damaged)[0] == 0
    spec = damaged / "dtd" / "dataset_spec.json"
    spec.write_text(spec.read_text().replace(": 30", ": 29"), encoding="utf-8")
    for path in (damaged / "dtd").glob("*.tfrecords"):
        spans = list(pairwise(scan_offsets(path)))[:29]
        kept = read_examples(path, spans, range(29))
        write_records(path, [encode_example(image, label) for image, label in kept])
    assert "the source dtd: changed" in evaluate(*common, records=damaged)[2]


@contextmanager
def mounted(place, *arguments):
    """A file system of its own at `place`; skips where this user may not mount one."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, place], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a file system here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_read_only_records(evaluate, damaged, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with mounted(tmp_path / "read_only", "--bind", "-o", "ro", damaged) as records:
        flags = ("--sources", "dtd", "--episodes", 2, "--heads", "prototypical")
        assert evaluate(*flags, records=records)[0] == 0
    assert not (damaged / "dtd" / ".index").exists()


def test_a_full_disk_keeps_the_rows_written_before(evaluate, tmp_path):
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as small:
        flags = ("--sources", "dtd", "--heads", "prototypical")
        result = evaluate(*flags, "--episodes", 300, output=small / "run")
        refused(result, "the disk is full", "rows.sqlite", "Free some space", "goes on")
        shutil.copytree(small / "run", tmp_path / "copy")
    stored = rows(tmp_path / "copy")
    assert 0 < len(stored) < 300
    assert [row[2] for row in stored] == list(range(len(stored)))
    evaluate(*flags, "--episodes", 300, output=tmp_path / "copy")
    assert rows(tmp_path / "copy")[: len(stored)] == stored
