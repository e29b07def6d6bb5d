"""Saved states: two of them, so that damage to the newest loses little."""

import pytest
import torch

from episodes.faults import InputError
from fewshot.training.snapshots import Snapshots


@pytest.fixture
def snapshots(tmp_path):
    found = Snapshots(tmp_path / "state.safetensors")
    for step in (1, 2, 3):
        found.save({"x": torch.full((100,), float(step))}, {"step": str(step)})
    return found


def flip(path, at=-50):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_the_newest_is_taken_and_two_are_kept(snapshots):
    state, metadata = snapshots.load()
    assert metadata["step"] == "3" and state["x"][0] == 3
    assert len(list(snapshots.newest.parent.iterdir())) == 2


@pytest.mark.parametrize("damage", ["bit", "cut", "gone"])
def test_the_one_before_serves_when_the_newest_is_damaged(snapshots, damage):
    said = []
    if damage == "bit":
        flip(snapshots.newest)
    elif damage == "cut":
        snapshots.newest.write_bytes(snapshots.newest.read_bytes()[:200])
    else:  # killed between the two renames
        snapshots.newest.unlink()
    _, metadata = snapshots.load(said.append)
    assert metadata["step"] == "2"
    assert len(said) == (0 if damage == "gone" else 1)
    assert all("Going on from the state before it." in sentence for sentence in said)


def test_both_damaged_is_an_error(snapshots):
    flip(snapshots.newest)
    flip(snapshots.before)
    with pytest.raises(InputError, match="Remove it to train from the start"):
        snapshots.load()


def test_none_at_all(snapshots):
    snapshots.remove()
    assert snapshots.load() is None


def test_a_full_disk_leaves_a_whole_state(snapshots, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match="the disk is full"):
        snapshots.save({"x": torch.zeros(1)}, {"step": "4"})
    monkeypatch.undo()
    assert snapshots.load()[1]["step"] == "3"
