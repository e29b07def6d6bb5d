"""The miniature: official structure, records that agree with it, the same bytes every time."""

import io
import json
import os
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from episodes.faults import InputError
from episodes.miniature import MINIATURE_VERSION, draw_miniature, draw_source, is_complete, records
from episodes.miniature.taxonomy import TREE, leaves, subgraph, wn_id
from episodes.ontology import Ontology
from episodes.protocol import SOURCES, Split
from episodes.spec import BiLevelSpec, DagSpec, load_spec
from episodes.tfrecord import read_examples, scan_offsets

FEW = {"omniglot": 3, "traffic_sign": 2}  # classes of a small miniature, for tests that draw


def read_class(path):
    offsets = scan_offsets(path)
    return read_examples(path, list(pairwise(offsets)), range(len(offsets) - 1))


@pytest.fixture
def small(monkeypatch):
    """A miniature of two sources with very few classes."""
    cut = {}
    for name, count in FEW.items():
        whole = records.TABLE[name]
        test = whole.classes[Split.TEST][:count]
        cut[name] = records.MiniatureSource({Split.TRAIN: (), Split.VALID: (), Split.TEST: test})
    monkeypatch.setattr(records, "TABLE", cut)


def test_the_ten_sources_in_official_format(miniature):
    assert {path.name for path in miniature.iterdir() if path.is_dir()} == set(SOURCES)
    for source in SOURCES:
        assert load_spec(miniature / source).name == source


def test_kinds_of_specification(miniature):
    for source in SOURCES:
        spec = load_spec(miniature / source)
        assert isinstance(spec, DagSpec) == (source == "ilsvrc_2012")
        assert isinstance(spec, BiLevelSpec) == (source == "omniglot")


def test_splits_are_those_of_the_benchmark(miniature):
    empty = {"traffic_sign": {Split.TRAIN, Split.VALID}, "mscoco": {Split.TRAIN}}
    for source in SOURCES:
        classes = load_spec(miniature / source).split_classes
        assert {split for split in Split if not classes[split]} == empty.get(source, set())
        assert all(len(ids) >= 5 for ids in classes.values() if ids)


def test_no_class_is_in_two_splits(miniature):
    for source in SOURCES:
        names = load_spec(miniature / source).class_names
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("source", SOURCES)
def test_records_agree_with_the_specification(miniature, source):
    spec = load_spec(miniature / source)
    files = {path.name for path in (miniature / source).glob("*.tfrecords")}
    assert files == {f"{class_id}.tfrecords" for class_id in range(len(spec.class_names))}
    for class_id, count in enumerate(spec.images_per_class):
        examples = read_class(spec.class_file(class_id))
        assert len(examples) == count
        assert {label for _, label in examples} == {class_id}


@pytest.mark.parametrize("source", SOURCES)
def test_images_are_small_colour_jpegs_that_differ(miniature, source):
    spec = load_spec(miniature / source)
    images = [image for image, _ in read_class(spec.class_file(len(spec.class_names) - 1))]
    assert len(set(images)) == len(images)
    sizes = set()
    for image in images:
        with Image.open(io.BytesIO(image)) as decoded:
            assert (decoded.format, decoded.mode) == ("JPEG", "RGB")
            assert np.asarray(decoded).std() > 3
            sizes.add(decoded.size)
            assert 24 <= min(decoded.size) <= max(decoded.size) <= 160
    fixed = {"omniglot": {(105, 105)}, "quickdraw": {(28, 28)}}
    assert sizes == fixed.get(source, sizes)
    assert source in fixed or len(sizes) > 5


def test_every_image_decodes_as_the_reader_decodes_it(miniature):
    simplejpeg = pytest.importorskip("simplejpeg")
    spec = load_spec(miniature / "fungi")
    for class_id in spec.split_classes[Split.TEST]:
        for image, _ in read_class(spec.class_file(class_id)):
            assert simplejpeg.decode_jpeg(image).shape[2] == 3


# ---- structure of single sources ---------------------------------------------------------------


def test_class_ids_follow_sorted_wordnet_ids_within_splits(miniature):
    spec = load_spec(miniature / "ilsvrc_2012")
    for split, ids in spec.split_classes.items():
        names = [spec.class_names[class_id] for class_id in ids]
        assert names == sorted(spec.ontology[split].leaves)
    assert list(spec.class_names) != sorted(spec.class_names)  # as in the original: not globally


def test_internal_nodes_count_their_distinct_leaves_once(miniature):
    raw = json.loads((miniature / "ilsvrc_2012" / "dataset_spec.json").read_text())
    spec = load_spec(miniature / "ilsvrc_2012")
    for split in Split:
        counts, graph = raw["images_per_class"][split.name], spec.ontology[split]
        assert set(counts) == set(graph.children)
        for node, span in graph.spanned_leaves.items():
            assert counts[node] == sum(counts[leaf] for leaf in span)
    train = spec.ontology[Split.TRAIN]
    fruit, thing = wn_id("fruit"), wn_id("thing")
    parents = [node for node, below in train.children.items() if fruit in below]
    assert len(parents) == 2
    assert len(train.spanned_leaves[thing]) == len(train.leaves)


