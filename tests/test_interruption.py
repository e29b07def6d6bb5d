"""Ctrl-C at moments that are hard to meet; that of an evaluation is in test_command_line.py."""

import os

from tests.test_command_line import run


def test_an_interruption_while_python_ends_changes_nothing(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGINT):\n"
        "        kill(me, number)\n"
        "sys.late = Late()\n"
    )
    status, out, err = run("data", "--help", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (status, err) == (0, "") and "--records" in out
