"""What is in memory before the first image is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

OPEN = """
import os, sys
from pathlib import Path
from episodes import SOURCES, EpisodeReader
readers = [EpisodeReader(sys.argv[1], source, "test", size=20) for source in SOURCES]
plans = [reader.plan(0) for reader in readers]
assert "torch" not in sys.modules
status = Path("/proc/self/status")
print(status.read_text().split("VmRSS:")[1].split()[0] if status.exists() else 0)
print(len(os.listdir("/proc/self/fd")) if status.exists() else 0)
episode = readers[1][0]
assert "torch" in sys.modules and episode.support_images.shape[1:] == (3, 20, 20)
"""

PACK = """
import sys
from run_meta_dataset import main
words = ["pack", "--records", sys.argv[1], "--sources", "dtd", "--size", "9", "--out", sys.argv[2]]
assert main(words) == 0
assert "torch" not in sys.modules
"""


def run(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_opening_all_sources_takes_little_memory_and_few_files(miniature):
    kilobytes, files = map(int, run(OPEN, miniature).split())
    if not kilobytes:
        pytest.skip("this system does not tell")
    assert kilobytes < 300_000 and files < 20


def test_packing_needs_no_torch(miniature, tmp_path):
    run(PACK, miniature, tmp_path)
