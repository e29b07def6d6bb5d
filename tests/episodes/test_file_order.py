"""The order of the records inside a class file must not move any number.

Traffic signs come as tracks: runs of near-identical frames of one physical sign. Read in the
order of the file, a query is mostly the neighbour of a support image, and accuracies are far
too high. Here made sources hold tracks, every record says in its pixel which frame it is, and
the chance that a query meets a frame of its own track in the support set is compared with the
hypergeometric expectation of blind draws, for several orders of the same records.
"""

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.random import RandomState
from PIL import Image

from episodes import EpisodeProtocol, EpisodeReader
from episodes.tfrecord import encode_example, write_records

CLASSES, TRACKS, FRAMES = 7, 5, 12
IMAGES = TRACKS * FRAMES
FILMED = np.stack(np.divmod(np.arange(IMAGES), FRAMES), axis=1)  # [image, (track, frame)]
ORDERS = {
    "as filmed": FILMED,
    "reversed": FILMED[::-1],
    "shuffled": FILMED[RandomState(1).permutation(IMAGES)],
    "interleaved": FILMED.reshape(TRACKS, FRAMES, 2).swapaxes(0, 1).reshape(IMAGES, 2),
}
PROTOCOL = EpisodeProtocol(name="few", shots=(1, 4), queries=6)
EPISODES = 120


def png(*channels):
    buffer = io.BytesIO()
    Image.fromarray(np.array([[channels]], dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def readers(make, tmp_path_factory):
    """Readers of the same records in several orders."""
    found = {}
    for number, (name, order) in enumerate(ORDERS.items()):
        records = tmp_path_factory.mktemp(f"order{number}")
        spec = make.flat(records / "signs", [IMAGES] * CLASSES, (0, 0, CLASSES), "signs")
        for class_id in range(CLASSES):
            payloads = [encode_example(png(class_id, t, f), class_id) for t, f in order]
            write_records(spec.class_file(class_id), payloads)
        found[name] = EpisodeReader(records, "signs", "test", PROTOCOL, seed=0, size=1)
    return found


def contents(images):
    """[n, (class, track, frame)] of images whose one pixel says so."""
    return np.rint((images.numpy().reshape(-1, 3) / 2 + 0.5) * 255).astype(int)


def excess(episode):
    """How many queries share a track with their support, more than blind draws would."""
    support, query = contents(episode.support_images), contents(episode.query_images)
    ids = episode.plan.class_ids
    assert np.array_equal(support[:, 0], ids[episode.support_labels])
    assert np.array_equal(query[:, 0], ids[episode.query_labels])
    assert len({tuple(row) for row in [*support, *query]}) == len(support) + len(query)
    total = 0.0
    for class_id, shots in zip(ids, episode.plan.shots, strict=True):
        tracks = set(support[support[:, 0] == class_id][:, 1])
        of_class = query[query[:, 0] == class_id]
        total += sum(track in tracks for track in of_class[:, 1]) - len(of_class) * chance(shots)
    return total


def chance(shots):
    """That the support holds one of the other frames of a query's track (hypergeometric)."""
    apart = [(IMAGES - FRAMES - i) / (IMAGES - 1 - i) for i in range(shots)]
    return 1 - float(np.prod(apart))


def z_value(episodes):
    """The mean excess in standard errors; episodes are independent."""
    values = np.array([excess(episode) for episode in episodes])
    return values.mean() / (values.std(ddof=1) / np.sqrt(len(values)))


def test_the_expectation_by_hand():
    """One shot: 11 of the other 59 images are of the query's track."""
    assert chance(1) == pytest.approx(11 / 59)
    assert chance(2) == pytest.approx(1 - 48 / 59 * 47 / 58)


@pytest.mark.parametrize("order", ORDERS)
def test_sharing_a_track_is_as_likely_as_blind_draws_make_it(readers, order):
    assert abs(z_value(readers[order][i] for i in range(EPISODES))) < 4


def test_the_same_places_are_read_in_every_order(readers):
    hashes = {tuple(reader.plan(i).hash for i in range(20)) for reader in readers.values()}
    assert len(hashes) == 1


def test_the_statistic_notices_reading_in_file_order(readers):
    """As a reader without shuffling does: support and query from one stretch of the file."""
    reader = readers["as filmed"]

    def in_file_order(index):
        plan, rng = reader.plan(index), RandomState(index)
        starts = rng.randint(0, IMAGES - 10, plan.way)
        support = [start + np.arange(k) for start, k in zip(starts, plan.shots, strict=True)]
        query = [s + k + np.arange(6) for s, k in zip(starts, plan.shots, strict=True)]
        return replace(
            plan, support_images=np.concatenate(support), query_images=np.concatenate(query)
        )

    assert z_value(reader.read(in_file_order(i)) for i in range(EPISODES)) > 10


def test_every_place_of_a_file_is_as_likely_for_support_and_query(readers):
    plans = [readers["as filmed"].plan(i) for i in range(1500)]
    for part in ("support_images", "query_images"):
        places = np.concatenate([getattr(plan, part) for plan in plans])
        counts = np.bincount(places, minlength=IMAGES)
        expected = len(places) / IMAGES
        chi2 = ((counts - expected) ** 2 / expected).sum()
        assert chi2 < 98.3  # 99.9 % point of chi-squared with 59 degrees of freedom
