"""The contract of fewshot/heads/base.py, held against every head of the table.

Each rule is a check that takes a head. The second half plants heads that break one rule each:
the suite is worth something only if it fails on them.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from episodes.faults import InputError
from fewshot.heads import HEADS, Features, Head, ImagePredictor, Predictor, build_head

CASES = [*HEADS, "prototypical:distance=cosine", "finetune:layers=all,steps=40,backbone_lr=0.001"]
CASES += ["finetune:normalise=false"]
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


class TinyBackbone(nn.Module):
    """A convolution, batch norm with statistics of its own, and 2x2 pooling: D = 32."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.conv = nn.utils.skip_init(nn.Conv2d, 3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        with torch.no_grad():
            self.conv.weight.normal_(0, 0.2, generator=generator)
            self.conv.bias.zero_()
            self.norm.running_mean.normal_(0, 0.1, generator=generator)
            self.norm.running_var.uniform_(0.5, 1.5, generator=generator)

    def embed(self, images: Tensor) -> Tensor:
        maps = self.norm(self.conv(images)).relu()
        return nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1)


@dataclass(frozen=True)
class Task:
    """One episode: features of K extractors, or (for heads that tune) images as the only one."""

    support: tuple[Tensor, ...]
    labels: Tensor
    query: tuple[Tensor, ...]
    truth: Tensor
    way: int
    backbone: nn.Module | None = None


def gaussians(head: Head, shots: list[int], dtype: torch.dtype = torch.float64) -> Task:
    """Well separated Gaussian classes in the shape the head wants, three queries a class."""
    generator = torch.Generator().manual_seed(len(shots))
    way = len(shots)
    labels = torch.repeat_interleave(torch.arange(way), torch.tensor(shots))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    truth = torch.arange(way).repeat(3)
    shapes: list[tuple[int, ...]] = [(48,), (16,), (64,)] if head.extractors == "many" else [(48,)]
    if head.adapts_backbone:
        shapes = [(3, 8, 8)]

    def draw(means: Tensor, classes: Tensor) -> Tensor:
        noise = torch.randn(len(classes), *means.shape[1:], generator=generator)
        return (means[classes] + 0.3 * noise).to(dtype)

    means = [2 * torch.randn(way, *shape, generator=generator) for shape in shapes]
    return Task(
        tuple(draw(mean, labels) for mean in means),
        labels,
        tuple(draw(mean, truth) for mean in means),
        truth,
        way,
        TinyBackbone().to(dtype) if head.adapts_backbone else None,
    )


def fit(head: Head, task: Task) -> Predictor:
    generator = torch.Generator().manual_seed(7)
    if task.backbone is None:
        return head.fit(task.support, task.labels, task.way, generator)
    predict = head.fit_backbone(task.backbone, task.support[0], task.labels, task.way, generator)
    return lambda query: predict(query[0])


def scores_of(head: Head, task: Task) -> Tensor:
    return fit(head, task)(task.query)


def digest(tensors: Iterable[Tensor]) -> str:
    """A hash of the bits of some tensors."""
    bits = hashlib.sha256()
    for tensor in tensors:
        bits.update(tensor.detach().contiguous().numpy().tobytes())
    return bits.hexdigest()


def check_scores(head: Head) -> None:
    for dtype in (torch.float32, torch.float64, torch.float16):
        if dtype == torch.float16 and head.adapts_backbone:
            continue  # the backbone's own business
        for shots in ([1, 1], [5, 1, 9, 2, 20], [2] * 50, [1] * 5):
            task = gaussians(head, shots, dtype)
            scores = scores_of(head, task)
            assert scores.shape == (len(task.truth), task.way)
            assert scores.dtype == dtype
            assert scores.isfinite().all()
            assert not scores.requires_grad


def check_accuracy(head: Head) -> None:
    for shots in ([5] * 5, [1, 3, 12, 4, 2, 7], [1] * 20):
        task = gaussians(head, shots)
        accuracy = (scores_of(head, task).argmax(dim=1) == task.truth).double().mean()
        assert accuracy > 0.8, f"{head} reaches {accuracy:.2f} on separable classes"


def check_query_alone(head: Head) -> None:
    task = gaussians(head, [3, 1, 5, 2])
    predict = fit(head, task)
    together = predict(task.query)
    alone = [predict([q[i : i + 1] for q in task.query]) for i in range(len(task.truth))]
    agree = torch.allclose(torch.cat(alone), together, **CLOSE)
    assert agree or head.transductive, f"{head} is inductive, but a query's scores need the others"


def check_label_permutation(head: Head) -> None:
    task = gaussians(head, [3, 1, 5, 2])
    order = torch.tensor([2, 0, 3, 1])
    renamed = scores_of(head, replace(task, labels=order[task.labels]))
    torch.testing.assert_close(renamed[:, order], scores_of(head, task), **CLOSE)


def check_support_order(head: Head) -> None:
    task = gaussians(head, [3, 1, 5, 2])
    order = torch.randperm(len(task.labels), generator=torch.Generator().manual_seed(5))
    mixed = replace(task, support=tuple(s[order] for s in task.support), labels=task.labels[order])
    torch.testing.assert_close(scores_of(head, mixed), scores_of(head, task), **CLOSE)


