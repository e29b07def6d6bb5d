"""Shards, worker processes and actors make the rows of one process, whoever dies on the way."""

import os
import re
import signal
import sys
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pytest

from episodes import InputError
from fewshot.results import RowStore
from fewshot.work.bench import Bench
from fewshot.work.processes import serve
from run_meta_dataset import main
from tests.fewshot.work.evaluations import carry_out, processes, rows, start, wait_for

WORKERS = ("--workers", 2, "--features", "none")
SPAWNED = "multiprocessing.spawn"


def table(place, capsys):
    """The table of a folder of runs."""
    assert main(["table", str(place), "--format", "markdown"]) == 0
    return capsys.readouterr().out


def some_rows(folder):
    return (folder / "rows.sqlite").exists() and rows(folder)[1]


def test_shards_merge_to_the_rows_of_one_process(miniature, alone, tmp_path, capsys):
    checkpoint, whole = alone
    for part in (1, 2, 3):
        _, err = carry_out(miniature, checkpoint, tmp_path / f"part{part}", "--shard", f"{part}/3")
        assert "`results merge` puts all shards together" in err
    parts = [str(tmp_path / f"part{part}") for part in (1, 2, 3)]
    assert [[row["index"] % 3 for row in rows(tmp_path / f"part{n}")[1]] for n in (1, 2, 3)] == [
        [n - 1] * 16 for n in (1, 2, 3)
    ]
    assert main(["results", "merge", *parts[:2], "--into", str(tmp_path / "merged")]) == 0
    capsys.readouterr()
    text = " ".join(table(tmp_path / "merged", capsys).split())
    assert "4 episodes are not evaluated yet" in text and "Incomplete, no mean, not ranked" in text
    assert "4 of 6 episodes of Textures, VGG Flower" in text
    assert main(["results", "merge", parts[2], "--into", str(tmp_path / "merged")]) == 0
    capsys.readouterr()
    assert rows(tmp_path / "merged") == rows(whole)
    assert table(tmp_path / "merged", capsys) == table(whole, capsys)


def test_shards_of_one_folder_at_the_same_time(miniature, alone, tmp_path):
    checkpoint, whole = alone
    both = [
        start(miniature, checkpoint, tmp_path / "run", "--shard", f"{part}/2") for part in (1, 2)
    ]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert rows(tmp_path / "run") == rows(whole)
    for name in ("table.md", "table.csv"):
        assert (tmp_path / "run" / name).read_text() == (whole / name).read_text()


def test_a_shard_alone_is_incomplete(miniature, alone, tmp_path):
    out, _ = carry_out(miniature, alone[0], tmp_path / "run", "--shard", "2/2")
    out = " ".join(out.split())
    assert "Incomplete, no mean, not ranked" in out and "3 of 6 episodes of Textures" in out


def test_a_killed_worker_is_replaced_and_the_rows_are_the_same(miniature, alone, tmp_path):
    checkpoint, whole = alone
    process = start(miniature, checkpoint, tmp_path / "run", *WORKERS)
    wait_for(lambda: some_rows(tmp_path / "run"))
    victim = processes(process.pid, SPAWNED)[0]
    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert rows(tmp_path / "run") == rows(whole)
    for name in ("table.md", "table.csv"):
        assert (tmp_path / "run" / name).read_text() == (whole / name).read_text()
    assert not (tmp_path / "run" / ".features").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_a_stopped_driver_takes_its_workers_along_and_goes_on(miniature, alone, tmp_path, number):
    checkpoint, whole = alone
    process = start(miniature, checkpoint, tmp_path / "run", *WORKERS)
    wait_for(lambda: some_rows(tmp_path / "run"))
    workers = processes(process.pid, SPAWNED)
    assert len(workers) == 2
    for pid in (process.pid, *workers) if number == signal.SIGINT else (process.pid,):
        os.kill(pid, number)  # a terminal interrupts them all
    _, err = process.communicate(timeout=60)
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in workers))
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert err.strip().splitlines()[-1].startswith("interrupted") and "Traceback" not in err
    stored = rows(tmp_path / "run")[1]
    assert 0 < len(stored) < 48 and all(row in rows(whole)[1] for row in stored)
    if number == signal.SIGINT:
        return  # what follows is the same
    carry_out(miniature, checkpoint, tmp_path / "run", *WORKERS)
    assert rows(tmp_path / "run") == rows(whole)


