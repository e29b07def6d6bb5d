"""Mutated results: exported files that are imported, and the store itself."""

import json

import pytest

from fewshot.results import RowStore
from fewshot.results.collection import collect_runs
from fewshot.results.exchange import export_runs, import_file
from fewshot.results.frames import load
from tests.fuzz.mutation import mutate_bytes, mutate_value, put, survive

COUNTS = {"json": 150, "parquet": 100}


@pytest.fixture
def stored(fill, tmp_path):
    """A folder with a few stored rows."""
    fill(tmp_path / "run", {("a", "dtd"): 0.5, ("b", "dtd"): 0.7}, episodes=6)
    return tmp_path / "run"


def look(path, details=True):
    """Read all that a store holds, as tables and frames do."""
    with RowStore(path, read_only=True) as store:
        for run in store.runs():
            store.rows(run.id)
            store.accuracies(run.id)
            store.failures(run.id)
    frames = load(path.parent)
    found = [frames.runs, frames.episodes]
    return [*found, frames.classes, frames.guesses, frames.told] if details else found


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_imports(stored, tmp_path, kind):
    path, target = tmp_path / f"exported.{kind}", tmp_path / "into" / "rows.sqlite"
    runs = collect_runs(stored).runs
    export_runs(runs, path)
    whole = path.read_bytes()
    export_runs(runs, tmp_path / "plain.json")
    content = json.loads((tmp_path / "plain.json").read_text())
    content["rows"] = content["rows"][:6]

    def make(draw):
        if kind == "parquet" or draw.random() < 0.3:
            return mutate_bytes(whole, draw)
        return json.dumps(mutate_value(content, draw)).encode("utf-8", "surrogatepass")

    def read(given):
        put(path, given)
        target.parent.mkdir(exist_ok=True)
        for old in target.parent.iterdir():
            old.unlink()
        with RowStore(target) as store:
            import_file(path, store)
        look(target)

    survive(f"imports of {kind}", COUNTS[kind], make, read)


def test_stores(stored, tmp_path):
    whole = (stored / "rows.sqlite").read_bytes()
    path = tmp_path / "mutated" / "rows.sqlite"
    path.parent.mkdir()

    def read(given):
        for old in path.parent.iterdir():
            old.unlink()
        look(put(path, given), details=False)

    survive("stores", 150, lambda draw: mutate_bytes(whole, draw), read)
