"""Mixtures: episode n is a function of its number, and of no other episode."""

import json
import shutil
from itertools import islice, pairwise

import numpy as np
import pytest
import torch

from episodes import EpisodeReader
from episodes.faults import InputError
from episodes.mixture import EpisodeMixture, EpisodeStream
from episodes.streams import Shard

NAMES = ("omniglot", "dtd", "vgg_flower")


@pytest.fixture(scope="module")
def readers(miniature):
    return [EpisodeReader(miniature, name, "train", "5w1s", seed=4, size=16) for name in NAMES]


def sources(mixture, episodes):
    return [NAMES.index(mixture.reader(n).images.spec.name) for n in range(episodes)]


def hashes(stream, **settings):
    return [episode.plan.hash for episode in stream.episodes(**settings)]


def test_episode_n_is_episode_n_of_the_source_drawn_for_it(readers):
    mixture = EpisodeMixture(readers, seed=1)
    for index in (11, 3, 3, 0):
        episode, reader = mixture[index], mixture.reader(index)
        assert episode.plan.hash == mixture.plan(index).hash == reader.plan(index).hash
        assert episode.plan.index == index
        assert torch.equal(episode.support_images, reader[index].support_images)
        assert torch.equal(episode.query_images, reader[index].query_images)


@pytest.mark.parametrize("weights", [None, [1, 2, 5], [0.5, 0.25, 0.25], [0, 1, 0], [1, 0, 0]])
def test_sources_are_drawn_by_their_weights(readers, weights):
    drawn = np.bincount(sources(EpisodeMixture(readers, weights), 3000), minlength=3)
    shares = np.asarray(weights or [1, 1, 1]) / sum(weights or [1, 1, 1])
    deviation = np.sqrt(3000 * shares * (1 - shares))
    assert (np.abs(drawn - 3000 * shares) <= 4 * deviation).all()  # none where the share is 0


def test_draws_depend_on_seed_and_number_only(readers):
    mixture = EpisodeMixture(readers, seed=1)
    first = sources(mixture, 200)
    assert first == sources(EpisodeMixture(readers, [2, 2, 2], seed=1), 200)
    assert first != sources(EpisodeMixture(readers, seed=2), 200)
    assert [NAMES.index(mixture.reader(150).images.spec.name)] == first[150:151]
    # neighbours are independent: as often alike as a third of the pairs, within 4 deviations
    alike = sum(a == b for a, b in pairwise(first))
    assert abs(alike - 199 / 3) < 4 * np.sqrt(199 * 2 / 9)


def test_a_mixture_of_one_is_its_reader(readers):
    found = hashes(EpisodeStream(EpisodeMixture(readers[:1])), stop=5)
    assert found == [readers[0].plan(n).hash for n in range(5)]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_episode_is_given_once_over_all_ranks(readers, ranks):
    mixture = EpisodeMixture(readers, seed=1)
    found = [
        episode.plan.index
        for rank in range(ranks)
        for episode in EpisodeStream(mixture, Shard(rank, ranks)).episodes(stop=7)
    ]
    assert sorted(found) == list(range(7))


def test_workers_change_nothing(readers):
    mixture = EpisodeMixture(readers, seed=1)
    expected = list(EpisodeStream(mixture).episodes(stop=6))
    for workers in (1, 2):
        found = list(islice(EpisodeStream(mixture).episodes(workers), 6))
        for one, other in zip(found, expected, strict=True):
            assert one.plan.hash == other.plan.hash
            assert torch.equal(one.support_images, other.support_images)
            assert torch.equal(one.query_images, other.query_images)
            assert torch.equal(one.support_labels, other.support_labels)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_saved_position_goes_on_where_it_was(readers, workers):
    mixture = EpisodeMixture(readers, [1, 2, 3], seed=1)
    first = EpisodeStream(mixture, Shard(1, 2))
    before = [episode.plan.index for episode in islice(first.episodes(workers), 2)]
    state = json.loads(json.dumps(first.state()))
    second = EpisodeStream(EpisodeMixture(readers, [1, 2, 3], seed=1), Shard(1, 2))
    second.resume(state)
    after = [episode.plan.index for episode in second.episodes(workers, stop=10)]
    assert (before, after) == ([1, 3], [5, 7, 9])


def test_another_number_of_ranks_takes_up_the_position(readers):
    mixture = EpisodeMixture(readers)
    ranks = [EpisodeStream(mixture, Shard(rank, 2)) for rank in (0, 1)]
    given = [e.plan.index for rank in ranks for e in islice(rank.episodes(), 2)]
    assert ranks[0].state() == ranks[1].state()
    for rank in (0, 1, 2):
        stream = EpisodeStream(mixture, Shard(rank, 3))
        stream.resume(ranks[0].state())
        given += [episode.plan.index for episode in stream.episodes(stop=10)]
    assert sorted(given) == list(range(10))


def test_a_position_of_another_mixture_is_refused(readers):
    state = EpisodeStream(EpisodeMixture(readers)).state()
    others = [
        (EpisodeMixture(readers, seed=1), "seed is 0, not 1"),
        (EpisodeMixture(readers[:2]), "sources is"),
        (EpisodeMixture(readers, [1, 1, 2]), "bounds is"),
    ]
    for mixture, message in others:
        with pytest.raises(InputError, match=f"of another stream: {message}"):
            EpisodeStream(mixture).resume(state)
    with pytest.raises(InputError, match="the saved position is none: episode -3"):
        EpisodeStream(EpisodeMixture(readers)).resume(state | {"episode": -3})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "2 weights for 3 sources"),
        ([1, -1, 1], "are not shares"),
        ([0, 0, 0], "are not shares"),
        ([1, float("nan"), 1], "are not shares"),
    ],
)
def test_weights_that_are_none(readers, weights, message):
    with pytest.raises(InputError, match=message):
        EpisodeMixture(readers, weights)


def test_no_sources_and_no_such_episode(readers):
    with pytest.raises(InputError, match="a mixture of no sources"):
        EpisodeMixture([])
    with pytest.raises(IndexError, match="numbered from 0"):
        EpisodeMixture(readers).plan(-1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fault_is_one_plain_message(readers, miniature, tmp_path, workers):
    shutil.copytree(miniature / "dtd", tmp_path / "dtd")
    for path in (tmp_path / "dtd").glob("*.tfrecords"):
        path.write_bytes(path.read_bytes()[:-1])
    damaged = EpisodeReader(tmp_path, "dtd", "train", "5w1s", seed=4, size=16)
    stream = EpisodeStream(EpisodeMixture([readers[0], damaged, readers[2]]))
    with pytest.raises(InputError, match=r"dtd/\d+\.tfrecords: .* truncated") as caught:
        list(stream.episodes(workers, stop=30))
    assert "Traceback" not in str(caught.value)
