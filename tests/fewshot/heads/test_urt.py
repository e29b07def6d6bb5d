"""URT's attention: one forward written out, its file, and its training."""

import math

import pytest
import torch
from torch.nn import functional

from episodes.faults import InputError
from fewshot import score
from fewshot.heads.batch import Episode, score_and_tell
from fewshot.heads.urt import (
    Attention,
    Urt,
    UrtRecipe,
    initial_attention,
    save_attention,
    train_attention,
)
from tests.fewshot.heads.drawn import draw, means_of


def large_attention(extractors, dim, heads):
    """Attention that prefers some extractors: the initial one, a thousand times as large."""
    return Attention(*(300 * part for part in initial_attention(extractors, dim, heads, 1)))


def one_forward(attention, support, labels, query):
    units = [functional.normalize(part) for part in support]
    per_extractor = torch.stack([means_of(part, labels) for part in units], dim=1)  # W, K, D
    dim, mixed = support[0].shape[1], [[], []]
    for h in range(len(attention.query_weight)):
        rows = []
        for prototypes in per_extractor:
            asked = attention.query_weight[h].double() @ prototypes.flatten()
            asked = asked + attention.query_bias[h].double()
            keys = prototypes @ attention.key_weight[h].double().T + attention.key_bias[h].double()
            rows.append((keys @ asked / math.sqrt(dim)).softmax(dim=0))
        weights = torch.stack(rows).mean(dim=0)
        for group, features in zip(mixed, (support, query), strict=True):
            parts = [w * functional.normalize(f) for w, f in zip(weights, features, strict=True)]
            group.append(sum(parts))
    items, queries = (torch.cat(group, dim=1) for group in mixed)
    return 10 * functional.cosine_similarity(queries[:, None], means_of(items, labels)[None], dim=2)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("shots", [[3, 1, 5], [1] * 6, [2, 9]])
def test_against_one_forward(tmp_path, shots, heads):
    support, labels, query = draw(0, shots, [24, 24, 24], signed=True)
    attention = large_attention(3, 24, heads)
    save_attention(tmp_path / "urt.safetensors", attention)
    scores = score("urt", support, labels, query, weights=str(tmp_path / "urt.safetensors"))
    torch.testing.assert_close(scores, one_forward(attention, support, labels, query))
    head = Urt(weights=str(tmp_path / "urt.safetensors"))
    episode = Episode(support, labels, len(shots), query, torch.Generator())
    ((_, told),) = score_and_tell(head, [episode])
    assert sum(told["selection"]) == pytest.approx(1) and len(told["selection"]) == 3


def episodes(count):
    """Extractor 2 separates the classes, the others are noise."""
    for seed in range(count):
        support, labels, query = draw(seed, [5, 3, 4], [16, 16, 16], signed=True)
        for part in (*support[:2], *query[:2]):
            part.copy_(torch.randn(part.shape, generator=torch.Generator().manual_seed(seed)))
        parts = [[part.float() for part in group] for group in (support, query)]
        generator = torch.Generator()
        yield Episode(parts[0], labels, 3, parts[1], generator), torch.arange(3).repeat(2)


def test_training_finds_the_extractor_that_helps(tmp_path):
    losses = []
    recipe = UrtRecipe(episodes=60)
    attention = train_attention(episodes(60), recipe, lambda *state: losses.append(state))
    assert losses[-1][:2] == (60, 60)
    assert sum(loss for *_, loss in losses[-10:]) < 0.8 * sum(loss for *_, loss in losses[:10])
    again = train_attention(episodes(60), recipe)
    assert all(torch.equal(a, b) for a, b in zip(attention, again, strict=True))
    episode, truth = next(episodes(1))
    save_attention(tmp_path / "urt.safetensors", attention)
    weights = str(tmp_path / "urt.safetensors")
    scores = score("urt", episode.support, episode.labels, episode.query, weights=weights)
    untrained = initial_attention(3, 16, 2, 0)
    save_attention(tmp_path / "before.safetensors", untrained)
    before = score(
        "urt", episode.support, episode.labels, episode.query,
        weights=str(tmp_path / "before.safetensors"),
    )  # fmt: skip
    surprise = functional.cross_entropy(scores, truth)
    assert surprise < functional.cross_entropy(before, truth)


def test_faults(tmp_path):
    support, labels, query = draw(0, [2, 2], [8, 8], signed=True)
    save_attention(tmp_path / "urt.safetensors", initial_attention(3, 8, 2, 0))
    (tmp_path / "broken").write_bytes(b"no")
    for weights, message in (
        ("none", "Train one with train-urt"),
        (str(tmp_path / "absent"), "cannot be read"),
        (str(tmp_path / "broken"), "cannot be read"),
        (str(tmp_path / "urt.safetensors"), "trained for 3 extractors of 8 dimensions"),
    ):
        with pytest.raises(InputError, match=message):
            score("urt", support, labels, query, weights=weights)
    support, labels, query = draw(0, [2, 2], [8, 9], signed=True)
    with pytest.raises(InputError, match="attention mixes equal ones"):
        score("urt", support, labels, query, weights=str(tmp_path / "urt.safetensors"))
    with pytest.raises(InputError, match="no episode to train on"):
        train_attention([], UrtRecipe())
