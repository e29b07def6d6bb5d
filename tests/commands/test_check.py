"""`check` as a user sees it: the table, every fault with its remedy, the exit status."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tyro
from rich.console import Console

from commands.check import Command, run
from episodes import InputError

PROJECT = Path(__file__).parents[2]


def run_check(*arguments):
    console = Console(file=io.StringIO(), width=300, force_terminal=False)
    status = run(tyro.cli(Command, args=[str(argument) for argument in arguments]), console)
    return status, console.file.getvalue()


def test_a_clean_folder(miniature):
    status, text = run_check("--records", miniature, "--sources", "dtd", "omniglot", "--jobs", 1)
    assert status == 0
    assert "No faults in dtd, omniglot (2,420 images, not decoded (--deep does))." in text
    assert "note  dtd: not the full benchmark: 780 of 5640 images" in text
    assert "Not there" not in text


def test_faults_of_two_sources(miniature, tmp_path):
    for source in ("dtd", "omniglot"):
        shutil.copytree(miniature / source, tmp_path / source)
    (tmp_path / "dtd" / "4.tfrecords").write_bytes(b"")
    (tmp_path / "omniglot" / "7.tfrecords").unlink()
    status, text = run_check("--records", tmp_path, "--jobs", 1)
    assert status == 1
    four = tmp_path / "dtd" / "4.tfrecords"
    assert f"fault dtd: {four}: holds 0 records, but dataset_spec.json says 30.\n" in text
    assert "      Convert or copy this file again.\n" in text
    assert f"fault omniglot: {tmp_path / 'omniglot'}: class files are missing, 1 of 82: 7." in text
    assert "Not there: ilsvrc_2012, aircraft, cu_birds, quickdraw, fungi," in text
    assert "Faults: 2, in omniglot, dtd" in text


def test_a_source_that_may_not_be_looked_into_keeps_no_other_from_being_read(
    miniature, tmp_path, monkeypatch
):
    for source in ("dtd", "omniglot"):
        shutil.copytree(miniature / source, tmp_path / source)
    for name in ("stat", "read_text"):
        monkeypatch.setattr(Path, name, forbid(tmp_path / "dtd", getattr(Path, name)))
    status, text = run_check("--records", tmp_path, "--jobs", 1)
    assert status == 1 and "Faults: 1, in omniglot, dtd" in text
    assert "fault dtd: " in text and "cannot be read: Permission denied." in text
    assert not text.startswith("\n")


def forbid(folder, real):
    """A method of paths that refuses what lies in a folder."""

    def method(path, *arguments, **options):
        if path.is_relative_to(folder) and path != folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **options)

    return method


def test_square_brackets_in_names_are_text(tmp_path):
    folder = tmp_path / "[red]own"
    for name in ("[b]", "[bold red]"):
        (folder / name).mkdir(parents=True)
    status, text = run_check("--records", tmp_path, "--sources", f"my={folder}", "--jobs", 1)
    assert status == 1 and "an episode: [b], [bold red]." in text and "[red]own" in text


def test_unusable_input_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no source in this folder"):
        run_check("--records", tmp_path)


@pytest.mark.parametrize("seconds", [0.8, 1.2, 3])  # while the workers start, and later
def test_an_interrupted_check_leaves_at_once(miniature, tmp_path, seconds):
    """A real process and its workers, interrupted as by Ctrl-C in a terminal."""
    shutil.copytree(miniature / "quickdraw", tmp_path / "quickdraw")
    big = tmp_path / "quickdraw" / "0.tfrecords"
    big.write_bytes(big.read_bytes() * 3000)  # half a minute of decoding
    for other in set(tmp_path.glob("quickdraw/*.tfrecords")) - {big}:
        other.unlink()
        os.link(big, other)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from rich.console import Console\n"
        "from commands.check import Command, run\n"
        "if __name__ == '__main__':\n"
        "    print('started', flush=True)\n"
        "    try:\n"
        "        run(Command(Path(sys.argv[1]), jobs=2, deep=True), Console(file=sys.stderr))\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(program)
    process = subprocess.Popen(
        [sys.executable, script, tmp_path],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "started\n"
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    started = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors
    while any(
        state != "Z" for state in states_of_group(process.pid)
    ):  # workers notice by themselves
        assert time.monotonic() - started < 5
        time.sleep(0.05)
    assert time.monotonic() - started < 5


def states_of_group(group):
    """States of the processes of a group, "Z" for those that are dead and not yet buried."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pgid=,stat="], capture_output=True, text=True, check=True
    )
    rows = (line.split() for line in listed.stdout.splitlines())
    return [state[0] for of, state in rows if int(of) == group]


def test_the_table_has_a_row_per_source(miniature):
    _, text = run_check("--records", miniature, "--jobs", 2)
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert len(rows) == 10
    raw = json.loads((miniature / "fungi" / "dataset_spec.json").read_text())
    fungi = next(row.split() for row in rows if "fungi" in row)
    images = sum(raw["images_per_class"].values())
    classes = [str(raw["classes_per_split"][s]) for s in ("TRAIN", "VALID", "TEST")]
    assert [cell for cell in fungi if cell != "│"] == [
        "fungi", "records", *classes, str(len(raw["class_names"])), f"{images:,}", "0",
    ]  # fmt: skip
