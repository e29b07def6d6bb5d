"""The rules of baselines/learner.py, each a check that takes a method."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.learner import Learner
from baselines.method import Method
from baselines.table import build_head
from baselines.training import Episodic
from episodes.faults import InputError
from fewshot.backbones import Backbone, Learned, build_backbone
from fewshot.checkpoint import Card, hash_weights, load_checkpoint, save_checkpoint

SIZE = 16
CLOSE = {"rtol": 1e-7, "atol": 1e-7}


@dataclass(frozen=True)
class Task:
    """Images of well separated classes, in the order of `Learner.forward`."""

    support: Tensor
    labels: Tensor
    query: Tensor
    truth: Tensor
    way: int

    def scores(self, learner: Learner) -> Tensor:
        return drawn_alike(learner, self.support, self.labels, self.query, self.way)


def drawn_alike(learner: Learner, *episode: Any) -> Tensor:
    """The scores of a learner; what it draws is the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        scores: Tensor = learner(*episode)
    return scores


def make_task(shots: list[int], seed: int = 0, dtype: torch.dtype = torch.float64) -> Task:
    """Noise about an image of each class, three queries a class, in mixed order."""
    generator = torch.Generator().manual_seed(seed)
    way = len(shots)
    labels = torch.repeat_interleave(torch.arange(way), torch.tensor(shots))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    truth = torch.arange(way).repeat(3)
    means = torch.randn(way, 3, SIZE, SIZE, generator=generator)

    def draw(classes: Tensor) -> Tensor:
        noise = torch.randn(len(classes), 3, SIZE, SIZE, generator=generator)
        return (means[classes] + 0.3 * noise).to(dtype)

    return Task(draw(labels), labels, draw(truth), truth, way)


def network(name: str = "four_layer_convnet") -> Backbone:
    backbone = build_backbone(name, 1, seed=0)
    backbone.network.fc.requires_grad_(False)
    return backbone


