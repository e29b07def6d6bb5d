"""URL's alignment against its loop: align, centroids, cosine, autograd, Adadelta."""

import pytest
import torch
from torch.nn import functional

from fewshot import score
from fewshot.heads import HEADS
from tests.fewshot.heads.drawn import SHOTS, draw, means_of


def aligned_scores(support, labels, query, lr, distance):
    matrix = torch.eye(support.shape[1], dtype=torch.float64, requires_grad=True)
    adadelta = torch.optim.Adadelta([matrix], lr=lr)

    def logits(items):
        means, items = means_of(support @ matrix.T, labels)[None], (items @ matrix.T)[:, None]
        if distance == "cosine":
            return 10 * functional.cosine_similarity(items, means, dim=2, eps=1e-30)
        return -((items - means) ** 2).sum(dim=2)

    for _ in range(40):
        adadelta.zero_grad()
        functional.cross_entropy(logits(support), labels).backward()
        adadelta.step()
    return logits(query).detach()


@pytest.mark.parametrize("lr", [0.1, 1.0])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shots", SHOTS)
def test_against_the_loop(shots, signed, distance, lr):
    [support], labels, [query] = draw(len(shots), shots, [64], signed)
    scores = score("url", support, labels, query, lr=lr, distance=distance)
    expected = aligned_scores(support, labels, query, lr, distance)
    torch.testing.assert_close(scores, expected, rtol=1e-6, atol=1e-6)


def test_many_dimensions():
    [support], labels, [query] = draw(0, [1, 8, 3], [512], signed=False)
    expected = aligned_scores(support, labels, query, 0.1, "cosine")
    torch.testing.assert_close(score("url", support, labels, query), expected, rtol=1e-6, atol=1e-6)


def test_no_step_is_the_centroid_classifier():
    [support], labels, [query] = draw(0, [4, 2], [16], signed=True)
    plain = score("ncc_cosine", support, labels, query)
    torch.testing.assert_close(score("url:steps=0", support, labels, query), plain)
    assert HEADS["url"].name == "url"
