"""Mutated YAML: configurations of every command that takes one, protocols, studies."""

from functools import partial

import pytest
import yaml

from commands import baseline, evaluate, train
from episodes.protocol import find_protocol
from fewshot.study import read_study
from tests.fuzz.mutation import mutate_bytes, mutate_value, put, survive

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(n + 1)}: &{chr(n + 1)} [{', '.join([f'*{chr(n)}'] * 9)}]\n" for n in range(97, 110)
)
"""Aliases of aliases: a few hundred bytes that spell a list of 9¹⁴ letters."""
MERGES = "a: &a {x: 1, y: 2, z: 3}\n" + "".join(
    f"{chr(n + 1)}: &{chr(n + 1)} {{<<: [{', '.join([f'*{chr(n)}'] * 9)}]}}\n"
    for n in range(97, 110)
)
HAND_MADE = [
    MERGES,
    f"base:\n  {MERGES}".replace("\n", "\n  "),
    "base: &a {seed: 1}\ngrid:\n  <<: *a",
    *(BOMB + f"{key}: *n\n" for key in ("heads", "seed", "base", "grid", "ways", "name")),
    BOMB + "grid: {heads: *n}\n",
    BOMB + "base: {heads: *n}\n",
    BOMB + "variants: *n\n",
    "seed: !!python/object/apply:os.system ['exit 1']\n",
    "!!python/object/new:os.system ['exit 1']\n",
    "&a [*a]",
    "heads: &a [*a]",
    "base: &a {heads: *a}",
    "? {a: b}\n: c",
    "{" * 3000,
    "[" * 3000,
    "seed: " + "9" * 5000,
    "seed: 0x" + "f" * 5000,
    "seed: 1:2:3:4:5:6:7:8:9:" + "59:" * 2000 + "1",
    "date: 2001-99-99",
    "seed: 2001-01-01",
    "seed: !!binary aGVsbG8=",
    "seed: !!set {a}",
    "\ufeffseed: 1",
    "seed: 1\n---\nseed: 2",
    "a: b: c",
    "\t",
    "%YAML 9.9\n---\nseed: 1",
]
EXPERIMENT = {"backbone": ["resnet18"], "heads": ["prototypical", "finetune:steps=5"], "seed": 3}
EXPERIMENT |= {"episodes": 5, "sources": ["dtd"], "learning_rate": 0.1, "protocol": "md-v1"}
TRAINING = {"records": "x", "backbone": ["resnet18"], "steps": 10, "train_sources": ["dtd"]}
TRAINING |= {"learning_rate": 0.1, "schedule": "cosine", "objective": "supervised"}
PROTOCOL = {"name": "mine", "ways": 5, "shots": 1, "queries": 10, "base": "md-v1"}
STUDY = {
    "base": {"records": "there", "episodes": 7},
    "variants": [{"backbone": "resnet18"}, {"backbone": "aa_resnet18", "checkpoint": ["a", "b"]}],
    "grid": {"heads": ["knn", "ridge"], "seed": [0, 1]},
}


def read_protocol(path):
    find_protocol(str(path))


def read_experiment(path):
    evaluate.parse(["--config", str(path), "--records", "x"], "evaluate")


def read_training(path):
    train.parse(["--config", str(path)], "train")


def read_baseline(path):
    baseline.parse(["protonet", "--config", str(path), "--records", "x"], "baseline")


def read_a_study(path):
    read_study(path, path.parent, partial(evaluate.parse, prog="study"))


READERS = {
    read_experiment: (EXPERIMENT, 60),
    read_training: (TRAINING, 60),
    read_baseline: (TRAINING, 60),
    read_protocol: (PROTOCOL, 800),
    read_a_study: (STUDY, 60),
}


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_configurations(reader, tmp_path, capsys):
    (content, count), path = READERS[reader], tmp_path / "mutated.yaml"

    def make(draw):
        if draw.random() < 0.3:
            return mutate_bytes(yaml.safe_dump(content).encode(), draw)
        changed = mutate_value(content, draw)
        text = yaml.safe_dump(changed, allow_unicode=draw.random() < 0.5)
        return text.encode("utf-8", "surrogatepass")

    def read(given):
        reader(put(path, given))
        capsys.readouterr()

    survive(reader.__name__, count, make, read)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_hand_made_files(reader, tmp_path):
    texts = iter(HAND_MADE)
    path = tmp_path / "made.yaml"

    def read(text):
        reader(put(path, text.encode()))

    survive(f"by hand, {reader.__name__}", len(HAND_MADE), lambda draw: next(texts), read)
