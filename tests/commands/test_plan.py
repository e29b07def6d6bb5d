"""The command `plan`, from flags to file."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
import tyro
from rich.console import Console

from commands import plan
from episodes import EpisodeSampler, InputError, hash_plans, load_spec
from episodes.plan_file import read_plans

PROJECT = Path(__file__).parents[2]


def run(*arguments):
    """Exit status and what the command printed."""
    output = io.StringIO()
    command = tyro.cli(plan.Command, args=[str(argument) for argument in arguments])
    return plan.run(command, Console(file=output, width=200)), output.getvalue()


def flags(miniature, out, **others):
    named = {"records": miniature, "source": "omniglot", "out": out, "episodes": 5} | others
    return [part for name, value in named.items() for part in (f"--{name}", value)]


def test_the_file_holds_the_episodes_and_the_hash_is_printed(miniature, tmp_path):
    out = tmp_path / "new" / "plans.parquet"
    status, output = run(*flags(miniature, out, seed=4, split="valid"))
    sampler = EpisodeSampler(load_spec(miniature / "omniglot"), "valid")
    expected = hash_plans([sampler.plan(4, i) for i in range(5)])
    assert status == 0 and expected in output and "5 episodes of omniglot (valid)" in output
    assert read_plans(out).hash == expected


def test_a_protocol_of_the_users_own(miniature, tmp_path):
    (tmp_path / "mine.yaml").write_text("name: 3w2s\nbase: 5w1s\nways: 3\nshots: 2\n")
    out = tmp_path / "plans.parquet"
    run(*flags(miniature, out, protocol=tmp_path / "mine.yaml"))
    plans = read_plans(out)
    assert plans.protocol.name == "3w2s" and {p.way for p in plans.plans} == {3}


def test_other_files_are_not_overwritten(miniature, tmp_path):
    out = tmp_path / "plans.parquet"
    run(*flags(miniature, out))
    before = out.read_bytes()
    assert run(*flags(miniature, out))[0] == 0  # the same plans again
    with pytest.raises(InputError, match=r"plans\.parquet: holds other plans .* another name"):
        run(*flags(miniature, out, seed=1))
    assert read_plans(out).hash == read_plans(out).hash and len(out.read_bytes()) == len(before)
    (tmp_path / "thesis.tex").write_text("dear reader")
    with pytest.raises(InputError, match="is there already and is no plan file"):
        run(*flags(miniature, tmp_path / "thesis.tex"))
    assert (tmp_path / "thesis.tex").read_text() == "dear reader"


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"source": "omniglott"}, "there is no such folder. Did you mean 'omniglot'"),
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"protocol": "md-v3"}, "unknown protocol 'md-v3'"),
        ({"episodes": 0}, "--episodes is 0"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_wrong_flags(miniature, tmp_path, others, message):
    with pytest.raises(InputError, match=message):
        run(*flags(miniature, tmp_path / "plans.parquet", **others))
    assert not list(tmp_path.iterdir())


def test_from_the_command_line_without_torch(miniature, tmp_path):
    """In a process of its own; another one gets the same hash."""
    outputs = []
    for name in ("a", "b"):
        arguments = flags(miniature, tmp_path / f"{name}.parquet")
        code = "import sys, run_meta_dataset as r; s = r.main(); assert 'torch' not in sys.modules"
        done = subprocess.run(
            [sys.executable, "-c", f"{code}; sys.exit(s)", "plan", *map(str, arguments)],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout.splitlines()[1:])
    assert outputs[0] == outputs[1] and outputs[0][0].startswith("hash")