def test_graphs_have_nodes_on_both_sides_of_the_limit(miniature):
    spec = load_spec(miniature / "ilsvrc_2012")
    for split in Split:
        spans = [len(span) for span in spec.ontology[split].spanned_leaves.values()]
        assert sum(span >= 5 for span in spans) >= 3
        assert min(spans) >= 2
    assert any(span < 5 for span in spans)


def test_graph_links_point_both_ways_and_are_sorted():
    for split in Split:
        nodes = {node.wn_id: node for node in subgraph(split)}
        assert list(nodes) == sorted(nodes)
        for node in nodes.values():
            assert list(node.children_ids) == sorted(node.children_ids)
            for child in node.children_ids:
                assert node.wn_id in nodes[child].parents_ids
            for parent in node.parents_ids:
                assert node.wn_id in nodes[parent].children_ids
        roots = [node.words for node in nodes.values() if not node.parents_ids]
        assert roots == list(TREE[split])
        assert Ontology({k: n.children_ids for k, n in nodes.items()}, {}).leaves == tuple(
            leaf.wn_id for leaf in leaves(split)
        )


def test_siblings_are_numbered_apart():
    for split in Split:
        places = [(leaf.kind, leaf.sibling) for leaf in leaves(split)]
        assert len(set(places)) == len(places)


def test_alphabets_have_enough_characters_of_twenty_images(miniature):
    spec = load_spec(miniature / "omniglot")
    for split in Split:
        assert min(spec.superclass_sizes[split]) >= 5
    assert set(spec.images_per_class) == {20}


def test_mushrooms_have_a_long_tail(miniature):
    images = np.array(load_spec(miniature / "fungi").images_per_class)
    assert (images.min(), images.max() > 50) == (6, True)
    assert np.median(images) < images.mean()


def test_size_is_modest(miniature):
    specs = [load_spec(miniature / source) for source in SOURCES]
    assert 6000 < sum(sum(spec.images_per_class) for spec in specs) < 10000
    assert sum(sum(spec.images_in_split(Split.TEST)) for spec in specs) <= 3600
    size = sum(path.stat().st_size for path in miniature.rglob("*.tfrecords"))
    assert size < 30e6


# ---- drawing -----------------------------------------------------------------------------------


def contents(folder):
    """Every file but the index that readers leave beside records."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder): path.read_bytes() for path in files if path.suffix != ".offsets"
    }


def test_same_bytes_whatever_the_jobs_and_the_folder(miniature, tmp_path):
    for source in ("traffic_sign", "quickdraw"):  # the session's miniature is drawn by two jobs
        assert contents(draw_source(source, tmp_path)) == contents(miniature / source)


def test_one_job_draws_what_a_source_alone_draws(small, tmp_path):
    whole = draw_miniature(tmp_path / "whole", jobs=1)
    for source in FEW:
        assert contents(draw_source(source, tmp_path / "parts")) == contents(whole / source)


def test_a_complete_miniature_is_left_alone(small, tmp_path):
    folder = draw_miniature(tmp_path / "mini", jobs=1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    started = time.monotonic()
    assert draw_miniature(folder) == folder
    assert time.monotonic() - started < 0.5
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert (folder / "COMPLETE").read_text() == f"{MINIATURE_VERSION}\n"


def test_default_folder_is_in_the_users_cache(small, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    expected = tmp_path / "run_meta_dataset" / f"miniature-v{MINIATURE_VERSION}"
    assert draw_miniature(jobs=1) == expected
    assert is_complete(expected)


def test_progress_rises_to_the_number_of_class_files(small, tmp_path):
    seen = []
    draw_miniature(tmp_path / "mini", lambda done, total: seen.append((done, total)), jobs=1)
    total = sum(FEW.values())
    assert seen == [(done, total) for done in range(total + 1)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_interruption_leaves_nothing_behind(small, tmp_path, jobs):
    def interrupt(done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_miniature(tmp_path / "mini", interrupt, jobs=jobs)
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_end_with_one_complete_miniature(small, tmp_path):
    start, results = threading.Barrier(2), []

    def draw():
        wait = iter([start.wait])
        results.append(
            draw_miniature(tmp_path / "mini", lambda *_: next(wait, lambda: None)(), jobs=1)
        )

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [tmp_path / "mini"] * 2
    assert is_complete(tmp_path / "mini")
    assert [path.name for path in tmp_path.iterdir()] == ["mini"]


def test_an_empty_folder_is_filled_and_another_is_refused(small, tmp_path):
    (tmp_path / "empty").mkdir()
    assert is_complete(draw_miniature(tmp_path / "empty", jobs=1))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("dear reader")
    with pytest.raises(InputError, match=r"taken: holds files that are not .* another folder"):
        draw_miniature(tmp_path / "taken", jobs=1)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["thesis.tex"]


def test_an_unwritable_cache_is_one_clear_message(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written: .* XDG_CACHE_HOME"):
        draw_miniature(tmp_path / "file" / "mini", jobs=1)


def test_a_full_disk_is_one_clear_message(small, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(records, "write_records", refuse)
    with pytest.raises(InputError, match="the disk is full"):
        draw_miniature(tmp_path / "mini", jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_unknown_source_suggests_the_nearest(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'omniglot'"):
        draw_source("omniglott", tmp_path)


def test_a_source_draws_in_seconds(tmp_path):
    started = time.process_time()
    draw_source("quickdraw", tmp_path)
    assert time.process_time() - started < 10
