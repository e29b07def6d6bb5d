"""What an evaluation will read: counted by hand, bounded, and in the official sizes."""

import time

import numpy as np
import pytest

from episodes import PROTOCOLS, SOURCES, EpisodeProtocol, EpisodeSampler, load_spec
from episodes.workload import Spread, measure_workload


def file_bytes(spec):
    return lambda class_id: spec.class_file(class_id).stat().st_size


def test_spread():
    assert Spread.of(np.array([1, 2, 6])) == Spread(3.0, 1, 6)


def test_counts_equal_those_of_the_plans(each_kind):
    for spec, split in each_kind:
        sampler = EpisodeSampler(spec, split)
        work = measure_workload(sampler, 4, 40, lambda class_id: 0)
        plans = [sampler.plan(4, i) for i in range(40)]
        seen, images, sizes = set(), 0, []
        for plan in plans:
            support = list(zip(plan.support_class_ids, plan.support_images, strict=True))
            query = list(zip(plan.query_class_ids, plan.query_images, strict=True))
            seen |= {*support, *query}
            images += len(support) + len(query)
            sizes.append(len(support) + len(query))
        assert (work.images, work.unique_images) == (images, len(seen))
        assert work.reuse == images / len(seen) and work.largest == max(sizes)
        ways = [plan.way for plan in plans]
        assert work.ways == Spread(pytest.approx(np.mean(ways)), min(ways), max(ways))
        shots = [int(k) for plan in plans for k in plan.shots]
        assert work.shots == Spread(pytest.approx(np.mean(shots)), min(shots), max(shots))
        assert work.support.mean == pytest.approx(sum(shots) / 40)
        assert work.queries.mean == pytest.approx(images / 40 - sum(shots) / 40)
        assert (work.source, work.episodes) == (spec.name, 40)


def test_bytes_are_exact_where_whole_classes_are_used(make, tmp_path):
    spec = make.flat(tmp_path, sizes=[4, 6, 8, 10, 12], splits=(0, 0, 5))
    for class_id, images in enumerate(spec.images_per_class):
        spec.class_file(class_id).write_bytes(bytes((class_id + 1) * 100 * images))
    sampler = EpisodeSampler(spec, "test", EpisodeProtocol(shots=2, queries=2))
    all_used = measure_workload(sampler, 0, 100, file_bytes(spec))
    assert all_used.unique_images == 40
    assert all_used.unique_bytes == 400 + 1200 + 2400 + 4000 + 6000
    one = measure_workload(sampler, 0, 1, file_bytes(spec))
    assert one.unique_bytes == 4 * (100 + 200 + 300 + 400 + 500)
    assert one.missing_files == 0


def test_missing_class_files_make_the_bytes_unknown(make, tmp_path):
    spec = make.flat(tmp_path, sizes=[20] * 5, splits=(0, 0, 5))
    for class_id in range(3):
        spec.class_file(class_id).write_bytes(bytes(100))
    work = measure_workload(EpisodeSampler(spec, "test"), 0, 3, file_bytes(spec))
    assert (work.unique_bytes, work.missing_files) == (None, 2)


def test_the_miniature_fits_its_files(miniature):
    for source in SOURCES:
        sampler = EpisodeSampler(load_spec(miniature / source), "test")
        work = measure_workload(sampler, 0, 60, file_bytes(sampler.spec))
        ids = sampler.spec.split_classes[sampler.split]
        whole = sum(sampler.spec.class_file(i).stat().st_size for i in ids)
        assert 0 < work.unique_bytes <= whole
        assert work.unique_images <= sampler.class_sizes.sum()


@pytest.mark.parametrize(
    ("source", "low", "high"),
    [("aircraft", 150, 210), ("omniglot", 11, 15), ("quickdraw", 1.0, 1.1), ("mscoco", 1.4, 2)],
)
def test_reuse_at_the_official_sizes(official_spec, source, low, high):
    """600 episodes use an aircraft about 180 times and a drawing of QuickDraw once.

    Aircraft: 600 episodes of 10 ways with 35 shots and 10 queries, from 1500 images.
    """
    work = measure_workload(EpisodeSampler(official_spec(source), "test"), 0, 600, lambda k: 0)
    assert low < work.reuse < high


def test_ten_official_sources_take_seconds(official_spec):
    specs = [official_spec(source) for source in PROTOCOLS["md-v1"].sources("test")]
    began = time.process_time()
    for spec in specs:
        measure_workload(EpisodeSampler(spec, "test"), 0, 600, lambda k: 0)
    assert time.process_time() - began < 15  # 3 seconds on one idle core