def make_learner(method: Method, backbone: Backbone | None = None) -> Learner:
    """In float64 and evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        learner = method.learner(backbone or network(), SIZE)
    return learner.double().eval()


def checkpoint(method: Method, learner: Learner, path: Path) -> Backbone:
    """The learner written and read back, in float64."""
    backbone = learner.backbone
    if method.learns_from == "episodes":
        backbone = Episodic(learner, method).finish(backbone)
    card = Card(
        backbone=backbone.name,
        records="none",
        source="dtd",
        split="train",
        classes=("a", "b"),
        image_size=SIZE,
        image_rule="official",
        protocol="md-v1",
        seed=0,
        method=method.method,
        outputs=1,
        learner=backbone.learned.settings if backbone.learned else {},
    )
    save_checkpoint(path, backbone, card)
    return load_checkpoint(path, backbone.name)[0].double().eval()


def state(learner: torch.nn.Module) -> str:
    return hash_weights(learner.state_dict())


def check_scores(method: Method, folder: Path) -> None:
    learner = make_learner(method)
    for shots in ([1, 1], [5, 1, 3, 2]):
        task = make_task(shots)
        scores = task.scores(learner)
        assert scores.shape == (len(task.truth), task.way) and scores.dtype == torch.float64
        assert scores.isfinite().all()
        loss = learner.loss(scores, task.truth)
        assert loss.shape == () and loss.isfinite()


def check_numbering(method: Method, folder: Path) -> None:
    learner, task = make_learner(method), make_task([2, 3, 1])
    order = torch.tensor([2, 0, 1])
    renumbered = drawn_alike(learner, task.support, order[task.labels], task.query, task.way)
    torch.testing.assert_close(renumbered[:, order], task.scores(learner), **CLOSE)


def check_support_order(method: Method, folder: Path) -> None:
    learner, task = make_learner(method), make_task([2, 3, 1])
    mixed = torch.randperm(len(task.labels), generator=torch.Generator().manual_seed(2))
    scores = drawn_alike(learner, task.support[mixed], task.labels[mixed], task.query, task.way)
    torch.testing.assert_close(scores, task.scores(learner), **CLOSE)


def check_queries_alone(method: Method, folder: Path) -> None:
    """One by one as together; for transductive methods not so, or the mark would be untrue."""
    learner, task = make_learner(method), make_task([2, 3, 1])
    one = drawn_alike(learner, task.support, task.labels, task.query[4:6], task.way)
    same = torch.allclose(one, task.scores(learner)[4:6], **CLOSE)
    assert same != method.transductive


def check_changes_nothing(method: Method, folder: Path) -> None:
    learner, task = make_learner(method), make_task([2, 2])
    before = state(learner)
    task.scores(learner)
    assert state(learner) == before


def check_gradients(method: Method, folder: Path) -> None:
    """Every parameter that learns has a gradient; buffers follow in training alone."""
    learner, task = make_learner(method).train(), make_task([3, 2, 2])
    parameters = {name: p.detach().clone() for name, p in learner.named_parameters()}
    learner.loss(task.scores(learner), task.truth).backward()
    without = [name for name, p in learner.named_parameters() if p.requires_grad and p.grad is None]
    assert learner.skips_parameters or not without
    assert all(torch.equal(p, parameters[name]) for name, p in learner.named_parameters())


def check_learning(method: Method, folder: Path) -> None:
    """Steps along the gradient make the loss of the episode smaller."""
    learner, task = make_learner(method).train(), make_task([3, 2, 2])
    adam = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(8):
        adam.zero_grad()
        loss = learner.loss(task.scores(learner), task.truth)
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def check_head(method: Method, folder: Path) -> None:
    """Written, read back and run as a head, it gives the same scores and leaves no trace."""
    learner, task = make_learner(method), make_task([2, 3, 1])
    expected = None if method.method == "finetune" else task.scores(learner).detach()
    backbone = checkpoint(method, learner, folder / "x.safetensors")
    before = state(backbone)
    head = build_head(str(method))
    assert head == method and head.adapts_backbone
    drawn = torch.random.get_rng_state()
    with torch.inference_mode():
        generator = torch.Generator().manual_seed(0)
        predict = head.fit_backbone(backbone, task.support, task.labels, task.way, generator)
        scores = predict(task.query)
    # weights are kept in float32; a layer that is drawn is another one here
    if expected is not None:
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    assert not scores.requires_grad and state(backbone) == before
    assert torch.equal(predict(task.query), scores)
    assert torch.equal(torch.random.get_rng_state(), drawn)


def check_other_checkpoint(method: Method, folder: Path) -> None:
    task = make_task([2, 2])
    arguments = (task.support, task.labels, task.way, torch.Generator())
    with pytest.raises(InputError, match=f"was trained otherwise, not by {method.method}"):
        method.fit_backbone(network().double(), *arguments)


def check_weights_of_other_settings(method: Method, folder: Path) -> None:
    """Weights beside the backbone that do not fit: the message says how they were trained."""
    learner, task = make_learner(method), make_task([2, 2])
    backbone = checkpoint(method, learner, folder / "y.safetensors")
    arguments = (task.support, task.labels, task.way, torch.Generator())
    weights, settings = {"extra": torch.zeros(1)}, asdict(method)
    backbone.learned = Learned(method.method, settings, weights)
    with pytest.raises(InputError, match=r"do not fit: .* trained at another image size"):
        method.fit_backbone(backbone, *arguments)
    backbone.learned = Learned(method.method, settings | {"batch_norm": "other"}, weights)
    with pytest.raises(InputError, match=r"do not fit: .* trained with batch_norm=other"):
        method.fit_backbone(backbone, *arguments)


def check_antialiased(method: Method, folder: Path) -> None:
    """The same weights with filters: other scores, and a gradient."""
    task = make_task([2, 2])
    plain = make_learner(method)
    filtered = make_learner(method, network("aa_four_layer_convnet"))
    filtered.load_state_dict(plain.state_dict())
    scores = task.scores(filtered)
    assert not torch.allclose(scores, task.scores(plain), **CLOSE)


CHECKS: list[Callable[[Method, Path], Any]] = [
    value for name, value in list(globals().items()) if name.startswith("check_")
]
LEARNING = [
    check_gradients,
    check_learning,
    check_other_checkpoint,
    check_weights_of_other_settings,
]
"""Those for methods that learn from episodes."""
