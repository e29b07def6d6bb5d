"""Every configuration file is an experiment or a training, and says in its header what it is."""

from pathlib import Path

import pytest

from commands import baseline, evaluate, train
from fewshot.training.recipe import Recipe

PROJECT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((PROJECT / "configs").rglob("*.y*ml"))
TRAININGS = PROJECT / "configs" / "training"
BASELINES = PROJECT / "configs" / "baselines"
SUR_TABLE = {
    # facts on heads, section 4: batch, rate, iterations, restart period
    "ilsvrc_2012": (64, 3e-2, 480_000, 48_000),
    "omniglot": (16, 3e-2, 50_000, 3_000),
    "aircraft": (8, 3e-2, 50_000, 3_000),
    "cu_birds": (16, 3e-2, 50_000, 3_000),
    "dtd": (32, 3e-2, 50_000, 1_500),
    "quickdraw": (64, 1e-2, 480_000, 48_000),
    "fungi": (32, 3e-2, 480_000, 15_000),
    "vgg_flower": (8, 3e-2, 50_000, 1_500),
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_loads_and_has_a_header(path):
    flags = ["--config", str(path), "--records", "x"]
    if TRAININGS in path.parents:
        many = path.stem == "distillation"  # which takes eight teachers
        teachers = ["--teachers", *map(str, range(8))] if many else []
        init = ["--init", "x"] if path.parent.name == "sur_pnf" else []
        assert train.parse([*flags, *teachers, *init], "train")[0].config == path
    elif BASELINES in path.parents:
        name = "protonet" if path.stem == "miniature" else path.stem.rpartition("_imagenet")[0]
        name = name or path.stem.rpartition("_all")[0]
        assert baseline.parse([name, *flags], "baseline").config == path
    else:
        assert evaluate.parse(flags, "run_meta_dataset.py").config == path
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    for word in ("command:", "time:", "expect:"):
        assert any(line.startswith(f"# {word}") for line in header)


def test_there_is_one_per_setting_of_the_benchmark():
    assert {path.stem for path in CONFIGS} >= {
        "miniature",
        "meta_dataset_imagenet",
        "meta_dataset_all",
    }


@pytest.mark.parametrize("kind", ["sur", "url"])
def test_the_eight_single_domain_networks_follow_the_published_table(kind):
    flags = ["--config", str(TRAININGS / kind), "--train-sources", "all", "--records", "x"]
    trainings = train.parse(flags, "train")
    assert {one.train_sources[0] for one in trainings} == set(SUR_TABLE) and len(trainings) == 8
    for training in trainings:
        recipe, wanted = training.recipe, SUR_TABLE[training.train_sources[0]]
        assert (recipe.batch_size, recipe.learning_rate, recipe.steps, recipe.period) == wanted
        assert recipe.validate_every == recipe.period and recipe.validation_episodes == 300
        assert (recipe.weight_decay, recipe.schedule, recipe.augment) == (7e-4, "restarts", "sur")
        assert recipe.classifier == {"sur": "cosine", "url": "linear"}[kind]


def test_one_network_for_all_takes_448_images_of_imagenet_and_64_of_each_other():
    flags = ["--config", str(TRAININGS / "multi_domain.yaml"), "--records", "x"]
    (training,) = train.parse(flags, "train")
    assert training.recipe.parts(8) == (448, *[64] * 7)
    assert training.train_sources == tuple(SUR_TABLE)


def test_flags_win_over_a_file_and_what_is_in_neither_has_its_default():
    flags = ["--config", str(TRAININGS / "sur" / "dtd.yaml"), "--records", "x", "--steps", "7"]
    (training,) = train.parse(flags, "train")
    assert training.recipe.steps == 7 and training.recipe.batch_size == 32
    assert training.recipe.clip == Recipe().clip
