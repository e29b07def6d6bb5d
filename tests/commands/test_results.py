"""The stored runs of a real evaluation: listed, told, repeated, taken elsewhere."""

import contextlib
import re
import shutil
from dataclasses import replace

import pytest

from fewshot.results import RowStore
from run_meta_dataset import main


@pytest.fixture(scope="module")
def folder(miniature, tmp_path_factory):
    """A finished run of two commands, with its checkpoint."""
    home = tmp_path_factory.mktemp("results")
    flags = ["--records", miniature, "--image-size", 32, "--epochs", 1, "--batch-size", 64]
    flags += ["--device", "cpu", "--episodes", 2, "--heads", "prototypical"]
    with contextlib.chdir(home):  # the first command names no folder itself
        assert main([*map(str, flags), "--sources", "dtd"]) == 0
    (made,) = (home / "runs").iterdir()
    place = made.rename(home / "run")
    assert main([*map(str, flags), "--sources", "omniglot", "--output", str(place)]) == 0
    return place


@pytest.fixture
def call(capsys):
    def run(*arguments):
        status = main(["results", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, " ".join(out.split()), " ".join(err.split())

    return run


def rows(folder):
    with RowStore(folder / "rows.sqlite", read_only=True) as store:
        return store.rows()


def test_ls_and_show(folder, call, tmp_path):
    status, out, _ = call("ls", "--results", folder)
    assert status == 0 and "aa_resnet18" in out and "prototypical dtd omniglot" in out
    (run,) = re.findall(r"\b[0-9a-f]{8}\b", out)
    status, out, _ = call("show", run[:6], "--results", folder.parent)
    assert status == 0 and "We evaluate prototypical on the test classes of omniglot and dtd" in out
    assert "The backbone aa_resnet18" in out and "epochs 1" in out
    (tmp_path / "rows.sqlite").write_text("nothing of ours " * 100)
    status, out, _ = call("ls", "--results", tmp_path)
    assert status == 0 and "no runs" in out and "not read:" in out


@pytest.mark.parametrize("retrain", [[], ["--retrain"]])
def test_a_run_is_repeated_from_its_row(folder, call, tmp_path, retrain):
    status, out, err = call("rerun", folder, "--out", tmp_path / "again", *retrain)
    assert status == 0, out + err
    assert "4 rows are equal to the last digit" in out
    assert ("trained again" in out) is bool(retrain)
    assert len(rows(tmp_path / "again")) == 4


def test_a_row_that_was_changed_is_found(folder, call, tmp_path):
    call("merge", folder, "--into", tmp_path / "copy")
    with RowStore(tmp_path / "copy" / "rows.sqlite") as store:
        store._db.execute(
            "UPDATE episodes SET correct = 0, accuracy = 0, class_correct = NULL WHERE plan = 1"
        )
    status, out, _ = call("rerun", tmp_path / "copy", "--out", tmp_path / "again")
    assert status == 1
    assert "3 rows are equal" in out and "1 rows have another accuracy: prototypical on dtd" in out
    status, _, err = call("rerun", tmp_path / "copy", "--out", tmp_path / "copy")
    assert status == 2 and "Choose another --out" in err


def test_export_import_merge(folder, call, tmp_path):
    flags = ("--format", "parquet,csv,json", "--out", tmp_path / "mine.csv")
    status, out, _ = call("export", folder, *flags)
    assert status == 0 and "mine.csv: 4 rows of 1 runs" in out
    assert call("import", tmp_path / "mine.json", "--into", tmp_path / "a")[0] == 0
    status, out, _ = call("merge", tmp_path / "a", folder, "--into", tmp_path / "a")
    assert status == 0 and "0 rows added, 4 known already" in out
    assert rows(tmp_path / "a") == rows(folder)


def test_a_run_that_is_not_there(call, tmp_path):
    status, _, err = call("show", "abc", "--results", tmp_path / "none")
    assert status == 2 and "in which it could be a run" in err
    status, _, err = call("import", tmp_path / "none.json", "--into", tmp_path / "new")
    assert status == 2 and "no such file" in err and not (tmp_path / "new").exists()


def test_summary_and_compare(folder, call):
    status, out, _ = call("summary", folder)
    assert status == 0 and "over classes" in out and "prototypical dtd" in out
    status, _, err = call("compare", folder)
    assert status == 2 and "not two methods" in err
    status, _, err = call("compare", folder, "--heads", "prototypica")
    assert status == 2 and "Did you mean 'prototypical'" in err


def test_compare_two_heads(call, tmp_path, folder):
    changed = [replace(row, head="other (transductive) @ net") for row in rows(folder)]
    call("merge", folder, "--into", tmp_path)
    with RowStore(tmp_path / "rows.sqlite") as store:
        store.add(store.runs()[0].id, changed)
    call("merge", tmp_path, "--into", tmp_path / "copy")
    listing = call("ls", "--results", tmp_path)[1]
    assert "other (transductive), prototypical" in listing and f"{tmp_path}/copy" in listing
    shutil.rmtree(tmp_path / "copy")
    status, out, _ = call("compare", tmp_path, "--heads", "prototypical", "other")
    assert status == 0 and "other (transductive) @ net − prototypical" in out
    assert "+0.00 ± 0.00" in out and "mean of sources" in out


def test_a_report_shows_example_episodes(folder, tmp_path):
    pytest.importorskip("matplotlib")
    assert main(["report", str(folder), "--out", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Textures, episode 0" in page and "Omniglot, episode 0" in page
    assert page.count('<img src="data:image/jpeg;base64,') > 20 and " of 10</span></td>" in page
