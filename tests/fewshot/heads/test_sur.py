"""SUR against its formula written out directly: concatenate, cosine, autograd, Adadelta."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fewshot import score
from fewshot.heads import Head, build_head
from fewshot.heads.batch import Episode, Support, gather_support, score_and_tell
from fewshot.heads.geometry import class_means, inverse_length, unit
from fewshot.heads.sur import (
    InnerProducts,
    Sur,
    descend_compiled,
    descend_in_tensors,
    inner_products,
)
from tests.fewshot.heads.drawn import draw


def direct_sur(
    support: Sequence[Tensor], labels: Tensor, query: Sequence[Tensor], way: int
) -> tuple[Tensor, Tensor]:
    """Scores and final sigmoid(lambda), with nothing precomputed."""

    def joined(features: Sequence[Tensor], weights: Tensor) -> Tensor:
        return torch.cat(
            [s * f / f.norm(dim=1, keepdim=True) for s, f in zip(weights, features, strict=True)], 1
        )

    def logits(items: Tensor, weights: Tensor) -> Tensor:
        z = joined(support, weights)
        means = torch.stack([z[labels == k].mean(0) for k in range(way)])
        return 10 * torch.cosine_similarity(items[:, None], means[None], dim=2, eps=1e-30)

    parameter = torch.zeros(len(support), dtype=torch.float64, requires_grad=True)
    adadelta = torch.optim.Adadelta([parameter], lr=3000 / way, rho=0.9, eps=1e-6)
    for _ in range(40):
        adadelta.zero_grad()
        weights = parameter.sigmoid()
        torch.nn.functional.cross_entropy(
            logits(joined(support, weights), weights), labels
        ).backward()
        adadelta.step()
    weights = parameter.detach().sigmoid()
    return logits(joined(query, weights), weights), weights


def selected(features: Sequence[Tensor], labels: Tensor) -> Tensor:
    """The relative weights that the head gives the extractors."""
    episode = Episode(features, labels, int(labels.max()) + 1, (), torch.Generator())
    support = gather_support([episode])
    return Sur().select(products_of(support), support)[0]


def products_of(support: Support) -> InnerProducts:
    """Those of the support items with their prototypes."""
    return InnerProducts.stack(
        [
            inner_products(part, inverse_length(part), class_means(unit(part), support.members))
            for part in support.features
        ]
    )


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    ("shots", "dims"),
    [
        ([5] * 5, [64, 64, 64]),
        ([1, 3, 20, 7, 2, 1, 11, 4], [16, 32, 64, 128]),
        ([1] * 6, [24, 24]),
        ([2, 9], [8] * 8),
        ([1, 20, 3, 7, 1, 12, 2, 5, 17, 4], [64] * 8),
    ],
)
def test_against_the_direct_loop(shots: list[int], dims: list[int], signed: bool) -> None:
    support, labels, query = draw(len(shots), shots, dims, signed)
    expected, expected_weights = direct_sur(support, labels, query, len(shots))
    scores = score("sur", support, labels, query)
    torch.testing.assert_close(scores, expected, rtol=1e-8, atol=1e-8)
    weights = selected(support, labels)
    squares = expected_weights.square()
    torch.testing.assert_close(weights, squares / squares.max(), rtol=1e-6, atol=1e-8)
    episode = Episode(support, labels, len(shots), query, torch.Generator())
    ((_, told),) = score_and_tell(Sur(), [episode])
    assert told == {"selection": pytest.approx((squares / squares.sum()).tolist(), abs=1e-6)}


def test_compiled_descent_is_that_in_tensors() -> None:
    """With episodes of different sizes in a batch, items that are zero, and large steps."""
    episodes = []
    for seed, shots in enumerate([[4, 1, 8], [2, 3, 1, 9, 5], [1, 1]]):
        support, labels, _ = draw(seed, shots, [16, 32, 8], signed=seed > 0)
        support[0][0] = support[1][0] = support[2][0] = support[1][-1] = 0
        episodes.append(Episode(support, labels, len(shots), (), torch.Generator()))
    batch = gather_support(episodes)
    products = products_of(batch)
    for steps, tolerance in ((1, 1e-12), (40, 1e-6)):
        found = descend_compiled(products, batch, 3000 / batch.ways, steps)
        expected = descend_in_tensors(products, batch, 3000 / batch.ways, steps)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_float32_agrees_with_float64() -> None:
    support, labels, query = draw(0, [4, 1, 8, 2, 5], [32, 64], signed=False)
    single = score("sur", [f.float() for f in support], labels, [f.float() for f in query])
    torch.testing.assert_close(
        single.double(), score("sur", support, labels, query), rtol=1e-3, atol=1e-3
    )


def test_selects_the_extractor_that_separates_the_classes() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(5).repeat(10)
    noise = unit(torch.randn(50, 64, generator=generator))
    signal = unit(torch.eye(64)[labels] + 0.05 * torch.randn(50, 64, generator=generator))
    weights = selected([noise, signal], labels)
    assert weights[1] == 1 and weights[0] < 0.1


def test_one_extractor_is_the_cosine_of_unit_feature_means() -> None:
    support, labels, query = draw(0, [4, 1, 8], [32], signed=True)
    scores = score("sur", support, labels, query)
    same = score("prototypical", unit(support[0]), labels, query[0], distance="cosine")
    torch.testing.assert_close(scores, same)


def test_stacked_extractors_are_the_same_as_a_sequence() -> None:
    support, labels, query = draw(0, [4, 1, 8], [16, 16], signed=True)
    stacked = score("sur", torch.stack(support), labels, torch.stack(query))
    assert torch.equal(stacked, score("sur", support, labels, query))


def test_zero_vectors_score_zero_and_spoil_nothing() -> None:
    support, labels, query = draw(0, [3, 3], [8, 8], signed=True)
    for features in (*support, *query):
        features[0] = 0
    scores = score("sur", support, labels, query)
    assert scores.isfinite().all()
    assert scores[0].tolist() == [0, 0]


def test_steps_zero_weighs_all_extractors_alike() -> None:
    support, labels, query = draw(0, [3, 3], [8, 8], signed=True)
    head: Head = build_head("sur:steps=0")
    joined = torch.cat([unit(f) for f in support], 1), torch.cat([unit(f) for f in query], 1)
    alike = score("prototypical", joined[0], labels, joined[1], distance="cosine")
    torch.testing.assert_close(score(head, support, labels, query), alike)
