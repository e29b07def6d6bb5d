"""A training's files have one writer."""

import subprocess
import sys
from pathlib import Path

import pytest

from episodes.faults import InputError
from fewshot.training.files import Files

PROJECT = Path(__file__).resolve().parents[3]
HOLD = """
import sys, time
from pathlib import Path
from fewshot.training.files import Files
claim = Files(Path(sys.argv[1]), "dtd").claim
assert claim.take()
print("taken", flush=True)
time.sleep(600)
"""


def test_the_claim_of_another_process_ends_with_it(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    try:
        assert holder.stdout.readline() == "taken\n"
        claim, other = Files(tmp_path, "dtd").claim, Files(tmp_path, "cu_birds").claim
        assert not claim.take() and other.take()
        other.give_back()
    finally:
        holder.kill()
        holder.communicate()
    assert claim.take()
    claim.give_back()
    assert not claim.path.exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Choose another --output"):
        Files(tmp_path / "file" / "run", "dtd").claim.take()
