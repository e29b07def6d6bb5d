"""The benchmark's counts, and what differs from them: a fault, or only a smaller set."""

from pathlib import Path

import numpy as np
import pytest

from episodes import benchmark
from episodes.benchmark import BENCHMARK, KnownSource, SplitCounts, compare, digest_names
from episodes.protocol import SOURCES, Split
from episodes.spec import SourceSpec

WHERE = Path("records/fungi/dataset_spec.json")


def make_spec(sizes, name="fungi", names=None):
    """A specification from images per class of each split."""
    flat = tuple(size for split in sizes for size in split)
    starts = np.cumsum([0, *map(len, sizes)]).tolist()
    return SourceSpec(
        name=name,
        folder=WHERE.parent,
        class_names=tuple(names or map(str, range(len(flat)))),
        images_per_class=flat,
        split_classes={s: range(starts[k], starts[k + 1]) for k, s in enumerate(Split)},
    )


SIZES = [[6, 50, 90, 120, 77], [8, 60, 300, 295], [6, 6, 9, 200]]


@pytest.fixture
def known(monkeypatch):
    """The benchmark is what `SIZES` says."""
    spec = make_spec(SIZES)
    counts = tuple(SplitCounts.of(sizes) for sizes in SIZES)
    monkeypatch.setitem(benchmark.BENCHMARK, "fungi", KnownSource(counts, digest_names(spec)))


def capped(cap):
    return [[min(size, cap) for size in split] for split in SIZES]


def test_the_benchmark_itself(known):
    assert compare(make_spec(SIZES), WHERE) == (None, None)


@pytest.mark.parametrize("cap", [2, 20, 90, 120, 290])
def test_a_capped_copy_is_a_note(known, cap):
    fault, note = compare(make_spec(capped(cap)), WHERE)
    assert fault is None
    assert note.startswith(f"not the full benchmark: {sum(map(sum, capped(cap)))} of 1227 images")


def test_another_small_set_is_a_note(known):
    fault, note = compare(make_spec([[9, 9], [9], [9, 9]]), WHERE)
    assert fault is None
    assert "45 of 1227 images, 5 of 13 classes, with other class names" in note


@pytest.mark.parametrize(
    "sizes",
    [
        [[6, 50, 90, 120, 76], [8, 60, 300, 295], [6, 6, 9, 200]],  # one image lost
        [[6, 50, 90, 120, 77], [8, 60, 299, 295], [6, 6, 9, 200]],  # one of the largest class
        [[6, 50, 90, 120, 78], [8, 60, 300, 295], [6, 6, 9, 200]],  # one too many
        [[6, 50, 90, 120, 200], [8, 60, 300, 295], [6, 6, 9, 77]],  # two classes change splits
        [[6, 50, 90, 120], [8, 60, 300, 295], [6, 6, 9, 200, 77]],  # splits of other sizes
        [[6, 5, 9, 12], [8, 6, 3, 9], [6, 6, 9, 2, 7]],  # the same of a small set
        [[6, 50, 90, 120, 77] * 2, [8, 60, 300, 295], [6, 6, 9, 200]],
    ],
)
def test_what_claims_to_be_the_benchmark_and_is_not(known, sizes):
    fault, note = compare(make_spec(sizes), WHERE)
    assert note is None
    assert "is not the benchmark's fungi" in fault.what and fault.where == WHERE
    assert "(the benchmark has" in fault.what and "September 2019" in fault.what


def test_right_counts_of_other_classes(known):
    names = [str(k) for k in range(13)]
    names[3], names[7] = names[7], names[3]
    fault, _ = compare(make_spec(SIZES, names=names), WHERE)
    assert "names or their order are not the benchmark's" in fault.what
    assert "(the benchmark has" not in fault.what


def test_a_source_that_the_benchmark_does_not_have():
    fault, note = compare(make_spec(SIZES, name="my"), WHERE)
    assert fault is None and "not a source of the benchmark" in note


# ---- the table -------------------------------------------------------------------------------


def test_totals_by_hand():
    # Totals stated apart from the splits: facts of the official format, section 2.2.
    totals = {"ilsvrc_2012": 1280764, "ilsvrc_2012_v2": 1280764, "omniglot": 32460,
              "fungi": 89760, "vgg_flower": 8189, "traffic_sign": 39209, "mscoco": 860001,
              "aircraft": 10000, "dtd": 5640}  # fmt: skip
    assert {name: BENCHMARK[name].images for name in totals} == totals
    assert set(BENCHMARK) == {*SOURCES, "ilsvrc_2012_v2"}
    assert sum(BENCHMARK[name].classes for name in SOURCES) == 4934


@pytest.mark.parametrize("source", BENCHMARK)
def test_the_reference_specifications(official_spec, source):
    assert compare(official_spec(source), WHERE) == (None, None)


@pytest.mark.parametrize("cap", [10, 100, 200, 1000])
@pytest.mark.parametrize("source", BENCHMARK)
def test_capped_reference_specifications(official_spec, source, cap):
    whole = official_spec(source)
    sizes = [[min(n, cap) for n in whole.images_in_split(split)] for split in Split]
    fault, _ = compare(make_spec(sizes, source, whole.class_names), WHERE)
    assert fault is None
