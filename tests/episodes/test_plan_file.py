"""Plan files: round trips, use by a reader, and everything a file can have gone through."""

import errno
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes import EpisodeProtocol, EpisodeReader, EpisodeSampler, InputError, PlannedReader
from episodes.plan_file import HEADER, PARTS, draw_plans, find_fault, read_plans, write_plans

EPISODES = 12


@pytest.fixture
def stored(flat, tmp_path):
    """A plan file of the made flat source."""
    path = tmp_path / "plans.parquet"
    write_plans(draw_plans(EpisodeSampler(flat, "train"), 3, EPISODES), path)
    return path


def assert_same(a, b):
    assert (a.source, a.split, a.seed, a.spec_fingerprint) == (
        b.source,
        b.split,
        b.seed,
        b.spec_fingerprint,
    )
    assert a.protocol == b.protocol and a.hash == b.hash and len(a) == len(b)
    for ours, theirs in zip(a.plans, b.plans, strict=True):
        assert ours.hash == theirs.hash and ours.index == theirs.index
        for part in PARTS:
            assert np.array_equal(getattr(ours, part), getattr(theirs, part))
            assert getattr(ours, part).dtype == np.int64


# ---- round trip ------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(range(3)),
    seed=st.integers(0, 2**40),
    episodes=st.integers(1, 9),
    rules=st.fixed_dictionaries(
        {},
        optional={
            "max_queries": st.integers(1, 10),
            "shots": st.just((1, 2)) | st.just(1),
            "min_log_weight": st.floats(-1, 0),
        },
    ),
)
def test_round_trip(tmp_path_factory, each_kind, kind, seed, episodes, rules):
    spec, split = each_kind[kind]
    drawn = draw_plans(EpisodeSampler(spec, split, EpisodeProtocol(**rules)), seed, episodes)
    path = tmp_path_factory.mktemp("plans") / "plans.parquet"
    write_plans(drawn, path)
    read = read_plans(path)
    assert_same(read, drawn)
    read.check(spec)


def test_two_people_get_the_same_hash(make, tmp_path):
    hashes = {
        draw_plans(EpisodeSampler(make.flat(tmp_path / name), "train"), 0, 20).hash
        for name in ("mine", "yours")
    }
    assert hashes == {"e1366518e19f7660"}


def test_folders_named_like_columns_mean_nothing(stored, tmp_path):
    path = tmp_path / "seed=5" / "source=x" / "plans.parquet"
    write_plans(read_plans(stored), path)
    assert_same(read_plans(path), read_plans(stored))


def test_the_file_is_plain_parquet(stored):
    """Anybody can read it without this project."""
    rows = pq.read_table(stored).to_pylist()
    plan = read_plans(stored).plan(4)
    assert rows[4]["class_ids"] == plan.class_ids.tolist() and rows[4]["hash"] == plan.hash


