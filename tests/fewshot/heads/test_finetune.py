"""Fine-tuning against torch's own layer and optimiser, and the promises about the backbone."""

import copy

import pytest
import torch
from torch import Tensor, nn

from episodes.faults import InputError
from fewshot import score
from fewshot.heads import build_head
from fewshot.heads.tuning import CHUNK


def features(count: int, dim: int, way: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % way
    noise = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    return noise + torch.eye(way, dim, dtype=torch.float64)[labels] * 2, labels


def zero_layer(dim: int, way: int) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, dim, way, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


@pytest.mark.parametrize("normalise", [True, False])
def test_layer_against_torch(normalise: bool) -> None:
    support, labels = features(23, 12, 4, seed=0)
    query, _ = features(9, 12, 4, seed=1)
    scale = (lambda x: 10 * x / x.norm(dim=1, keepdim=True)) if normalise else (lambda x: x)
    layer = zero_layer(12, 4)
    adam = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(100):
        adam.zero_grad()
        nn.functional.cross_entropy(layer(scale(support)), labels).backward()
        adam.step()
    scores = score("finetune", support, labels, query, normalise=normalise)
    torch.testing.assert_close(scores, layer(scale(query)).detach(), rtol=1e-9, atol=1e-9)


class Network(nn.Module):
    """Convolution, batch norm, dropout and a classifier that `embed` does not use."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 6, 3)
            self.classifier = nn.Linear(6, 10)
        self.norm, self.dropout = nn.BatchNorm2d(6), nn.Dropout()

    def embed(self, images: Tensor) -> Tensor:
        return self.dropout(self.norm(self.conv(images)).relu().mean((2, 3)))


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 6, 6, generator=generator, dtype=torch.float64) * 2 - 1


def test_all_layers_against_torch_in_one_batch() -> None:
    count, way = 2 * CHUNK + 5, 3
    support, query, labels = images(count, 0), images(CHUNK + 1, 1), torch.arange(count) % way
    network = Network().double()
    head = build_head("finetune:layers=all,steps=6,lr=0.02,backbone_lr=0.003")
    scores = head.fit_backbone(network, support, labels, way, torch.Generator())(query)

    direct, layer = copy.deepcopy(network).eval(), zero_layer(6, way)
    rates = [
        {"params": [*direct.parameters()], "lr": 0.003},
        {"params": [*layer.parameters()], "lr": 0.02},
    ]
    adam = torch.optim.Adam(rates)

    def logits(batch: Tensor) -> Tensor:
        embedded = direct.embed(batch)
        return layer(10 * embedded / embedded.norm(dim=1, keepdim=True))

    for _ in range(6):
        adam.zero_grad()
        nn.functional.cross_entropy(logits(support), labels).backward()
        adam.step()
    torch.testing.assert_close(scores, logits(query).detach(), rtol=1e-6, atol=1e-8)
    assert not torch.equal(direct.conv.weight, network.conv.weight)


def test_all_layers_holds_a_bounded_batch_at_a_time() -> None:
    seen: list[int] = []

    class Counting(Network):
        def embed(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().embed(images)

    head = build_head("finetune:layers=all,steps=1")
    support, labels = images(500, 0), torch.arange(500) % 50
    # A deep copy shares `seen`, which belongs to the function, not to the module.
    head.fit_backbone(Counting().double(), support, labels, 50, torch.Generator())(images(100, 1))
    assert max(seen) == CHUNK and sum(seen) == 1 + 500 + 100


def test_frozen_parameters_are_tuned_on_the_copy_only() -> None:
    network = Network().double().requires_grad_(False)
    head = build_head("finetune:layers=all,steps=3,backbone_lr=0.1")
    support, labels = images(6, 0), torch.arange(6) % 2
    tuned = head.fit_backbone(network, support, labels, 2, torch.Generator())(support)
    fixed = score("finetune:steps=3", network.eval().embed(support), labels, network.embed(support))
    assert not torch.allclose(tuned, fixed)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_what_each_variant_needs() -> None:
    support, labels = features(4, 3, 2, seed=0)
    with pytest.raises(InputError, match="needs the support images"):
        score("finetune:layers=all", support, labels, support)
    with pytest.raises(InputError, match="leaves the backbone alone"):
        build_head("finetune").fit_backbone(Network(), images(2, 0), labels, 2, torch.Generator())
    with pytest.raises(InputError, match=r"nn.Linear|Linear: the backbone has no `embed`"):
        build_head("finetune:layers=all").fit_backbone(
            nn.Linear(2, 2), images(4, 0), labels, 2, torch.Generator()
        )