def check_same_twice(head: Head) -> None:
    task = gaussians(head, [3, 1, 5, 2], torch.float32)
    predict = fit(head, task)
    first = predict(task.query)
    fit(head, gaussians(head, [4, 4, 4], torch.float32))(task.query)  # another episode between
    assert torch.equal(predict(task.query), first)
    assert torch.equal(scores_of(head, task), first)


def check_untouched(head: Head) -> None:
    task = gaussians(head, [3, 1, 5, 2])
    state = [] if task.backbone is None else list(task.backbone.state_dict().values())
    held = [*task.support, task.labels, *task.query, *state]
    before, draws = digest(held), torch.get_rng_state()
    scores_of(head, task)
    assert digest(held) == before
    assert torch.equal(torch.get_rng_state(), draws)
    if task.backbone is not None:
        assert task.backbone.training
        assert all(p.grad is None and p.requires_grad for p in task.backbone.parameters())


def check_inference_mode(head: Head) -> None:
    task = gaussians(head, [3, 1, 5, 2])
    expected = scores_of(head, task)
    with torch.inference_mode():
        born_inside = replace(task, support=tuple(s * 1 for s in task.support))
        assert torch.equal(scores_of(head, born_inside), expected)


def check_faults(head: Head) -> None:
    task = gaussians(head, [3, 1, 5, 2])
    for labels, message in (
        (task.labels.clamp(max=2), r"1 of 4 classes have no support item \(first: class 3\)"),
        (task.labels + 1, "labels run from 1 to 4"),
        (task.labels[:-1], r"shape \[10\], but the support has 11"),
        (task.labels.double(), "torch.float64"),
    ):
        with pytest.raises(InputError, match=message):
            fit(head, replace(task, labels=labels))


CHECKS = [
    check_scores,
    check_accuracy,
    check_query_alone,
    check_label_permutation,
    check_support_order,
    check_same_twice,
    check_untouched,
    check_inference_mode,
    check_faults,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("text", CASES)
def test_head_keeps_the_contract(text: str, check: Callable[[Head], None]) -> None:
    check(build_head(text))


@pytest.mark.parametrize("name", HEADS)
def test_settings_cannot_be_changed_in_place(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(build_head(name), "steps", 3)  # noqa: B010


class Planted(Head):
    """A correct nearest-mean head with one place for a fault."""

    name = "planted"

    def fit(
        self, support: Features, labels: Tensor, way: int, generator: torch.Generator
    ) -> Predictor:
        means = torch.stack([support[0][labels == k].mean(0) for k in range(way)])
        return lambda query: self.spoil(-torch.cdist(query[0], means), support[0], labels)

    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores


class SecretlyTransductive(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores - scores.mean(dim=0)


class FavoursClassZero(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores + 1e-3 * torch.eye(scores.shape[1])[0]


class LooksAtTheOrder(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores + features[0, 0]


class Remembers(Planted):
    calls: list[int] = []  # noqa: RUF012

    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        self.calls.append(1)
        return scores + len(self.calls)


class WritesIntoTheSupport(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        features += 1
        return scores


class DrawsFromTheGlobalGenerator(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores + 0 * torch.rand(1)


class ForgetsTheDtype(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores.float()


class ReturnsNan(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return scores.log()


class Guesses(Planted):
    def spoil(self, scores: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return torch.zeros_like(scores)


class TunesInPlace(Head):
    name = "tunes-in-place"

    @property
    def adapts_backbone(self) -> bool:
        return True

    def fit_backbone(
        self,
        backbone: nn.Module,
        images: Tensor,
        labels: Tensor,
        way: int,
        generator: torch.Generator,
    ) -> ImagePredictor:
        next(backbone.parameters()).data.mul_(1.001)
        return lambda query: query.flatten(1)[:, :way]


@pytest.mark.parametrize(
    ("planted", "check"),
    [
        (SecretlyTransductive, check_query_alone),
        (FavoursClassZero, check_label_permutation),
        (LooksAtTheOrder, check_support_order),
        (Remembers, check_same_twice),
        (WritesIntoTheSupport, check_untouched),
        (DrawsFromTheGlobalGenerator, check_untouched),
        (ForgetsTheDtype, check_scores),
        (ReturnsNan, check_scores),
        (Guesses, check_accuracy),
        (TunesInPlace, check_untouched),
    ],
)
def test_suite_catches_a_planted_fault(planted: type[Head], check: Callable[[Head], None]) -> None:
    with pytest.raises(AssertionError):
        check(planted())


def test_suite_lets_a_marked_transductive_head_pass() -> None:
    class Marked(SecretlyTransductive):
        transductive = True

    check_query_alone(Marked())


def test_planted_heads_are_sound_but_for_the_fault() -> None:
    for check in CHECKS:
        if check not in (check_scores, check_faults):  # cdist has no half; nothing is validated
            check(Planted())