def test_progress_and_no_episodes(flat):
    seen = []
    sampler = EpisodeSampler(flat, "train")
    draw_plans(sampler, 0, 3, lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(InputError, match="0 episodes"):
        draw_plans(sampler, 0, 0)


# ---- use -------------------------------------------------------------------------------------


def test_a_reader_gives_exactly_the_stored_episodes(miniature, tmp_path):
    fresh = EpisodeReader(miniature, "omniglot", "test", seed=5, size=16)
    path = tmp_path / "plans.parquet"
    write_plans(draw_plans(fresh.sampler, 5, 3), path)
    reader = PlannedReader(miniature, path, size=16)
    assert len(reader) == 3 and reader.seed == 5
    for index in range(3):
        assert reader.plan(index).hash == fresh.plan(index).hash
        ours, theirs = reader[index], fresh[index]
        assert ours.support_images.equal(theirs.support_images)
        assert ours.query_labels.equal(theirs.query_labels)
    for index in (3, -1):
        with pytest.raises(InputError, match=rf"holds 3 episodes; number {index} is not"):
            reader.plan(index)


def test_other_records_are_refused(miniature, stored, make, tmp_path):
    read_plans(stored).check(make.flat(tmp_path / "same"))
    other = make.flat(tmp_path / "other" / "flat", sizes=(20, 35, 50, 8, 120, 600, 15, 4))
    with pytest.raises(InputError, match="was made from a dataset_spec"):
        read_plans(stored).check(other)
    with pytest.raises(InputError, match="was made from"):
        PlannedReader(tmp_path / "other", stored)
    renamed = make.flat(tmp_path / "renamed", name="birds")
    with pytest.raises(InputError, match="holds episodes of flat, not of birds"):
        read_plans(stored).check(renamed)
    with pytest.raises(InputError, match="there is no such folder"):
        PlannedReader(miniature, stored)


def test_expectations(stored):
    plans = read_plans(stored)
    assert plans.expect("flat", "train", "md-v1") is plans.expect() is plans
    for wrong, message in [
        ({"source": "dtd"}, "plans.parquet: holds episodes of flat, not of dtd"),
        ({"split": "test"}, "holds episodes of the train split, not of test"),
        ({"protocol": "md-v2"}, r"by protocol md-v1 \(5a26.*not by md-v2 \(eb09"),
    ]:
        with pytest.raises(InputError, match=message):
            plans.expect(**wrong)


# ---- damage ----------------------------------------------------------------------------------


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_plans(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="there is no such file"):
        read_plans(tmp_path)
    path = tmp_path / "foreign.parquet"
    for content in (
        b"",
        b"PAR1",
        b"PAR1PAR1",
        b"index,hash\n0,1\n",
        b"PAR1" + bytes(400) + b"PAR1",
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is not a whole Parquet file"):
            read_plans(path)
    pq.write_table(pa.table({"index": [0]}), path)
    with pytest.raises(InputError, match="is a Parquet file, but not one of plans"):
        read_plans(path)


def test_a_file_that_may_not_be_read(stored, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(pq, "ParquetFile", denied)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        read_plans(stored)


def test_every_truncation_is_noticed(stored, tmp_path):
    content, cut = stored.read_bytes(), tmp_path / "cut.parquet"
    for length in [*range(0, len(content), 97), len(content) - 1]:
        cut.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"cut\.parquet"):
            read_plans(cut)


def test_every_flipped_byte_is_noticed_or_harmless(stored, tmp_path):
    whole, content, bad = read_plans(stored), stored.read_bytes(), tmp_path / "bad.parquet"
    noticed = 0
    for position in range(0, len(content), 11):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        bad.write_bytes(damaged)
        try:
            assert_same(read_plans(bad), whole)  # statistics, which nothing depends on
        except InputError:
            noticed += 1
    assert noticed > len(content) / 11 / 2


def rewritten(path, table=lambda table: table, header=lambda header: header):
    """The file with its rows or its header edited, as somebody could with pyarrow."""
    whole = pq.read_table(path)
    edited = header(json.loads(whole.schema.metadata[HEADER]))
    text = edited if isinstance(edited, bytes) else json.dumps(edited).encode()
    pq.write_table(table(whole).replace_schema_metadata({HEADER: text}), path)
    return path


def with_column(table, name, values, kind):
    return table.set_column(table.column_names.index(name), name, pa.array(values, kind))


def other_image(table):
    images = table.column("query_images").to_pylist()
    images[7][0] += 1
    return with_column(table, "query_images", images, pa.list_(pa.int64()))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (other_image, "episode 7 was changed after the file was written: its hash is"),
        (lambda t: t.slice(0, 11), "the list of episodes was changed"),
        (lambda t: t.slice(0, 0), "the list of episodes was changed"),
        (lambda t: t.take([1, 0, *range(2, 12)]), "episode 0 was changed"),
        (lambda t: pa.concat_tables([t, t]), "episode 12 was changed"),
        (lambda t: with_column(t, "hash", ["0" * 16] * 12, pa.string()), "episode 0 was changed"),
        (lambda t: with_column(t, "index", range(1, 13), pa.int64()), "episode 0 was changed"),
        (lambda t: t.drop_columns("hash"), "does not have the columns"),
        (lambda t: t.append_column("hash", t.column("hash")), "does not have the columns"),
        (lambda t: with_column(t, "class_ids", [1] * 12, pa.int64()), "not have the columns"),
        (
            lambda t: with_column(t, "class_ids", [[0.5]] * 12, pa.list_(pa.float64())),
            "does not have the columns",
        ),
        (
            lambda t: with_column(t, "class_ids", [None] * 12, pa.list_(pa.int64())),
            "has 12 empty values in column 'class_ids'",
        ),
        (
            lambda t: with_column(t, "class_ids", [[None, 1]] * 12, pa.list_(pa.int64())),
            "has 12 empty values",
        ),
    ],
)
def test_edited_rows(stored, edit, message):
    with pytest.raises(InputError, match=rf"plans\.parquet: .*{message}"):
        read_plans(rewritten(stored, table=edit))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda h: h | {"format": 2}, "is a plan file of format 2, not 1"),
        (lambda h: h | {"seed": 4}, "episode 0 was changed"),
        (lambda h: h | {"source": "birds"}, "episode 0 was changed"),
        (lambda h: h | {"split": "test"}, "episode 0 was changed"),
        (lambda h: h | {"split": "dev"}, "has a damaged header"),
        (lambda h: h | {"hash": "0" * 16}, "the list of episodes was changed"),
        (lambda h: h | {"protocol": h["protocol"] | {"max_ways": 9}}, "the protocol was changed"),
        (lambda h: h | {"protocol": h["protocol"] | {"new_rule": 1}}, "unknown rule 'new_rule'"),
        (lambda h: h | {"protocol": h["protocol"] | {"max_ways": "x"}}, "max_ways is 'x'"),
        (lambda h: h | {"protocol": 7}, "has a damaged header"),
        (lambda h: {k: v for k, v in h.items() if k != "hash"}, "has a damaged header"),
        (lambda h: [h], "but not one of plans"),
        (lambda h: b"{", "is not a whole Parquet file"),
    ],
)
def test_edited_headers(stored, edit, message):
    with pytest.raises(InputError, match=rf"plans\.parquet: .*{message}"):
        read_plans(rewritten(stored, header=edit))


