"""Ctrl-C and a reader that leaves; Ctrl-C in an evaluation is in test_command_line.py."""

import os
import signal

from tests.test_command_line import run, start


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


def test_who_reads_the_output_may_leave():
    with start("describe", "--help") as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE
