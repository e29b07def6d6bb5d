"""Episodes as tasks, with real learn2learn where it is installed."""

import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from baselines.tasks import EpisodeTasks
from episodes import EpisodeReader, InputError
from episodes.mixture import EpisodeMixture

PROJECT = Path(__file__).parents[2]
needs_learn2learn = pytest.mark.skipif(
    not find_spec("learn2learn"), reason="requirements/learn2learn.txt is not installed"
)


@pytest.fixture
def reader(miniature):
    return EpisodeReader(miniature, "cu_birds", "train", protocol="5w5s", seed=2, size=24)


@pytest.fixture
def varying(miniature):
    return EpisodeReader(miniature, "omniglot", "train", seed=2, size=24)


@pytest.fixture
def learn2learn():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gym's
        import learn2learn
    return learn2learn


def assert_same(task, other):
    assert all(torch.equal(one, two) for one, two in zip(task, other, strict=True))


def test_a_task_is_an_episode_support_first(varying):
    tasks = EpisodeTasks(varying, num_tasks=3, first=7)
    for number, (images, labels) in enumerate(tasks):
        episode = varying[7 + number]
        count = len(episode.support_labels)
        assert_same((images[:count], labels[:count]), tasks.parted(number)[0])
        assert torch.equal(images[:count], episode.support_images)
        assert torch.equal(images[count:], episode.query_images)
        assert torch.equal(labels, torch.cat([episode.support_labels, episode.query_labels]))
    assert number == 2 and len(tasks) == 3


def test_sampling_goes_round(reader):
    tasks = EpisodeTasks(reader, num_tasks=2)
    sampled = [tasks.sample() for _ in range(5)]
    for number, task in enumerate(sampled):
        assert_same(task, tasks[number % 2])
    assert not torch.equal(sampled[0][0], sampled[1][0])


def test_a_list_without_end(reader):
    tasks = EpisodeTasks(reader, first=1)
    assert len(tasks) == 1
    for number, task in enumerate(islice(tasks, 3)):
        assert_same(task, EpisodeTasks(reader, 5)[1 + number])
    assert_same(tasks.sample(), tasks[0])
    assert_same(tasks.sample(), tasks[1])


def test_what_is_no_task(reader):
    for arguments in ({"num_tasks": 0}, {"num_tasks": -2}, {"first": -1}):
        with pytest.raises(InputError, match="are none"):
            EpisodeTasks(reader, **arguments)
    for index in (-1, 2):
        with pytest.raises(IndexError):
            EpisodeTasks(reader, 2)[index]


def test_several_sources_and_loaders(reader, miniature):
    other = EpisodeReader(miniature, "dtd", "train", protocol="5w5s", size=24)
    mixture = EpisodeMixture([reader, other], seed=4)
    loaded = list(DataLoader(EpisodeTasks(mixture, 8), batch_size=None))
    assert len(loaded) == 8 and {mixture.reader(i) for i in range(8)} == {reader, other}
    for number, task in enumerate(loaded):
        assert_same(task, EpisodeTasks(mixture.reader(number), 8)[number])


# ---- learn2learn itself ----------------------------------------------------------------------


@needs_learn2learn
def test_its_data_sets_have_no_other_methods(reader, learn2learn):
    """What a script may call on a `TaskDataset`; the rest of its names are how it is made."""
    images = TensorDataset(torch.zeros(2, 1), torch.arange(2))
    known = learn2learn.data.Taskset(images, num_tasks=3)
    making = {"dataset", "task_transforms", "task_collate", "sampled_descriptions"}
    making |= {"get_task", "sample_task_description"}
    names = {name for name in dir(known) if not name.startswith("_")} - making
    ours = EpisodeTasks(reader, num_tasks=3)
    assert {"sample", "num_tasks"} <= names <= set(dir(ours))
    assert len(known) == len(ours) and known.num_tasks == ours.num_tasks
    assert len(learn2learn.data.Taskset(images)) == len(EpisodeTasks(reader))


@needs_learn2learn
def test_it_parts_tasks_as_we_do(reader, learn2learn):
    tasks = EpisodeTasks(reader, num_tasks=3)
    for number, (images, labels) in enumerate(tasks):
        parted = learn2learn.data.partition_task(images, labels, shots=5)
        for one, other in zip(parted, tasks.parted(number), strict=True):
            assert_same(one, other)


@needs_learn2learn
def test_the_script_of_the_docs_trains(miniature, tmp_path):
    text = (PROJECT / "docs" / "libraries.md").read_text(encoding="utf-8")
    (script,) = [
        block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "MAML" in block
    ]
    script = script.replace("/data/records", str(miniature)).replace("num_tasks=100", "num_tasks=4")
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT), "PATH": "", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    losses = [float(line) for line in done.stdout.splitlines()]
    assert len(losses) == 4 and all(0 < loss < 20 for loss in losses)