def test_rows_alone_may_be_rewritten(stored):
    """Edits that change nothing are no damage: the guard is not on the bytes."""
    before = read_plans(stored)
    assert_same(read_plans(rewritten(stored)), before)


# ---- forged plans, whose hashes are right -----------------------------------------------------


def edited(plan, **parts):
    return replace(plan, **{name: np.asarray(values) for name, values in parts.items()})


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (
            lambda p: {"class_ids": p.class_ids + 100},
            r"names class 10\d, which is not in the train",
        ),
        (lambda p: {"class_ids": np.where(p.class_ids == p.class_ids[0], -1, p.class_ids)}, "-1"),
        (lambda p: {"class_ids": np.full_like(p.class_ids, p.class_ids[0])}, "a class twice"),
        (lambda p: {part: [] for part in PARTS}, "has no classes"),
        (lambda p: {"support_images": p.support_images + 600}, r"names image \d+ of class"),
        (lambda p: {"query_images": p.query_images - 600}, r"names image -\d+ of class"),
        (lambda p: {"query_images": p.query_images[1:]}, "number of labels than of images"),
        (lambda p: {"support_images": [*p.support_images, 1]}, "number of labels than of"),
        (lambda p: {"support_labels": p.support_labels[::-1]}, "does not label its"),
        (lambda p: {"query_labels": p.query_labels + 1}, "does not label its"),
        (lambda p: {"query_labels": p.query_labels[:-1]}, "does not label its|number of labels"),
        (
            lambda p: {
                "query_images": [
                    p.support_images[0] if i == 0 else image
                    for i, image in enumerate(p.query_images)
                ]
            },
            "uses an image twice",
        ),
    ],
)
def test_an_impossible_plan_is_refused(flat, stored, forge, message):
    content = read_plans(stored)
    plan = content.plan(2)
    assert find_fault(plan, flat) is None
    forged = edited(plan, **forge(plan))
    plans = (*content.plans[:2], forged, *content.plans[3:])
    write_plans(replace(content, plans=plans), stored)
    with pytest.raises(InputError, match=rf"plans\.parquet: episode 2 .*({message})"):
        read_plans(stored).check(flat)


# ---- writing ---------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file(stored, monkeypatch):
    before = stored.read_bytes()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(InputError, match=r"cannot be written: the disk is full. Free some space"):
        write_plans(read_plans(stored), stored)
    assert stored.read_bytes() == before
    assert not list(stored.parent.glob(".writing-*"))


def test_an_impossible_place_is_refused(stored):
    with pytest.raises(InputError, match="cannot be written"):
        write_plans(read_plans(stored), stored / "plans.parquet")
