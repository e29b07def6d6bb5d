"""Episodes in batches: padding, memory, and predictions that do not depend on either."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.heads import FROZEN, TRANSDUCTIVE, build_head
from fewshot.heads.batch import (
    PADDING,
    Episode,
    EpisodeHead,
    Size,
    batches,
    gather_queries,
    gather_support,
    score_batch,
)
from fewshot.heads.cross_entropy import SupportLoss
from tests.fewshot.heads.drawn import draw

TEXTS = [
    head.name
    for head in (*FROZEN, *TRANSDUCTIVE)
    if issubclass(head, EpisodeHead) and head.name != "urt"
] + ["finetune"]


def episode(seed, shots, dims=(12, 12)):
    support, labels, query = draw(seed, shots, list(dims), signed=True)
    support, query = ([part.float() for part in group] for group in (support, query))
    return Episode(support, labels, len(shots), query, torch.Generator().manual_seed(seed))


def test_padding_is_zero_and_belongs_to_no_class():
    episodes = [episode(0, [2, 1]), episode(1, [1, 3, 2])]
    support = gather_support(episodes)
    assert support.members.shape == (2, 6, 3)
    assert support.items.sum(dim=1).tolist() == [3, 6]
    assert support.shots.tolist() == [[2, 1, 0], [1, 3, 2]]
    assert support.ways.tolist() == [2, 3]
    assert not support.features[0][0, 3:].any()
    assert torch.equal(support.labels[1], episodes[1].labels)
    [(items, members), _] = support.unpadded()
    assert torch.equal(items[1].float(), episodes[0].support[1]) and members.shape == (3, 2)
    queries = gather_queries([one.query for one in episodes])
    assert queries.items.sum(dim=1).tolist() == [4, 6]
    assert [len(parts[0]) for parts in queries.unpadded()] == [4, 6]


def test_score_gradient_is_that_of_the_cross_entropy():
    episodes = [episode(0, [2, 1]), episode(1, [1, 3, 2])]
    support = gather_support(episodes)
    scores = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).double()
    found = support.score_gradient(scores)
    for e, one in enumerate(episodes):
        real = scores[e, : len(one.labels), : one.way].requires_grad_()
        torch.nn.functional.cross_entropy(real, one.labels).backward()
        torch.testing.assert_close(found[e, : len(one.labels), : one.way], real.grad)
    assert not found[0, 3:].any() and not found[0, :, 2].any()


@pytest.mark.parametrize("compiled", [True, False])
def test_support_loss_has_the_slope_of_its_scores(compiled):
    support = gather_support([episode(0, [2, 1]), episode(1, [1, 3, 2])])
    weights = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0)).double()
    items, found = support.features[0], torch.empty_like(weights)
    loss = SupportLoss(items, support, 3.0)
    loss.arrays = loss.arrays if compiled else []
    loss.slope(weights, found)
    of_scores = support.score_gradient(3 * items @ weights.mT)
    torch.testing.assert_close(found, 3 * of_scores.mT @ items)


@pytest.mark.parametrize("text", TEXTS)
def test_predictions_do_not_depend_on_the_batch(text):
    head = build_head(text)
    shots = [[2, 1], [1, 3, 2], [5] * 6, [1] * 9, [9, 1, 4, 4, 2]]
    dims = (12, 12) if head.extractors == "many" else (12,)
    make = lambda: [episode(i, one, dims) for i, one in enumerate(shots)]  # noqa: E731
    whole = score_batch(head, make())
    pairs = [score for i in (0, 2, 4) for score in score_batch(head, make()[i : i + 2])]
    alone = [score_batch(head, [one])[0] for one in make()]
    for one in make():
        one.generator.manual_seed(0)
    for together, paired, single in zip(whole, pairs, alone, strict=True):
        assert torch.equal(together, single) or torch.allclose(together, single, rtol=3e-7, atol=0)
        assert torch.equal(together.argmax(dim=1), single.argmax(dim=1))
        assert torch.equal(paired.argmax(dim=1), single.argmax(dim=1))


SIZES = st.builds(
    lambda support, query, way: Size(support, query, way, (64,)),
    st.integers(5, 500),
    st.integers(1, 500),
    st.integers(2, 50),
)


@given(st.lists(SIZES, max_size=30), st.integers(0, 10**8))
def test_batches_hold_every_episode_once_within_memory(sizes, limit):
    head = build_head("prototypical")
    found = list(batches(head, sizes, limit))
    assert sorted(position for batch in found for position in batch) == list(range(len(sizes)))
    for batch in found:
        covering = sizes[batch[0]]
        for position in batch:
            covering = covering.cover(sizes[position])
        padded = len(batch) * head.numbers(covering)
        assert len(batch) == 1 or 8 * padded <= limit
        assert padded <= PADDING * sum(head.numbers(sizes[position]) for position in batch)


def test_no_memory_is_one_episode_at_a_time():
    sizes = [Size(20, 50, 5, (64,))] * 4
    assert list(batches(build_head("sur"), sizes, 0)) == [[0], [1], [2], [3]]
    assert list(batches(build_head("sur"), sizes, 10**9)) == [[0, 1, 2, 3]]
