"""Objectives with several sources and with teachers, against their formulas written out."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fewshot.backbones import build_backbone
from fewshot.training.distillation import (
    Distillation,
    SelfDistillation,
    Teaching,
    features_and_scores,
    rbf_cka,
    softened_kl,
)
from fewshot.training.objective import CrossEntropy
from fewshot.training.optimizers import has_gradients

SIZES, CLASSES = (4, 6), (3, 5)


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(10, 3, 24, 24, generator=generator)
    labels = [torch.randint(n, (k,), generator=generator) for n, k in zip(CLASSES, SIZES)]  # noqa: B905
    return images, torch.cat(labels)


@pytest.fixture(scope="module")
def teaching():
    teachers = tuple(build_backbone("resnet18", n, seed) for seed, n in enumerate(CLASSES, 1))
    return Teaching(teachers, ("a", "b"), temperature=4.0)


def student():
    return build_backbone("resnet18", sum(CLASSES), 0).eval()


def cka_by_hand(x, y):
    """From the wording of the fact sheet, in numpy and in float64."""

    def kernel(z):
        z = z.double().numpy()
        d = ((z[:, None] - z[None]) ** 2).sum(-1)
        # the expanded form leaves dust on the diagonal, which is no distance
        off = d[~np.eye(len(d), dtype=bool)]
        s2 = np.sort(off)[(len(off) - 1) // 2]  # the lower median, as torch's
        return np.exp(-d / (2 * s2))

    h = np.eye(len(x)) - 1 / len(x)
    k, m = kernel(x), kernel(y)
    hsic = lambda a, b: np.sum((h @ a @ h) * (h @ b @ h))  # noqa: E731
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_several_sources_are_cross_entropies_over_their_own_classes(batch):
    images, labels = batch
    backbone = student()
    objective = CrossEntropy(backbone, CLASSES)
    scores = backbone(images)
    expected = functional.cross_entropy(scores[:4, :3], labels[:4]) + functional.cross_entropy(
        scores[4:, 3:], labels[4:]
    )
    torch.testing.assert_close(objective(images, labels, SIZES), expected)


def test_kl_at_a_temperature():
    student, teacher = torch.randn(6, 4).double(), torch.randn(6, 4).double()
    p, q = (np.exp(s.numpy() / 4) for s in (teacher, student))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    by_hand = 16 * (p * np.log(p / q)).sum() / 6
    assert float(softened_kl(student, teacher, 4.0)) == pytest.approx(by_hand)
    assert float(softened_kl(teacher, teacher, 4.0)) == pytest.approx(0, abs=1e-12)


def test_cka():
    x, y = torch.randn(12, 5), torch.randn(12, 7)
    assert float(rbf_cka(x, x)) == pytest.approx(1)
    turned = x @ torch.linalg.qr(torch.randn(5, 5)).Q
    assert float(rbf_cka(x, 3 * turned)) == pytest.approx(1, abs=1e-4)  # scale and rotation free
    assert float(rbf_cka(x, y)) == pytest.approx(cka_by_hand(x, y), rel=1e-2)
    assert 0 < float(rbf_cka(x, y)) < 1


def test_cka_of_equal_images_is_finite():
    same = torch.ones(4, 3, requires_grad=True)
    found = rbf_cka(same, torch.randn(4, 3))
    (gradient,) = torch.autograd.grad(found, same)
    assert torch.isfinite(found) and torch.isfinite(gradient).all()


def test_born_again_is_a_weighted_sum(batch):
    images, labels = batch[0][:4], batch[1][:4]
    teacher = build_backbone("resnet18", 3, 1)
    backbone = build_backbone("resnet18", 3, 0).eval()
    teaching = Teaching((teacher,), ("a",), 2.0)
    objective = SelfDistillation(backbone, [3], 0.0, teaching, weight=0.3)
    own, kl = (
        functional.cross_entropy(backbone(images), labels),
        softened_kl(backbone(images), teacher(images), 2.0),
    )
    torch.testing.assert_close(objective(images, labels, [4]), 0.7 * own + 0.3 * kl)


def test_distillation_is_url_s_sum_and_teachers_fade(batch, teaching):
    images, labels = batch
    backbone = student()
    objective = Distillation(backbone, CLASSES, 0.0, teaching, (4.0, 1.0), (100, 50))
    plain = CrossEntropy(backbone, CLASSES)(images, labels, SIZES)
    features, scores = features_and_scores(backbone, images)
    terms = []
    for k, (rows, own) in enumerate(((slice(0, 4), slice(0, 3)), (slice(4, 10), slice(3, 8)))):
        target, wanted = features_and_scores(teaching.teachers[k], images[rows])
        adapted = features[rows] @ objective.adapters[k].T
        unit = [functional.normalize(z, dim=1) for z in (adapted, target)]
        terms.append(softened_kl(scores[rows, own], wanted, 4.0) + 1 - rbf_cka(*unit))
    for step, shares in ((0, (4.0, 1.0)), (25, (3.0, 0.5)), (50, (2.0, 0.0)), (100, (0.0, 0.0))):
        objective.advance(step)
        expected = plain + sum(share * term for share, term in zip(shares, terms, strict=True))
        torch.testing.assert_close(objective(images, labels, SIZES), expected)


def test_an_optimiser_without_gradients_stands_still():
    moving, faded = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    moving.grad = torch.ones(2)
    assert has_gradients(torch.optim.SGD([faded, moving], lr=1.0))
    assert not has_gradients(torch.optim.SGD([faded], lr=1.0))


def test_teachers_are_not_part_of_what_learns_or_is_saved(batch, teaching):
    objective = Distillation(student(), CLASSES, 0.0, teaching, (1.0, 1.0), (9, 9))
    before = [one.clone() for one in teaching.teachers[0].parameters()]
    objective.train()
    objective(*batch, SIZES).backward()
    learns = [name for name, _ in objective.named_parameters()]
    assert [name for name in learns if not name.startswith("backbone.")] == [
        "adapters.0",
        "adapters.1",
    ]
    assert objective.adapters[0].grad is not None
    assert all(one.grad is None for one in teaching.teachers[0].parameters())
    assert not teaching.teachers[0].training
    after = teaching.teachers[0].parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(name in (*learns, *_buffers(objective)) for name in objective.state_dict())


def _buffers(objective):
    return [name for name, _ in objective.named_buffers() if "fades" not in name]
