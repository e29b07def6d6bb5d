"""Heads that tune the backbone, against PyTorch's modules and optimisers in one batch."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from episodes.faults import InputError
from fewshot.backbones import build_backbone
from fewshot.heads import TUNING, build_head
from fewshot.heads.pmf import augmented
from fewshot.heads.tsa import attach_adapters
from fewshot.heads.tuning import CHUNK, backward, embed_all
from tests.fewshot.heads.drawn import means_of

WAY = 3
NEAR = {"rtol": 1e-6, "atol": 1e-7}


class Network(nn.Module):
    """A stem, a strided block with batch norm, another convolution: D = 8."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, 6, 5, padding=2)
            self.block = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False)
            self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def embed(self, images: Tensor) -> Tensor:
        maps = self.norm(self.block(self.stem(images).relu())).relu()
        return self.last(maps).mean((2, 3))


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(count, 3, 8, 8, generator=generator, dtype=torch.float64)
    return drawn * 2 - 1 + 0.3 * (torch.arange(count) % WAY)[:, None, None, None]


@pytest.fixture(params=[11, CHUNK + 9], ids=["one chunk", "two chunks"])
def episode(request):
    count = request.param
    return images(count, 0), torch.arange(count) % WAY, images(7, 1)


def cosines(items: Tensor, prototypes: Tensor) -> Tensor:
    return functional.cosine_similarity(items[:, None], prototypes[None], dim=2)


def tuned(text: str, episode, network=None) -> Tensor:
    support, labels, query = episode
    network = network or Network().double()
    return build_head(text).fit_backbone(network, support, labels, WAY, torch.Generator())(query)


def test_gradient_in_chunks_is_the_gradient(episode):
    support, labels, _ = episode
    grads = []
    for chunked in (True, False):
        network = Network().double().eval()

        def loss(features):
            return functional.cross_entropy(cosines(features, means_of(features, labels)), labels)

        if chunked:
            backward(network, support, loss)
        else:
            loss(network.embed(support)).backward()
        grads.append([p.grad for p in network.parameters()])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_tsa_against_adapters_beside_convolutions(episode):
    support, labels, query = episode
    network = Network().double().eval().requires_grad_(False)
    adapters = {}
    for name, stride in (("block", 2), ("last", 1)):
        conv = getattr(network, name)
        alpha = 1e-4 * torch.eye(*conv.weight.shape[:2]).double()
        adapters[name] = alpha.requires_grad_(True)

        def beside(conv, inputs, output, alpha=alpha, stride=stride):
            return output + functional.conv2d(inputs[0], alpha[..., None, None], stride=stride)

        conv.register_forward_hook(beside)
    beta = torch.eye(8).double().requires_grad_(True)
    groups = [{"params": list(adapters.values())}, {"params": [beta], "lr": 1.0}]
    adadelta = torch.optim.Adadelta(groups, lr=0.5)

    def logits(items):
        return 10 * cosines(items @ beta.T, means_of(network.embed(support) @ beta.T, labels))

    for _ in range(10):
        adadelta.zero_grad()
        functional.cross_entropy(logits(network.embed(support)), labels).backward()
        adadelta.step()
    scores = tuned("tsa:steps=10,lr=0.5,alignment_lr=1", episode)
    torch.testing.assert_close(scores, logits(network.embed(query)).detach(), **NEAR)


def test_tsa_has_the_published_adapters():
    network = build_backbone("resnet18_sur", 5, 0).requires_grad_(False)
    adapters = attach_adapters(network)
    assert len(adapters) == 16
    assert sum(alpha.numel() for alpha in adapters) == 1_220_608


def test_tsa_reaches_anti_aliased_networks():
    plain, filtered = (build_backbone(name, 5, 0) for name in ("resnet18", "aa_resnet18"))
    assert len(attach_adapters(plain)) == len(attach_adapters(filtered)) == 16


def test_pmf_without_augmentation_against_adam(episode):
    support, labels, query = episode
    network = Network().double().eval()
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(8):
        features = network.embed(support)
        adam.zero_grad()
        functional.cross_entropy(
            10 * cosines(features, means_of(features, labels)), labels
        ).backward()
        adam.step()
    expected = 10 * cosines(network.embed(query), means_of(network.embed(support), labels))
    scores = tuned("pmf:steps=8,lr=0.001,augment=false", episode)
    torch.testing.assert_close(scores, expected.detach(), **NEAR)


