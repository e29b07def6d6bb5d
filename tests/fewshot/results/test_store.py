"""The store keeps what it said it kept: through kills, full disks and two writers at once."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from episodes.faults import InputError
from fewshot.results.rows import ClassCount, EpisodeRow
from fewshot.results.store import Beginning, RowStore

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
from fewshot.results.store import RowStore
from test_store import make_row
path, head, batches, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with RowStore(path) as store:
    run = store.begin({}).run
    for batch in range(batches):
        store.add(run, [make_row(batch * size + i, head) for i in range(size)])
        print(batch, flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RowStore]:
    with RowStore(tmp_path / "run" / "results.sqlite", timeout_seconds=0.2) as opened:
        yield opened


@pytest.fixture
def run(store: RowStore) -> str:
    return store.begin({}).run


def test_rows_come_back_as_they_went_in_whatever_the_order(store: RowStore, run: str) -> None:
    rows = [make_row(i, head, source) for head in "ba" for source in "dc" for i in (10, 2, 7)]
    store.add(run, rows)
    key = sorted(rows, key=lambda row: (row.head, row.source, row.index))
    assert store.rows() == key
    assert store.rows(head="a", source="c") == [
        row for row in key if (row.head, row.source) == ("a", "c")
    ]
    assert store.done(run, "a", "c") == {i: f"plan-c-{i}" for i in (2, 7, 10)}
    assert store.done(run, "a", "e") == {}
    assert store.rows(split="valid") == store.rows(seed=1) == store.rows("another") == []


def test_accuracies_are_float64_in_episode_order(store: RowStore, run: str) -> None:
    third = replace(make_row(4), accuracy=1 / 3, correct=1, query_count=3)
    store.add(run, [third, make_row(3), make_row(5, source="fungi")])
    found = store.accuracies(run)
    assert list(found) == [("prototypical", "dtd"), ("prototypical", "fungi")]
    assert found["prototypical", "dtd"].dtype == np.float64
    assert found["prototypical", "dtd"].tolist() == [0.3, 1 / 3]


def test_the_same_row_again_keeps_the_first(store: RowStore, run: str) -> None:
    store.add(run, [make_row(1)])
    store.add(run, [replace(make_row(1), seconds=9.0), make_row(2)])
    assert store.rows() == [make_row(1), make_row(2)]


def test_another_plan_is_refused_and_the_batch_with_it(store: RowStore, run: str) -> None:
    store.add(run, [make_row(1)])
    with pytest.raises(InputError, match=r"prototypical on dtd .*#1.*plan-dtd-1 .*other"):
        store.add(run, [make_row(2), replace(make_row(1), plan_hash="other")])
    assert store.rows() == [make_row(1)]


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
        store.add(store.begin({}).run, [make_row(len(rows), "sur")])
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


def test_a_row_keeps_its_classes_and_another_heads_row_shares_the_plan(
    store: RowStore, run: str
) -> None:
    classes = (ClassCount(7, 10, 6, 3), ClassCount(2, 5, 4, 0))
    row = EpisodeRow("sur", "dtd", "test", 0, 4, 0.3, 2, 15, 10, 3, "plan", 0.5, classes=classes)
    store.add(run, [replace(row, classes=()), replace(row, head="b")])
    assert store.rows(head="b") == [replace(row, head="b")]
    assert store.rows(head="sur") == [replace(row, classes=())]
    assert store._db.execute("SELECT count(*) FROM plans").fetchone() == (1,)


def test_a_failed_episode_is_kept_with_its_reason_until_it_succeeds(
    store: RowStore, run: str
) -> None:
    good = make_row(3)
    failed = replace(good, accuracy=None, correct=0, status="failed: out of memory")
    store.add(run, [failed, make_row(4)])
    assert store.rows() == [failed, make_row(4)]
    assert list(store.done(run, "prototypical", "dtd")) == [4]
    assert store.accuracies(run)["prototypical", "dtd"].tolist() == [0.4]
    assert store.failures(run) == {("prototypical", "dtd"): ["failed: out of memory"]}
    assert store.failures(run, 3) == {}
    store.add(run, [good, replace(make_row(4), accuracy=None, correct=0, status="failed: x")])
    assert store.rows() == [good, make_row(4)]


def test_a_run_goes_on_with_its_own_settings_and_ingredients_only(store: RowStore) -> None:
    settings = {"backbone": "resnet18", "image": {"size": 84, "rule": "official"}, "seeds": (0, 1)}
    first = store.begin(settings, {"the head a": "1"}, {"command": "first", "path": Path("x")})
    assert first == Beginning(first.run, True, ())
    again = store.begin({**settings, "seeds": [0, 1]}, {"source b": "2"}, {"command": "second"})
    assert again == Beginning(first.run, False, ())
    (run,) = store.runs()
    assert run.settings == {**settings, "seeds": [0, 1]}
    assert run.ingredients == {"the head a": "1", "source b": "2"}
    assert run.calls == ({"command": "first", "path": "x"}, {"command": "second"})
    other = {"backbone": "aa_resnet18", "image": {"size": 84, "pad": 1}, "seeds": [0, 1]}
    second = store.begin(other, {"source b": "2"})
    assert second.is_new and second.run != first.run
    assert second.differences == (
        'backbone: "resnet18" -> "aa_resnet18"',
        'image.rule: "official" -> not set',
        "image.pad: not set -> 1",
    )
    third = store.begin(settings, {"the head a": "9", "source b": "2"})
    assert third.differences == ("the head a: changed",)  # from the run that is most like it
    assert len({first.run, second.run, third.run}) == len(store.runs()) == 3
    assert store.begin(settings, {"the head a": "1"}).run == first.run
    assert store.begin(settings, {"source b": "2"}).run == third.run  # the last that fits


def test_a_run_begun_alike_elsewhere_has_the_same_id(tmp_path: Path) -> None:
    ids = []
    for name in "ab":
        with RowStore(tmp_path / name) as store:
            ids.append(store.begin({"a": 1, "b": (2,)}, {"c": "3"}, {"time": name}).run)
    assert ids[0] == ids[1] and len(ids[0]) == 8


def test_runs_of_one_file_keep_their_rows_apart(store: RowStore) -> None:
    runs = [store.begin({"seed": seed}).run for seed in (0, 1)]
    for run, index in zip(runs, (1, 2), strict=True):
        store.add(run, [make_row(0), make_row(index)])
    assert [store.done(run, "prototypical", "dtd").keys() for run in runs] == [{0, 1}, {0, 2}]
    assert [row.index for row in store.rows()] == [0, 0, 1, 2]
    assert [row.index for row in store.rows(runs[1])] == [0, 2]
    with pytest.raises(InputError, match="there is no run nothing"):
        store.add("nothing", [make_row()])


def test_a_full_disk_stops_the_batch_and_keeps_the_rest(store: RowStore, run: str) -> None:
    store.add(run, [make_row(i) for i in range(100)])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(InputError, match=r"results\.sqlite: the disk is full.*Free some space"):
        store.add(run, [make_row(i) for i in range(100, 10_000)])
    assert len(store.rows()) == 100
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.add(run, [make_row(i) for i in range(100, 10_000)])
    assert len(store.rows()) == 10_000


@pytest.mark.parametrize("exists", [True, False])
def test_a_read_only_folder(exists: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if exists:
            with RowStore(folder / "results.sqlite") as store:
                store.add(store.begin({}).run, [make_row()])
            (folder / "results.sqlite").chmod(0o444)
        folder.chmod(0o555)
        user = os.geteuid()
        try:
            if user == 0:  # to root nothing is read-only
                os.seteuid(65534)
            with pytest.raises(InputError, match=r"results\.sqlite: .*another --output"):
                RowStore(folder / "results.sqlite")
            if exists:
                with RowStore(folder / "results.sqlite", read_only=True) as store:
                    assert store.rows() == [make_row()]
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
    with pytest.raises(InputError, match="format 7, this program knows 1 to 3"):
        RowStore(path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with RowStore(path) as store:
        store.add(store.begin({}).run, [make_row(i) for i in range(2000)])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))
    with RowStore(path) as store, pytest.raises(InputError, match=r"damaged.*Restore it"):
        store.rows()


def test_a_lock_that_is_not_given_back_is_named(store: RowStore, run: str) -> None:
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(InputError, match="another process holds the results file"):
        store.add(run, [make_row()])
    other.execute("ROLLBACK")
    other.close()
    store.add(run, [make_row()])
    assert store.rows() == [make_row()]


FORMAT_1 = """
CREATE TABLE run (id INTEGER PRIMARY KEY CHECK (id = 1), settings TEXT NOT NULL);
CREATE TABLE provenance (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE episodes (
    head TEXT NOT NULL, source TEXT NOT NULL, split TEXT NOT NULL, seed INTEGER NOT NULL,
    "index" INTEGER NOT NULL, accuracy REAL NOT NULL, way INTEGER NOT NULL,
    support_size INTEGER NOT NULL, query_count INTEGER NOT NULL, correct INTEGER NOT NULL,
    plan_hash TEXT NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (head, source, split, seed, "index")
) WITHOUT ROWID;
PRAGMA application_id = 0x4D445253;
PRAGMA user_version = 1;
INSERT INTO run VALUES (1, '{"seed": 0}');
INSERT INTO provenance (record) VALUES ('{"command": "x", "ingredients": {"the head sur": "1"}}');
"""


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_of_format_1_is_read_and_goes_on(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "rows.sqlite"
    rows = [make_row(i, head, source) for head in ("a", "b") for source in "cd" for i in range(3)]
    with sqlite3.connect(path) as database:
        database.executescript(FORMAT_1)
        values = [astuple(row)[:12] for row in rows]
        database.executemany(f"INSERT INTO episodes VALUES ({', '.join('?' * 12)})", values)
    database.close()
    content = path.read_bytes()
    with RowStore(path, read_only=read_only) as store:
        assert store.rows() == rows
        (run,) = store.runs()
        assert run.settings == {"seed": 0} and run.ingredients == {"the head sur": "1"}
        assert [call["command"] for call in run.calls] == ["x"]
        if not read_only:
            assert store.begin({"seed": 0}, {"the head sur": "1"}).run == run.id
            store.add(run.id, [make_row(9)])
    assert (path.read_bytes() == content) is read_only
    with RowStore(path, read_only=True) as store:
        assert len(store.rows()) == 12 + (not read_only)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_of_format_2_is_read_and_goes_on(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "rows.sqlite"
    with RowStore(path) as store:
        run = store.begin({}).run
        store.add(run, [make_row(1)])
        store._db.execute("DROP TABLE details")
        store._db.execute("PRAGMA user_version = 2")
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    told = replace(make_row(2), told={"selection": [0.25, 0.75]})
    with RowStore(path, read_only=read_only) as store:
        assert store.rows() == [make_row(1)]
        if not read_only:
            store.add(run, [told])
            assert store.rows() == [make_row(1), told]
    assert (path.read_bytes() == content) is read_only


def test_details_of_a_row_come_back(store: RowStore, run: str) -> None:
    row = replace(make_row(3), guesses=(0, 4, 1, 1, 1, 2, 3, 4, 4, 0), told={"a b": [1.0], "c": []})
    store.add(run, [make_row(1), row, replace(make_row(3, "b"), told={"c": [0.5]})])
    assert store.rows(head="prototypical") == [make_row(1), row]
    assert [row.told for row in store.rows(index=3)] == [{"c": [0.5]}, {"a b": [1.0], "c": []}]
    store.add(run, [replace(row, guesses=(), told={"other": [1.0]})])  # the first stays
    assert store.rows(head="prototypical", index=3) == [row]


def test_reading_makes_nothing_and_sees_what_a_writer_has_finished(tmp_path: Path) -> None:
    path = tmp_path / "rows.sqlite"
    with pytest.raises(InputError, match="there is no such results file"):
        RowStore(path, read_only=True)
    assert not path.exists()
    with RowStore(path) as writer:
        writer.add(writer.begin({}).run, [make_row(1)])
        with RowStore(path, read_only=True) as reader:
            assert reader.rows() == [make_row(1)]
            reader.add(reader.runs()[0].id, [make_row(2)])
        assert writer.rows() == [make_row(1)]
