"""Settings from files and flags."""

from pathlib import Path

import pytest
import yaml

from commands.evaluate import parse
from episodes.faults import InputError
from fewshot.cost import announcement
from fewshot.experiment import Experiment, read_config


def experiment(*arguments):
    return parse([*map(str, arguments)], "run")


@pytest.fixture
def config(tmp_path):
    def write(text):
        (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
        return tmp_path / "c.yaml"

    return write


def test_without_records_the_miniatures_settings_apply():
    assert experiment().episodes == 60
    assert experiment("--episodes", 7).episodes == 7
    assert experiment("--records", "x").episodes == Experiment().episodes == 600


def test_flags_win_over_the_file(config):
    path = config("episodes: 9\nheads: [sur, finetune]\naugment: none\n")
    found = experiment("--config", path, "--records", "x", "--heads", "prototypical")
    assert (found.episodes, found.heads, found.augment) == (9, ("prototypical",), "none")


def test_keys_may_be_written_like_flags(config):
    assert experiment("--config", config("image-size: 126"), "--records", "x").image_size == 126


def test_lists_and_single_values_are_both_fine(config):
    assert experiment("--config", config("sources: [dtd, omniglot]")).sources == ("dtd", "omniglot")
    assert experiment("--config", config("sources: dtd")).sources == ("dtd",)


def test_an_unknown_key_suggests_the_nearest(config):
    with pytest.raises(InputError, match=r"c.yaml: unknown setting 'episode'.*Did you mean"):
        experiment("--config", config("episode: 3"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "is not a mapping"),
        ("heads: {sur: 1}", "holds a mapping"),
        ("a: [", "is not YAML"),
        ("episodes: many", "wrong type"),
    ],
)
def test_other_faults_of_a_file(config, text, message, capsys):
    with pytest.raises(InputError, match=message):
        experiment("--config", config(text))


def test_a_missing_file():
    with pytest.raises(InputError, match="cannot be read"):
        experiment("--config", "nowhere.yaml")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--backbone aa_resnet81", "unknown backbone 'aa_resnet81'. Did you mean 'aa_resnet18'"),
        ("--sources omniglott", "unknown source 'omniglott'. Did you mean 'omniglot'"),
        ("--source birds", "unknown source 'birds'. Did you mean 'cu_birds'"),
        ("--split tset", "unknown split 'tset'. Did you mean 'test'"),
        ("--protocol md-v9", "unknown protocol 'md-v9'. Did you mean 'md-v"),
        ("--device gpu", "unknown device 'gpu'"),
        ("--episodes 0", "--episodes is 0"),
        ("--seed -1", "--seed is -1"),
        ("--seed 9223372036854775808", "below 2 to the power of 63"),
        ("--batch-size 1", "batch norm needs 2 images"),
        ("--learning-rate nan", "--learning-rate is nan"),
        ("--warmup 1", "--warmup is 1.0"),
        ("--sources dtd dtd", "--sources names one twice"),
        ("--heads sur sur", "--heads names one twice"),
        ("--backbone resnet18 aa_resnet18 --checkpoint a b c", "2 backbones, but 3 checkpoints"),
    ],
)
def test_settings_that_no_run_could_obey(flags, message):
    with pytest.raises(InputError, match=message):
        experiment(*flags.split())


def test_settings_survive_a_round_trip_through_yaml(config):
    first = experiment(
        "--records", "r", "--heads", "sur:steps=3", "prototypical", "--augment", "sur"
    )
    settings = {k: v for k, v in first.settings().items() if k != "config"}
    again = experiment("--config", config(yaml.safe_dump(settings)))
    assert {k: v for k, v in again.settings().items() if k != "config"} == settings


def test_read_config_gives_flags(config):
    found = read_config(config("augment: none\nsource: dtd\nworkers: null\n"))
    assert found == ["--augment", "none", "--source", "dtd"]


def test_identity_leaves_out_what_only_adds_rows():
    base = experiment().identity()
    for flags in (["--heads", "sur"], ["--sources", "dtd"], ["--episodes", 9], ["--workers", 3]):
        assert experiment(*flags).identity() == base
    for flags in (["--seed", 1], ["--image-size", 32], ["--epochs", 1], ["--backbone", "resnet18"]):
        assert experiment(*flags).identity() != base


def test_with_a_checkpoint_training_settings_do_not_matter():
    base = experiment("--checkpoint", "a").identity(weights=["1"])
    assert experiment("--checkpoint", "b", "--epochs", 3).identity(weights=["1"]) == base
    assert experiment("--checkpoint", "a").identity(weights=["2"]) != base


def test_checkpoints_get_their_backbones():
    assert experiment().backbones_of_checkpoints() == ()
    two = experiment("--backbone", "resnet18", "--checkpoint", "a", "b")
    assert two.backbones_of_checkpoints() == ("resnet18", "resnet18")
    pair = experiment("--backbone", "resnet18", "aa_resnet18", "--checkpoint", "a", "b")
    assert pair.backbones_of_checkpoints() == ("resnet18", "aa_resnet18")


def test_the_announcement_says_what_and_how_long():
    text = announcement(experiment("--device", "cpu"))
    assert "Train aa_resnet18 on ilsvrc_2012" in text
    assert "60 test episodes of each of 10 sources (the bundled miniature)" in text
    assert "min on" in text
    text = announcement(experiment("--checkpoint", "a", "--sources", "dtd", "--device", "cpu"))
    assert text.startswith("Load aa_resnet18, then evaluate") and "1 source (" in text


def test_paths_are_paths():
    assert experiment("--checkpoint", "a/b.safetensors").checkpoint == (Path("a/b.safetensors"),)


def test_a_file_without_records_keeps_the_miniatures_settings(config):
    found = experiment("--config", config("heads: [sur]"))
    assert (found.episodes, found.batch_size, found.heads) == (60, 16, ("sur",))


def test_only_flags_and_file_together_are_judged(config):
    path = config("records: r\n")
    assert experiment("--config", path, "--sources", "my_source").sources == ("my_source",)
    with pytest.raises(InputError, match=r"--episodes is -1.*Set by a flag or in .*c.yaml"):
        experiment("--config", config("episodes: -1"))


def test_a_split_is_known_in_any_case():
    assert experiment("--split", "TEST").split == "test"


def test_a_deeply_nested_file(config):
    with pytest.raises(InputError, match="is not YAML"):
        experiment("--config", config("[" * 5000))
