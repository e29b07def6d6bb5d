"""Results in a file that knows what they are of."""

import pytest

from episodes.faults import InputError
from fewshot.kept import KeptResults


def test_what_is_written_is_read(tmp_path):
    kept = KeptResults(tmp_path / "new" / "a.json", {"weights": "abc", "size": (3, 4)})
    assert kept.read() == {}
    kept.write({"dtd": [0.5, 1.0]})
    assert kept.read() == {"dtd": [0.5, 1.0]}


def test_results_of_other_makings_are_named_and_stay(tmp_path):
    path = tmp_path / "a.json"
    KeptResults(path, {"weights": "abc", "seed": 0}).write({"x": 1})
    before = path.read_bytes()
    other = KeptResults(path, {"weights": "abd", "images": 3})
    with pytest.raises(InputError, match="results of another images, seed, weights"):
        other.read()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"identity": 3, "results": {}}', '{"results": {}}']
)
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a.json: is not a file of results"):
        KeptResults(tmp_path / "a.json", {}).read()


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        KeptResults(tmp_path / "file" / "a.json", {}).write({})
