"""What tests share: the miniature, drawn once and kept in pytest's cache; filled stores."""

import hashlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from episodes import miniature as miniature_package
from episodes.miniature import draw_miniature
from tests.stored_rows import fill

__all__ = ["fill"]


def digest_of_drawing() -> str:
    """Changes with any line of the code that draws, so that no stale miniature is tested."""
    digest = hashlib.sha256()
    for path in sorted(Path(miniature_package.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


# Tests run side by side, and PyTorch's threads would wait for each other. Before it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is printed to a file is wide, whatever the width of the terminal that the tests run in.
os.environ.pop("COLUMNS", None)
# Processes that are interrupted here must notice, also where tests run in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Indexes and features of the tests go to a cache folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def miniature(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records folder of the miniature. Tests must not change anything in it."""
    cache = getattr(pytestconfig, "cache", None)
    home = cache.mkdir("miniature") if cache else tmp_path_factory.mktemp("miniature")
    current = home / digest_of_drawing()
    for outdated in set(home.glob("[!.]*")) - {current}:
        shutil.rmtree(outdated, ignore_errors=True)
    return draw_miniature(current)
