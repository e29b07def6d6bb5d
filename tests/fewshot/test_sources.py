"""Which sources are evaluated, and why others are not."""

import shutil
from dataclasses import replace

import pytest
from PIL import Image

from episodes import SOURCES, EpisodeReader, EpisodeSampler, load_spec
from episodes.faults import InputError
from episodes.plan_file import draw_plans, write_plans
from fewshot.experiment import Experiment
from fewshot.sources import find_records, open_sources


@pytest.fixture
def experiment(miniature):
    return Experiment(records=miniature, image_size=16, episodes=3)


@pytest.fixture
def plans(miniature, tmp_path):
    """Writes a plan file of a source."""

    def write(source="dtd", seed=0, episodes=3, protocol="md-v1", split="test"):
        sampler = EpisodeSampler(load_spec(miniature / source), split, protocol)
        path = tmp_path / f"{source}-{seed}-{episodes}-{split}.parquet"
        write_plans(draw_plans(sampler, seed, episodes), path)
        return path

    return write


def test_all_ten_in_the_benchmarks_order(experiment, miniature):
    readers, skipped = open_sources(experiment, miniature)
    assert tuple(readers) == SOURCES and not skipped
    assert (readers["dtd"].seed, readers["dtd"].images.size) == (0, 16)


def test_a_source_without_classes_of_the_split_is_left_out(experiment, miniature):
    readers, skipped = open_sources(replace(experiment, split="valid"), miniature)
    assert skipped == {"traffic_sign": "has no valid classes"}
    assert len(readers) == 9


def test_md_v2_has_its_own_sources(experiment, miniature):
    readers, _ = open_sources(replace(experiment, protocol="md-v2"), miniature)
    assert set(SOURCES) - set(readers) == {"ilsvrc_2012", "vgg_flower"}


def test_fixed_ways_work_on_every_source(experiment, miniature):
    readers, _ = open_sources(replace(experiment, protocol="5w1s"), miniature)
    assert {reader.plan(0).way for reader in readers.values()} == {5}


def test_sources_that_are_not_there(experiment, miniature, tmp_path):
    shutil.copytree(miniature / "dtd", tmp_path / "dtd")
    readers, skipped = open_sources(experiment, tmp_path)
    assert list(readers) == ["dtd"]
    assert skipped == {name: "not in the records" for name in SOURCES if name != "dtd"}
    with pytest.raises(InputError, match="there is no such folder"):
        open_sources(replace(experiment, sources=("omniglot",)), tmp_path)


def test_a_folder_without_sources(experiment, tmp_path):
    with pytest.raises(InputError, match="holds none of the sources ilsvrc_2012"):
        open_sources(experiment, tmp_path)


def test_no_source_with_classes_of_the_split(experiment, miniature, tmp_path):
    shutil.copytree(miniature / "traffic_sign", tmp_path / "traffic_sign")
    with pytest.raises(InputError, match="no source here has train classes"):
        open_sources(replace(experiment, split="train"), tmp_path)


def test_own_images_are_a_source(experiment, miniature, tmp_path):
    for name in range(40):
        folder = tmp_path / "mine" / f"class{name:02d}"
        folder.mkdir(parents=True)
        for image in range(4):
            Image.new("RGB", (20, 20), (name, image, 0)).save(folder / f"{image}.png")
    wanted = replace(experiment, sources=("dtd", f"mine={tmp_path / 'mine'}"))
    readers, _ = open_sources(wanted, miniature)
    assert list(readers) == ["dtd", "mine"]
    assert readers["mine"][0].support_images.shape[1:] == (3, 16, 16)
    twice = replace(wanted, sources=(f"a={tmp_path / 'mine'}", f"a={tmp_path}/./mine"))
    with pytest.raises(InputError, match="two sources are called 'a'"):
        open_sources(twice, miniature)


def test_plan_files_are_evaluated_exactly(experiment, miniature, plans):
    files = (plans("omniglot"), plans("dtd"))
    readers, skipped = open_sources(replace(experiment, plans=files), miniature)
    assert list(readers) == ["omniglot", "dtd"] and not skipped
    drawn = EpisodeReader(miniature, "dtd", "test", size=16)
    assert [readers["dtd"].plan(i).hash for i in range(3)] == [drawn.plan(i).hash for i in range(3)]
    named = replace(experiment, plans=files, sources=("dtd",))
    assert list(open_sources(named, miniature)[0]) == ["dtd"]


@pytest.mark.parametrize(
    ("written", "asked", "message"),
    [
        ({"seed": 4}, {}, "of seed 4, not of 0. Add --seed 4"),
        ({"episodes": 2}, {}, "holds 2 episodes, but 3 are asked for. Add --episodes 2"),
        ({"split": "valid"}, {}, "of the valid split, not of test"),
        ({"protocol": "5w1s"}, {}, "was drawn by protocol 5w1s"),
        ({}, {"sources": ("omniglot",)}, "no plan file is of omniglot"),
    ],
)
def test_plan_files_that_do_not_fit(experiment, miniature, plans, written, asked, message):
    wanted = replace(experiment, plans=(plans(**written),), **asked)
    with pytest.raises(InputError, match=message):
        open_sources(wanted, miniature)


def test_two_plan_files_of_one_source(experiment, miniature, plans):
    files = (plans(episodes=3), plans(episodes=4))
    with pytest.raises(InputError, match="two sources are called 'dtd'"):
        open_sources(replace(experiment, plans=files), miniature)


def test_what_a_table_calls_the_records(experiment, miniature, tmp_path):
    nothing = lambda done, total: None  # noqa: E731
    assert find_records(experiment, nothing)[1] == "miniature v1 (not Meta-Dataset), md-v1"
    other = replace(experiment, records=tmp_path, protocol="md-v2")
    assert find_records(other, nothing)[1] == "Meta-Dataset, md-v2"
    with pytest.raises(InputError, match="no such folder"):
        find_records(replace(experiment, records=tmp_path / "none"), nothing)
