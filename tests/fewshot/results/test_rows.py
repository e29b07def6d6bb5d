"""The store keeps what it said it kept: through kills, full disks and two writers at once."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from episodes.faults import InputError
from fewshot.results.rows import EpisodeRow, RowStore

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[2]


def make_row(index: int = 0, head: str = "prototypical", source: str = "dtd") -> EpisodeRow:
    correct = index % 11
    plan = f"plan-{source}-{index}"
    return EpisodeRow(head, source, "test", 0, index, correct / 10, 5, 50, 10, correct, plan, 0.25)


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(HERE)])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


ADDER = """
import sys
from fewshot.results.rows import RowStore
from test_rows import make_row
path, head, batches, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with RowStore(path) as store:
    for batch in range(batches):
        store.add([make_row(batch * size + i, head) for i in range(size)])
        print(batch, flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RowStore]:
    with RowStore(tmp_path / "run" / "results.sqlite", timeout_seconds=0.2) as opened:
        yield opened


def test_rows_come_back_as_they_went_in_whatever_the_order(store: RowStore) -> None:
    rows = [make_row(i, head, source) for head in "ba" for source in "dc" for i in (10, 2, 7)]
    store.add(rows)
    key = sorted(rows, key=lambda row: (row.head, row.source, row.index))
    assert store.rows() == key
    assert store.rows(head="a", source="c") == [
        row for row in key if (row.head, row.source) == ("a", "c")
    ]
    assert store.done("a", "c", "test", 0) == {2, 7, 10}
    assert store.done("a", "c", "valid", 0) == store.done("a", "c", "test", 1) == set()


def test_accuracies_are_float64_in_episode_order(store: RowStore) -> None:
    third = replace(make_row(4), accuracy=1 / 3, correct=1, query_count=3)
    store.add([third, make_row(3), replace(make_row(1), seed=9), make_row(5, source="fungi")])
    found = store.accuracies("test", 0)
    assert list(found) == [("prototypical", "dtd"), ("prototypical", "fungi")]
    assert found["prototypical", "dtd"].dtype == np.float64
    assert found["prototypical", "dtd"].tolist() == [0.3, 1 / 3]


def test_the_same_row_again_keeps_the_first(store: RowStore) -> None:
    store.add([make_row(1)])
    store.add([replace(make_row(1), seconds=9.0), make_row(2)])
    assert store.rows() == [make_row(1), make_row(2)]


def test_another_plan_is_refused_and_the_batch_with_it(store: RowStore) -> None:
    store.add([make_row(1)])
    with pytest.raises(InputError, match=r"prototypical on dtd .*#1.*plan-dtd-1 .*other"):
        store.add([make_row(2), replace(make_row(1), plan_hash="other")])
    assert store.rows() == [make_row(1)]


@pytest.mark.parametrize("accuracy", [float("nan"), 0.31, 3.0])
def test_a_row_that_contradicts_itself_is_refused(accuracy: float) -> None:
    with pytest.raises(ValueError, match="accuracy"):
        replace(make_row(3), accuracy=accuracy)


def test_a_row_without_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="0 of 0"):
        replace(make_row(0), query_count=0)


def test_rows_survive_sigkill_up_to_the_last_batch(tmp_path: Path) -> None:
    path, size = tmp_path / "results.sqlite", 50
    writer = run_python(ADDER, path, "sur", 100_000, size)
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) >= 20:
            break
    writer.send_signal(signal.SIGKILL)
    reported = int((line + writer.stdout.read()).split()[-1]) + 1
    assert writer.wait() == -signal.SIGKILL
    writer.stdout.close()
    with RowStore(path) as store:
        rows = store.rows()
        assert len(rows) >= reported * size  # a batch may be committed and not yet reported
        assert len(rows) % size == 0
        assert rows == [make_row(i, "sur") for i in range(len(rows))]
        store.add([make_row(len(rows), "sur")])
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    writers = [run_python(ADDER, path, head, 25, 4) for head in ("sur", "finetune", "sur")]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    with RowStore(path) as store:
        assert store.rows() == [
            make_row(i, head) for head in ("finetune", "sur") for i in range(100)
        ]


def test_a_run_may_go_on_with_its_own_settings_only(store: RowStore) -> None:
    settings = {"backbone": "resnet18", "image": {"size": 84, "rule": "official"}, "seeds": (0, 1)}
    assert store.settings() is None
    store.set_run(settings, {"command": "first", "path": Path("x")})
    store.set_run({**settings, "seeds": [0, 1]}, {"command": "second"})
    assert store.settings() == {**settings, "seeds": [0, 1]}
    assert store.provenance() == [{"command": "first", "path": "x"}, {"command": "second"}]
    other = {"backbone": "aa_resnet18", "image": {"size": 84, "pad": 1}, "seeds": [0, 1]}
    with pytest.raises(InputError) as caught:
        store.set_run(other, {"command": "third"})
    assert str(caught.value) == (
        f"{store.path}: these are the results of another run: "
        'backbone: "resnet18" -> "aa_resnet18"; image.rule: "official" -> not set; '
        "image.pad: not set -> 1. "
        "Choose another --output, or go back to the settings of this run."
    )
    assert len(store.provenance()) == 2


def test_a_full_disk_stops_the_batch_and_keeps_the_rest(store: RowStore) -> None:
    store.add([make_row(i) for i in range(100)])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(InputError, match=r"results\.sqlite: the disk is full.*Free some space"):
        store.add([make_row(i) for i in range(100, 10_000)])
    assert len(store.rows()) == 100
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.add([make_row(i) for i in range(100, 10_000)])
    assert len(store.rows()) == 10_000


@pytest.mark.parametrize("exists", [True, False])
def test_a_read_only_folder(exists: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if exists:
            with RowStore(folder / "results.sqlite") as store:
                store.add([make_row()])
            (folder / "results.sqlite").chmod(0o444)
        folder.chmod(0o555)
        user = os.geteuid()
        try:
            if user == 0:  # to root nothing is read-only
                os.seteuid(65534)
            with pytest.raises(InputError, match=r"results\.sqlite: .*another --output"):
                RowStore(folder / "results.sqlite")
        finally:
            os.seteuid(user)
            folder.chmod(0o755)
        if exists:
            (folder / "results.sqlite").chmod(0o644)
            with RowStore(folder / "results.sqlite") as store:
                assert store.rows() == [make_row()]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"the folder cannot be made.*--output"):
        RowStore(tmp_path / "file" / "run" / "results.sqlite")


def test_foreign_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be taken for one " * 20)
    with pytest.raises(InputError, match=r"notes\.txt: this is not a results file"):
        RowStore(text)
    assert text.read_text().startswith("not a database")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE things (name TEXT)")
    database.close()
    with pytest.raises(InputError, match=r"other\.sqlite: this is not a results file"):
        RowStore(other)


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with RowStore(path) as store:
        store._db.execute("PRAGMA user_version = 7")
    with pytest.raises(InputError, match="format 7, this program knows 1"):
        RowStore(path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with RowStore(path) as store:
        store.add([make_row(i) for i in range(2000)])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))
    with RowStore(path) as store, pytest.raises(InputError, match=r"damaged.*Restore it"):
        store.rows()


def test_a_lock_that_is_not_given_back_is_named(store: RowStore) -> None:
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(InputError, match="another process holds the results file"):
        store.add([make_row()])
    other.execute("ROLLBACK")
    other.close()
    store.add([make_row()])
    assert store.rows() == [make_row()]
