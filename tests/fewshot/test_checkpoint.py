"""Checkpoints: what goes in comes out, and whatever is wrong is said."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from episodes import faults
from episodes.faults import InputError
from fewshot.backbones import build_backbone
from fewshot.checkpoint import Card, hash_weights, load_checkpoint, load_tensors, save_checkpoint

CARD = Card(
    backbone="aa_resnet18",
    records="miniature v1",
    source="dtd",
    split="train",
    classes=("dotted", "woven", "gauze"),
    image_size=84,
    image_rule="official",
    protocol="md-v1",
    seed=3,
    training={"epochs": 2, "augment": "flip"},
    git_commit="0" * 40,
    versions={"torch": "2", "timm": None},
)


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("aa_resnet18", classes=3, seed=3).eval()


@pytest.fixture
def path(tmp_path, backbone):
    save_checkpoint(tmp_path / "a.safetensors", backbone, CARD)
    return tmp_path / "a.safetensors"


def test_round_trip(path, backbone):
    loaded, card = load_checkpoint(path, "aa_resnet18")
    assert card == replace(CARD, weights=hash_weights(backbone.network.state_dict()))
    images = torch.rand(2, 3, 40, 40)
    assert torch.equal(loaded.eval()(images), backbone(images))


def test_hash_sees_name_shape_type_and_value():
    base = {"a": torch.zeros(2, 3)}
    others = [
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": torch.tensor([[0.0, 0, 0], [0, 0, 1e-30]])},
    ]
    hashes = {hash_weights(weights) for weights in (base, *others)}
    assert len(hashes) == 5


def test_layout_in_memory_does_not_change_the_hash(backbone):
    last = build_backbone("aa_resnet18", 3, 3).to(memory_format=torch.channels_last)
    assert hash_weights(last.network.state_dict()) == hash_weights(backbone.network.state_dict())


def test_of_another_backbone(path):
    message = r"holds the backbone aa_resnet18, not resnet18. Add --backbone aa_resnet18"
    with pytest.raises(InputError, match=message):
        load_checkpoint(path, "resnet18")


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        load_checkpoint(tmp_path / "none.safetensors", "resnet18")


def test_a_foreign_safetensors_file_has_no_card(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="has no card"):
        load_checkpoint(tmp_path / "x.safetensors", "resnet18")


def test_an_incomplete_card(tmp_path):
    card = json.dumps({"backbone": "resnet18"})
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", {"card": card})
    with pytest.raises(InputError, match="has no card"):
        load_checkpoint(tmp_path / "x.safetensors", "resnet18")


def test_a_pickle_is_not_opened(tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="is not a readable checkpoint"):
        load_checkpoint(tmp_path / "x.pth", "resnet18")


@pytest.mark.parametrize("keep", [0, 4, 100, 100_000])
def test_cut_off(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="is not a readable checkpoint"):
        load_checkpoint(path, "aa_resnet18")


def test_a_flipped_bit_in_the_weights_is_noticed(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="it is damaged"):
        load_checkpoint(path, "aa_resnet18")


def test_a_full_disk_keeps_the_old_file(path, backbone, monkeypatch):
    before = path.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match="the disk is full"):
        save_checkpoint(path, backbone, CARD)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    assert faults.is_disk_full(OSError(28, ""))


def test_tensors_come_back_with_their_metadata(tmp_path):
    save_file({"x": torch.arange(3)}, tmp_path / "x.safetensors", {"k": "v"})
    tensors, metadata = load_tensors(tmp_path / "x.safetensors")
    assert tensors["x"].tolist() == [0, 1, 2] and metadata == {"k": "v"}
