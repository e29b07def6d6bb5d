"""What docs/protocol.md names must exist, and what it shows must work."""

import importlib
import re
from pathlib import Path

from episodes import PROTOCOLS
from episodes.protocol import find_protocol

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_every_name_exists():
    names = re.findall(
        r"`(images|ontology|plan|plan_file|protocol|reader|sampling|spec)\.(\w+)`", PAGE
    )
    assert len(names) > 15
    for module, name in names:
        if name != "py":  # a file of the official code
            assert hasattr(importlib.import_module(f"episodes.{module}"), name), (module, name)


def test_every_test_file_exists():
    files = re.findall(r"`(tests/[\w/.]+)`", PAGE)
    assert files and all((PROJECT / file).is_file() for file in files)


def test_every_preset_is_in_the_table():
    rows = re.findall(r"^\| `([\w-]+)`.*\|$", PAGE, flags=re.MULTILINE)
    assert rows == list(PROTOCOLS)


def test_the_example_is_a_protocol(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    path = tmp_path / "own.yaml"
    path.write_text(example)
    protocol = find_protocol(path)
    assert (protocol.name, protocol.ways, protocol.shots, protocol.queries) == ("10w3s", 10, 3, 15)
