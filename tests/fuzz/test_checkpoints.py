"""Mutated checkpoints: the bytes of the safetensors file, its header, its card; saved states."""

import json
import struct

import pytest
import torch

from fewshot.backbones import build_backbone
from fewshot.checkpoint import Card, load_card, load_checkpoint, save_checkpoint
from fewshot.foreign import read_weights
from tests.fuzz.mutation import mutate_bytes, mutate_value, put, survive

NAME = "four_layer_convnet"


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of the smallest network, in its parts: header and weights."""
    classes = tuple("abcde")
    card = Card(NAME, "none", "dtd", "train", classes, 32, "official", "md-v1", 0, {"epochs": 1})
    save_checkpoint(tmp_path / "whole.safetensors", build_backbone(NAME, 5, 0), card)
    content = (tmp_path / "whole.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header, weights):
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + weights


def mutated(checkpoint, draw):
    """A checkpoint with something wrong in its bytes, its header or its card."""
    header, weights = checkpoint
    match draw.randrange(4):
        case 0:
            return mutate_bytes(joined(header, weights), draw)
        case 1:
            text = mutate_bytes(json.dumps(header).encode(), draw)
            return struct.pack("<Q", len(text)) + text + weights
        case 2:
            return joined(mutate_value(header, draw), weights)
        case _:
            card = mutate_value(json.loads(header["__metadata__"]["card"]), draw)
            return joined(header | {"__metadata__": {"card": json.dumps(card)}}, weights)


@pytest.mark.parametrize("reader", ["checkpoint", "card"])
def test_checkpoints(checkpoint, tmp_path, reader):
    path = tmp_path / "mutated.safetensors"

    def read(content):
        put(path, content)
        return load_checkpoint(path, NAME) if reader == "checkpoint" else load_card(path)

    survive(reader, 600, lambda draw: mutated(checkpoint, draw), read)


def test_pickled_weights(checkpoint, tmp_path):
    path = tmp_path / "mutated.pth"
    torch.save({"state_dict": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)}}, path)
    whole = path.read_bytes()
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    old = path.read_bytes()

    def make(draw):
        return mutate_bytes(draw.choice([whole, old]), draw)

    survive("pickled weights", 1000, make, lambda content: read_weights(put(path, content)))
