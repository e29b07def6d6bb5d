"""Machines of a Ray cluster join and are lost in the middle of a run; the rows stay the same."""

import os
import signal
from pathlib import Path

import pytest

from tests.fewshot.work.evaluations import carry_out, processes, rows, start, wait_for

ray = pytest.importorskip("ray")

# Waits on machines of the cluster for a file to appear, and leaves a trace of who is waiting.
WAITING = """
import os
import time
from pathlib import Path

import torch

from fewshot.heads import Head

class Waiting(Head):
    name = "waiting"

    def fit(self, support, labels, way, generator):
        if gate := os.environ.get("GATE"):
            Path(gate, str(os.getpid())).touch()
            while not Path(gate, "open").exists():
                time.sleep(0.01)
        means = torch.stack([support[0][labels == label].mean(dim=0) for label in range(way)])
        means += 0.1 * torch.randn(means.shape, generator=generator)
        return lambda query: -torch.cdist(query[0], means)
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster of one machine with room for one worker; and the folder that opens the gate."""
    from ray.cluster_utils import Cluster

    gate = tmp_path / "gate"
    gate.mkdir()
    monkeypatch.setenv("GATE", str(gate))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    monkeypatch.delenv("GATE")
    try:
        yield cluster, gate
    finally:
        cluster.shutdown()


def add_machine(cluster, gate):
    """Another machine with room for one worker."""
    os.environ["GATE"] = str(gate)
    try:
        return cluster.add_node(num_cpus=1)
    finally:
        del os.environ["GATE"]


def waiting(gate):
    """Ids of the workers that have come to the gate."""
    return {int(path.name) for path in gate.iterdir() if path.name != "open"}


def alive(pid):
    return Path(f"/proc/{pid}/exe").exists()


def test_machines_join_and_are_lost(miniature, alone, tmp_path, cluster):
    cluster, gate = cluster
    (tmp_path / "mine.py").write_text(WAITING, encoding="utf-8")
    flags = ("--heads", f"{tmp_path / 'mine.py'}:Waiting", "prototypical")
    carry_out(miniature, alone[0], tmp_path / "alone", *flags)
    flags += ("--ray", cluster.address)
    driver = start(miniature, alone[0], tmp_path / "run", *flags)
    (first,) = wait_for(lambda: waiting(gate))
    machine = add_machine(cluster, gate)
    second = wait_for(lambda: waiting(gate) - {first})
    cluster.remove_node(machine, allow_graceful=False)  # it had a piece of the work
    assert len(second) == 1
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: waiting(gate) - {first} - second)  # the first machine has a worker again
    (gate / "open").touch()
    _, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, err
    assert rows(tmp_path / "run") == rows(tmp_path / "alone")
    assert {row["status"] for row in rows(tmp_path / "run")[1]} == {"ok"}
    assert (tmp_path / "run" / "table.md").read_text() == (
        tmp_path / "alone" / "table.md"
    ).read_text()


def test_workers_leave_with_a_killed_driver_and_the_next_goes_on(
    miniature, alone, tmp_path, cluster
):
    checkpoint, whole = alone
    cluster, _ = cluster
    flags = ("--ray", cluster.address)
    driver = start(miniature, checkpoint, tmp_path / "run", *flags)
    wait_for(lambda: (tmp_path / "run" / "rows.sqlite").exists() and rows(tmp_path / "run")[1])
    actors = processes(os.getpid(), "ray::Worker")
    assert actors
    driver.kill()
    driver.communicate()
    wait_for(lambda: not any(map(alive, actors)))
    stored = rows(tmp_path / "run")[1]
    assert 0 < len(stored) < 48 and all(row in rows(whole)[1] for row in stored)
    carry_out(miniature, checkpoint, tmp_path / "run", *flags)
    assert rows(tmp_path / "run") == rows(whole)
