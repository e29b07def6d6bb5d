"""SUR-pnf: what is put in changes nothing at first, learns alone, and is loaded back."""

import pytest
import torch

from episodes.faults import InputError
from fewshot.backbones import build_backbone
from fewshot.checkpoint import load_checkpoint
from fewshot.film import FILM, insert_film
from run_meta_dataset import main


def test_it_computes_what_it_did_and_has_7686_numbers():
    backbone = build_backbone("resnet18_sur", 5, 0).eval()
    images = torch.rand(2, 3, 40, 40)
    before = backbone(images)
    insert_film(backbone)
    torch.testing.assert_close(backbone.eval()(images), before)
    assert backbone.embed(images).shape == (2, 512)
    numbers = [p.numel() for name, p in backbone.named_parameters() if FILM in name]
    assert sum(numbers) == 7686


def test_scale_and_offset_are_of_channels():
    backbone = build_backbone("resnet18", 5, 0).eval()
    insert_film(backbone)
    norm = backbone.network.layer2[1].bn2
    maps = torch.rand(2, 128, 4, 4)
    plain = norm(maps)
    with torch.no_grad():
        norm.film_scale[7], norm.film_offset[7] = 3.0, -1.0
    changed = norm(maps)
    torch.testing.assert_close(changed[:, 7], 3 * plain[:, 7] - 1)
    torch.testing.assert_close(changed[:, 8:], plain[:, 8:])


def test_a_network_without_basic_blocks():
    with pytest.raises(InputError, match="is no plain network of basic blocks"):
        insert_film(build_backbone("efficientnet_b0", 5, 0))


def test_only_scales_offsets_classifier_and_statistics_change(miniature, tmp_path, capsys):
    common = ["train", "--records", miniature, "--output", tmp_path, "--backbone", "resnet18"]
    common += ["--image-size", 32, "--batch-size", 16, "--steps", 2, "--device", "cpu"]
    assert main([*map(str, [*common, "--train-sources", "dtd"])]) == 0
    init = tmp_path / "dtd.safetensors"
    film = [*common, "--train-sources", "cu_birds", "--method", "film"]
    assert main([*map(str, film)]) == 2  # on top of what?
    assert main([*map(str, [*film, "--init", init, "--classifier", "cosine"])]) == 0
    base, _ = load_checkpoint(init, "resnet18")
    found, card = load_checkpoint(tmp_path / "cu_birds.film.safetensors", "resnet18")
    assert card.seen == ("dtd:train", "cu_birds:train") and card.method == "film"
    filmed, plain = found.network.state_dict(), base.network.state_dict()
    for name, tensor in plain.items():
        same = filmed[name].shape == tensor.shape and torch.equal(filmed[name], tensor)
        own = "fc." in name or "running" in name or "num_batches" in name
        assert same != own, name
    moved = [n for n, t in filmed.items() if "film_scale" in n and not (t == 1).all()]
    assert len(moved) == 17  # 16 norms and the input
    both = ["--checkpoint", init, tmp_path / "cu_birds.film.safetensors", "--heads", "sur_pnf"]
    both += ["--records", miniature, "--backbone", "resnet18", "--image-size", 32, "--episodes", 1]
    both += ["--sources", "cu_birds", "--output", tmp_path / "run", "--device", "cpu"]
    assert main([*map(str, both)]) == 0
    told = capsys.readouterr().out
    assert "sur_pnf" in told and "it began with weights that saw dtd:train" in told
