"""Every configuration file is an experiment or a training, and says in its header what it is."""

import re
from pathlib import Path

import pytest

from baselines.published import read_published
from baselines.table import METHODS, build_method
from commands import baseline, evaluate, train
from episodes.protocol import find_protocol
from fewshot.training.recipe import Recipe

PROJECT = Path(__file__).resolve().parents[1]
PROTOCOL_FILES = sorted((PROJECT / "configs").rglob("protocols/*.yaml"))
CONFIGS = sorted({*(PROJECT / "configs").rglob("*.y*ml")} - {*PROTOCOL_FILES})
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

BENCHMARK_TABLE = {
    # facts, section 5.4: image size, rate, period, factor, L2 term; of MAML rate and steps
    # of the inner loop, and further steps in evaluation
    "protonet_imagenet": (126, 0.0012064626897259694, 500, 0.915193802145601, 8.85787420909229e-05),
    "protonet_imagenet_scratch": (
        126,
        0.0006229660387662655,
        2500,
        0.8333411536286996,
        0.00018036259587809225,
    ),
    "protonet_all": (126, 0.0018231563858704268, 100, 0.5475646651850319, 0.0074472606534577565),
    "protonet_all_scratch": (
        126,
        0.0006229660387662655,
        2500,
        0.8333411536286996,
        0.00018036259587809225,
    ),
    "matchingnet_imagenet": (
        126,
        0.0012064626897259694,
        500,
        0.915193802145601,
        8.85787420909229e-05,
    ),
    "matchingnet_imagenet_scratch": (
        126,
        0.0006229660387662655,
        2500,
        0.8333411536286996,
        0.00018036259587809225,
    ),
    "matchingnet_all": (84, 0.005052178216688174, 500, 0.5937020776489796, 3.92173790384195e-06),
    "matchingnet_all_scratch": (
        126,
        0.002748105034397538,
        2500,
        0.9197652570309498,
        1.3254789476822292e-06,
    ),
    "relationnet_imagenet": (
        126,
        0.000906783323100297,
        5000,
        0.8707355191010226,
        6.17576791048944e-05,
    ),
    "relationnet_imagenet_scratch": (
        126,
        0.002748105034397538,
        2500,
        0.9197652570309498,
        1.3254789476822292e-06,
    ),
    "relationnet_all": (126, 0.000906783323100297, 5000, 0.8707355191010226, 6.17576791048944e-05),
    "relationnet_all_scratch": (
        126,
        0.002748105034397538,
        2500,
        0.9197652570309498,
        1.3254789476822292e-06,
    ),
    "maml_imagenet": (
        126,
        0.0003601303690709516,
        10000,
        0.8354967819706964,
        0.00030572401935585053,
        0.09915203576061224,
        10,
        5,
    ),
    "maml_imagenet_scratch": (
        84,
        0.00012385665511953882,
        5000,
        0.9153310958769965,
        0.0006858703351826797,
        0.05602373320602529,
        10,
        5,
    ),
    "maml_all": (
        126,
        0.00023702989294963628,
        10000,
        0.8354967819706964,
        0.00030572401935585053,
        0.09915203576061224,
        10,
        5,
    ),
    "maml_all_scratch": (
        126,
        0.0004067024273450244,
        10000,
        0.5575524279100452,
        3.3242172150107816e-06,
        0.01406233807768908,
        6,
        5,
    ),
    "proto_maml_imagenet": (
        126,
        0.00036339913514891586,
        2500,
        0.6477898086638092,
        1.3656044331235537e-05,
        0.005435022808033229,
        6,
        0,
    ),
    "proto_maml_imagenet_scratch": (
        126,
        0.0007181155997029211,
        5000,
        0.6431136271727287,
        3.630199690303937e-05,
        0.31106175977182243,
        6,
        5,
    ),
    "proto_maml_all": (
        126,
        0.00029809808680211807,
        500,
        0.7659662681067452,
        0.0007159940362690606,
        0.01988024603751885,
        1,
        5,
    ),
    "proto_maml_all_scratch": (
        126,
        0.0007252750256444753,
        10000,
        0.6731268939317062,
        5.323094246436839e-05,
        0.01139772733084185,
        1,
        5,
    ),
    "baseline_imagenet": (126, 0.007634189137886614, 0, None, 7.138118976497546e-06),
    "baseline_all": (126, 0.000253906846867988, 0, None, 2.393929026012612e-05),
    "finetune_imagenet": (84, 0.0027015533546616804, 0, None, 2.266979856832968e-05),
    "finetune_all": (84, 0.0027015533546616804, 0, None, 2.266979856832968e-05),
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
        parsed = baseline.parse([method_of(path), *flags], "baseline")
        assert parsed.config == path
        build_method(parsed.text)
    else:
        assert evaluate.parse(flags, "run_meta_dataset.py").config == path
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    for word in ("command:", "time:", "expect:"):
        assert any(line.startswith(f"# {word}") for line in header)
    if TRAININGS in path.parents or (BASELINES in path.parents and path.stem != "miniature"):
        time = "".join(header).split("# time:")[1].split("# expect:")[0]
        assert "A100" in time or "core" in time


def test_protocol_files_are_found_beside_the_configuration_that_names_them(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {find_protocol(path).name for path in PROTOCOL_FILES}
    assert len(names) == len(PROTOCOL_FILES) >= 3
    parsed = baseline.parse(["protonet"], "baseline")
    assert find_protocol(parsed.protocol).name == "small"


def method_of(path):
    """The method that a file of configs/baselines is for."""
    if path.stem == "miniature":
        return "protonet"
    return max((name for name in METHODS if path.stem.startswith(f"{name}_")), key=len)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("where", ["imagenet", "all"])
@pytest.mark.parametrize("begun", [True, False])
def test_baselines_find_their_published_settings(method, where, begun):
    flags = [method, "--records", "x", *(["--init", "x"] if begun else [])]
    flags += ["--train-sources", "all"] if where == "all" else []
    chosen = baseline.default_config(baseline.parse(flags, "baseline"))
    if method == "ctx":  # published for ImageNet alone
        where = "imagenet"
    stems = {f"{method}_{where}", *([] if begun else [f"{method}_{where}_scratch"])}
    assert chosen.parent == BASELINES and chosen.stem in stems


@pytest.mark.parametrize("name", BENCHMARK_TABLE)
def test_baselines_follow_the_table_of_the_benchmark(name):
    """Facts, section 5.4; the L2 term there has no half, and relation networks add it twice."""
    path = BASELINES / f"{name}.yaml"
    method = method_of(path)
    parsed = baseline.parse([method, "--config", str(path), "--records", "x"], "baseline")
    recipe = parsed.recipe
    size, rate, period, factor, decay, *inner = BENCHMARK_TABLE[name]
    assert (parsed.image_size, recipe.learning_rate) == (size, rate)
    if period:
        assert (recipe.schedule, recipe.period, recipe.factor) == ("staircase", period, factor)
    else:
        assert recipe.schedule == "constant"
    times = 4 if method == "relationnet" else 2
    assert recipe.weight_decay == pytest.approx(times * decay, rel=1e-12)
    assert (recipe.optimizer, recipe.decay, recipe.augment) == ("adam", "weights", "none")
    assert recipe.steps == (100_000 if method == "relationnet" else 75_000)
    settings = build_method(parsed.text)
    if inner:
        assert (settings.rate, settings.steps, settings.extra_steps) == tuple(inner)
    transductive = method in ("relationnet", "finetune")
    assert settings.batch_norm == ("transductive" if transductive else "support")
    assert parsed.train_sources == (
        ("ilsvrc_2012",) if "imagenet" in name else tuple(find_protocol("md-v1").train_sources)
    )


def test_crosstransformers_follow_the_benchmark():
    """Facts, section 5.3."""
    for name, steps, period, simclr in (
        ("ctx_imagenet", 100_000, 2000, 0.0),
        ("ctx_imagenet_simclr", 400_000, 4000, 0.5),
    ):
        flags = ["ctx", "--config", str(BASELINES / f"{name}.yaml"), "--records", "x"]
        parsed = baseline.parse(flags, "baseline")
        recipe, method = parsed.recipe, build_method(parsed.text)
        assert (parsed.backbone, parsed.image_size) == ("resnet34", 224)
        assert (recipe.steps, recipe.period, recipe.factor) == (steps, period, 0.915193802145601)
        assert (recipe.learning_rate, recipe.unit_gradient) == (6e-4, True)
        assert recipe.weight_decay == pytest.approx(2 * 8.85787420909229e-5, rel=1e-12)
        assert (method.width, method.dilated, method.simclr) == (128, True, simclr)
        assert method.batch_norm == "running"
        assert find_protocol(parsed.train_protocol).ignore_hierarchy_probability == 0.5
        assert find_protocol(parsed.protocol).name == "md-v1"


def test_baselines_tell_the_published_numbers():
    names = {"baseline": "k-NN", "finetune": "Finetune", "matchingnet": "MatchingNet"}
    names |= {"protonet": "ProtoNet", "relationnet": "RelationNet", "maml": "fo-MAML"}
    names |= {"proto_maml": "fo-Proto-MAML", "ctx": "CTX", "simple_cnaps": "SimpleCNAPS"}
    rows = {
        (where, row.method): [cell.mean for cell in row.cells.values()]
        for where in ("imagenet", "all")
        for row in read_published(where)
    }
    checked = 0
    for path in BASELINES.glob("*_*.yaml"):
        if (method := method_of(path)) not in names:
            continue
        header = path.read_text().split("# expect:")[1].split("# differs:")[0]
        row = rows["imagenet" if "imagenet" in path.stem else "all", names[method]]
        numbers = [float(number) / 100 for number in re.findall(r"\d+\.\d\d", header)]
        assert numbers == row
        checked += 1
    assert checked >= 28


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