DEADLY = """
import itertools
import os
from fewshot.heads import Head

class Deadly(Head):
    name = "deadly"

    def fit(self, support, labels, way, generator):
        if way % 3 == 0 and os.environ.get("DEADLY"):
            sum(itertools.repeat(0))  # never ends, and no handler of a signal runs meanwhile
        return lambda query: query[0][:, :way]
"""


def test_a_head_that_never_returns_fails_alone(miniature, alone, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(DEADLY, encoding="utf-8")
    flags = ("--heads", f"{tmp_path / 'mine.py'}:Deadly", "prototypical", "--sources", "dtd")
    carry_out(miniature, alone[0], tmp_path / "well", *flags)
    monkeypatch.setenv("DEADLY", "1")
    flags += ("--workers", 2, "--time-limit", 0.3)
    _, err = carry_out(miniature, alone[0], tmp_path / "run", *flags)
    well, found = rows(tmp_path / "well")[1], rows(tmp_path / "run")[1]
    deadly = [row["way"] % 3 == 0 and row["head"] == "deadly" for row in well]
    assert any(deadly) and not all(deadly)
    for before, now, dies in zip(well, found, deadly, strict=True):
        if dies:
            assert re.match("failed: its process died 3 times: exit status 1", now["status"])
        else:
            assert now == before
    assert f"deadly failed on {sum(deadly)} of 6 episodes of dtd" in err
    assert re.search(r"Timeout \(.*mine.py\", line 11 in fit", err, re.DOTALL)


def test_wrong_settings(capsys):
    for flags, message in (
        (["--shard", "3/2"], "--shard is '3/2': it must be i/n"),
        (["--shard", "0/2"], "--shard is '0/2'"),
        (["--shard", "half"], "--shard is 'half'"),
        (["--workers", "-1"], "--workers is -1"),
        (["--threads", "0"], "--threads is 0"),
        (["--worker-gpus", "0"], "--worker-gpus is 0.0"),
    ):
        assert main(flags) == 2
        assert message in capsys.readouterr().err


# ---- Ray -------------------------------------------------------------------------------------


def test_without_ray_the_remedy_is_one_line(monkeypatch, miniature, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["--records", str(miniature), "--ray", "auto", "--output", str(tmp_path)]) == 2
    assert "pip install 'run-meta-dataset[cluster]'" in capsys.readouterr().err


def test_a_killed_actor_is_replaced_and_the_rows_are_the_same(miniature, alone, tmp_path):
    pytest.importorskip("ray")
    checkpoint, whole = alone
    process = start(miniature, checkpoint, tmp_path / "run", "--ray", "local", "--workers", 2)
    wait_for(lambda: some_rows(tmp_path / "run") or process.poll() is not None)
    os.kill(wait_for(lambda: processes(process.pid, "ray::Worker"))[0], signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert rows(tmp_path / "run") == rows(whole)
    with RowStore(whole / "rows.sqlite", read_only=True) as store:
        assert len(store.rows()) == 48


def test_no_cluster_is_one_message(miniature, tmp_path, capsys):
    pytest.importorskip("ray")
    flags = ["--records", str(miniature), "--output", str(tmp_path)]
    for address in ("127.0.0.1:1", "auto"):
        assert main([*flags, "--ray", address]) == 2
        err = " ".join(capsys.readouterr().err.split())
        assert f"--ray {address}: no Ray cluster answers" in err and "ray start --head" in err


def test_a_worker_that_finds_other_files_says_so_and_does_nothing(monkeypatch):
    bench = SimpleNamespace(shelf=SimpleNamespace(images={"dtd": "now", "fungi": "same"}))
    monkeypatch.setattr(Bench, "open", lambda order, worker: bench)
    own, its = Pipe()
    serve(its, SimpleNamespace(images={"dtd": "at the start", "fungi": "same"}), 0)
    fault = own.recv()
    assert isinstance(fault, InputError) and "changed" in str(fault) and "dtd" in str(fault)
    its.close()
    with pytest.raises(EOFError):
        own.recv()
