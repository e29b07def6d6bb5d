"""Tasks for heads, and the rules of fewshot/heads/base.py, each a check that takes a head."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from episodes.faults import InputError
from fewshot.heads import Head, Predictor
from fewshot.heads.batch import Episode, EpisodeHead, score_batch

CLOSE = {"rtol": 1e-6, "atol": 1e-6}


class TinyBackbone(nn.Module):
    """Two convolutions, batch norm with statistics of its own, and 2x2 pooling: D = 32."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.conv = nn.utils.skip_init(nn.Conv2d, 3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.mixing = nn.utils.skip_init(nn.Conv2d, 8, 8, 3, padding=1)
        with torch.no_grad():
            self.conv.weight.normal_(0, 0.2, generator=generator)
            self.conv.bias.zero_()
            nn.init.dirac_(self.mixing.weight)
            self.mixing.bias.zero_()
            self.norm.running_mean.normal_(0, 0.1, generator=generator)
            self.norm.running_var.uniform_(0.5, 1.5, generator=generator)

    def embed(self, images: Tensor) -> Tensor:
        maps = self.mixing(self.norm(self.conv(images)).relu()).relu()
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
    shapes: list[tuple[int, ...]] = [(48,)]
    if head.extractors == "many":
        shapes = [(48,), (48,), (48,)] if head.name == "urt" else [(48,), (16,), (64,)]
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


def check_query_order(head: Head) -> None:
    task = gaussians(head, [3, 1, 5, 2])
    order = torch.randperm(len(task.truth), generator=torch.Generator().manual_seed(5))
    mixed = replace(task, query=tuple(q[order] for q in task.query))
    torch.testing.assert_close(scores_of(head, mixed), scores_of(head, task)[order], **CLOSE)


def check_duplicated_support(head: Head) -> None:
    task = gaussians(head, [3, 4, 5, 2])
    twice = tuple(torch.cat([s, s]) for s in task.support)
    scores = scores_of(head, replace(task, support=twice, labels=torch.cat([task.labels] * 2)))
    assert (scores.argmax(dim=1) == task.truth).double().mean() > 0.8


def check_added_class(head: Head) -> None:
    task = gaussians(head, [3, 4, 5, 2])
    far = tuple(-s[:2] for s in task.support)
    support = tuple(torch.cat(pair) for pair in zip(task.support, far, strict=True))
    labels = torch.cat([task.labels, torch.tensor([4, 4])])
    scores = scores_of(head, replace(task, support=support, labels=labels, way=5))
    assert scores.shape == (len(task.truth), 5)
    assert (scores.argmax(dim=1) == task.truth).double().mean() > 0.8


def check_odd_features(head: Head) -> None:
    for dtype in (torch.float32, torch.float64):
        task = gaussians(head, [3, 1, 5, 2], dtype)
        for constant in (0.0, 1.0, -2.0):
            flat = replace(
                task,
                support=tuple(torch.full_like(s, constant) for s in task.support),
                query=tuple(torch.full_like(q, constant) for q in task.query),
            )
            assert scores_of(head, flat).isfinite().all(), f"constant {constant}"
    if head.adapts_backbone:
        return
    for size in (1e-30, 1e-12, 1e12, 1e30):
        scaled = replace(
            task,
            support=tuple(s * size for s in task.support),
            query=tuple(q * size for q in task.query),
        )
        assert scores_of(head, scaled).isfinite().all(), f"features of size {size}"


def check_one_extractor(head: Head) -> None:
    if head.extractors == "one" or head.name == "urt":  # trained for its number of extractors
        return
    task = gaussians(head, [3, 1, 5, 2])
    scores = scores_of(head, replace(task, support=task.support[:1], query=task.query[:1]))
    assert (scores.argmax(dim=1) == task.truth).double().mean() > 0.8


def check_batches(head: Head) -> None:
    if not isinstance(head, EpisodeHead) or head.adapts_backbone:
        return
    tasks = [gaussians(head, shots) for shots in ([3, 1, 5, 2], [1, 1], [20, 4, 7], [2] * 9)]
    tasks[2] = replace(tasks[2], query=tuple(q[:4] for q in tasks[2].query))

    def together(tasks: list[Task]) -> list[Tensor]:
        draws = [torch.Generator().manual_seed(7) for _ in tasks]
        episodes = [
            Episode(t.support, t.labels, t.way, t.query, draw)
            for t, draw in zip(tasks, draws, strict=True)
        ]
        return score_batch(head, episodes)

    alone = [scores_of(head, task) for task in tasks]
    for batches in ([together(tasks)], [together(tasks[:1]), together(tasks[1:])]):
        found = [scores for batch in batches for scores in batch]
        for expected, scores in zip(alone, found, strict=True):
            torch.testing.assert_close(scores, expected, rtol=1e-9, atol=1e-9)


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
    check_query_order,
    check_duplicated_support,
    check_added_class,
    check_odd_features,
    check_one_extractor,
    check_batches,
]