def test_pmf_augments_by_its_generator():
    support = images(6, 0)
    changes = [augmented(support, torch.Generator().manual_seed(seed)) for seed in range(30)]
    again = augmented(support, torch.Generator().manual_seed(3))
    assert torch.equal(again, changes[3])
    assert all(change.shape == support.shape and change.isfinite().all() for change in changes)
    same = sum(torch.equal(change, support) for change in changes)
    assert 0 < same < 12  # one in ten is left alone
    moved = next(change for change in changes if not torch.equal(change, support))
    assert len({tuple(image.mean((1, 2)).tolist()) for image in moved}) == 6


@pytest.mark.parametrize("start", ["own", "scratch"])
@pytest.mark.parametrize("statistics", ["support", "stored"])
def test_flute_against_batch_norm_by_hand(episode, start, statistics):
    support, labels, query = episode
    network = Network().double().eval().requires_grad_(False)
    network.norm.weight.fill_(1.5), network.norm.running_var.fill_(0.7)
    given = copy.deepcopy(network)
    if start == "scratch":
        network.norm.weight.fill_(1.0), network.norm.bias.fill_(0.0)
    parameters = [network.norm.weight.requires_grad_(), network.norm.bias.requires_grad_()]
    adam = torch.optim.Adam(parameters, lr=0.01)

    def embed(batch):
        maps, reference = (network.block(network.stem(x).relu()) for x in (batch, support))
        mean, var = network.norm.running_mean, network.norm.running_var
        if statistics == "support":
            mean, var = reference.mean((0, 2, 3)), reference.var((0, 2, 3), correction=0)
        maps = (maps - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        maps = maps * parameters[0][:, None, None] + parameters[1][:, None, None]
        return network.last(maps.relu()).mean((2, 3))

    for _ in range(5):
        adam.zero_grad()
        features = embed(support)
        functional.cross_entropy(cosines(features, means_of(features, labels)), labels).backward()
        adam.step()
    expected = cosines(embed(query), means_of(embed(support), labels)).detach()
    text = f"flute:steps=5,lr=0.01,start={start},statistics={statistics}"
    torch.testing.assert_close(tuned(text, episode, given), expected, **NEAR)


def test_proto_maml_against_autograd(episode):
    support, labels, query = episode
    network = Network().double().eval()
    means = means_of(network.embed(support), labels).detach()
    weight, bias = (2 * means).requires_grad_(), (-(means**2).sum(1)).requires_grad_()
    inner = [p for name, p in network.named_parameters() if "norm" not in name]
    for _ in range(6):
        loss = functional.cross_entropy(network.embed(support) @ weight.T + bias, labels)
        slopes = torch.autograd.grad(loss, [*inner, weight, bias])
        with torch.no_grad():
            for parameter, slope in zip([*inner, weight, bias], slopes, strict=True):
                parameter.sub_(0.02 * slope)
    expected = network.embed(query) @ weight.T + bias
    scores = tuned("proto_maml:lr=0.02", episode)
    torch.testing.assert_close(scores, expected.detach(), **NEAR)


@pytest.mark.parametrize("name", [head.name for head in TUNING])
def test_memory_does_not_grow_with_the_support(name):
    seen = []

    class Counting(Network):
        def embed(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().embed(images)

    text = {"finetune": "finetune:layers=all,", "flute": "flute:statistics=stored,"}
    head = build_head(text.get(name, f"{name}:") + "steps=1")
    support, labels = images(100, 0), torch.arange(100) % WAY
    head.fit_backbone(Counting().double(), support, labels, WAY, torch.Generator())(images(50, 1))
    assert max(seen) == CHUNK


def test_what_a_network_must_have():
    support, labels = images(6, 0), torch.arange(6) % WAY
    bare = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    bare.embed = bare.forward
    for name, message in (("tsa", "no 3 x 3 convolution"), ("flute", "no batch normalisation")):
        with pytest.raises(InputError, match=message):
            build_head(name).fit_backbone(bare.double(), support, labels, WAY, torch.Generator())
    with pytest.raises(InputError, match="has no `embed`"):
        embed_all(nn.Linear(2, 2), support)
