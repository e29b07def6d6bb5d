"""What heads select is told by source, under the names of the extractors."""

from dataclasses import replace
from pathlib import Path

import pytest

from fewshot.results import RowStore
from fewshot.results.frames import load
from fewshot.results.methods import find_methods
from fewshot.results.selection import find_selection, name_extractors
from tests.stored_rows import draw_rows


@pytest.fixture
def told(tmp_path: Path, fill):
    """A run whose head tells the shares of two extractors, and one that tells nothing."""
    run = fill(tmp_path, {("quiet", "dtd"): 0.5}, 3)
    with RowStore(tmp_path / "rows.sqlite") as store:
        for source, first in (("omniglot", 0.25), ("dtd", 1.0)):
            for row in draw_rows("sur", source, 0.5, range(2)):
                share = first if row.index else 0.75
                store.add(run, [replace(row, told={"selection": (share, 1 - share)})])
    return load(tmp_path)


def test_means_over_episodes_by_source(told) -> None:
    methods = {method.name: method for method in find_methods(told)}
    cards = [{"backbone": "a"}, {"backbone": "b"}]
    found = find_selection(told, methods["sur"], cards)
    assert found.extractors == ("a", "b") and list(found.means) == ["omniglot", "dtd"]
    assert found.means["omniglot"] == (0.5, 0.5) and found.means["dtd"] == (0.875, 0.125)
    assert find_selection(told, methods["quiet"], cards) is None


@pytest.mark.parametrize(
    ("cards", "count", "names"),
    [
        ([{"backbone": "a"}, {"backbone": "b"}], 2, ("a", "b")),
        ([{"backbone": "a", "source": "x"}, {"backbone": "a", "source": "y"}], 2, ("x", "y")),
        ([{"backbone": "a"}, {"backbone": "a"}], 2, ("a 1", "a 2")),
        ([{"backbone": "a"}], 3, ("stage 1", "stage 2", "stage 3")),
        ([{"backbone": "a"}, {"backbone": "b"}], 3, ("extractor 1", "extractor 2", "extractor 3")),
    ],
)
def test_names_of_extractors(cards, count, names) -> None:
    assert name_extractors(cards, count) == names
