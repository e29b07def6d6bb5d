"""What a baseline is made of: a method, its training and its evaluation. Imports no torch."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from episodes.protocol import find_protocol
from fewshot.backbone_name import BackboneName
from fewshot.experiment import Experiment, short_hash
from fewshot.training.recipe import Recipe
from fewshot.training.settings import Settings, layered, spell_out

Kind = TypeVar("Kind", bound=Settings)

RECIPE = Recipe(
    steps=75_000,
    optimizer="adam",
    learning_rate=1e-3,
    schedule="staircase",
    period=5000,
    factor=0.5,
    warmup=0.0,
    weight_decay=2e-4,
    decay="weights",
    augment="none",
    precision="float32",
    select="few_shot",
    validate_every=500,
    validation_episodes=600,
)
"""The benchmark's defaults for its episodic methods; its L2 term has no half, hence 2e-4."""


@dataclass(frozen=True)
class Baseline:
    """Train a reference method of the benchmark, then evaluate it on all sources.

    The same command goes on where it was stopped, in training and in evaluation; training runs on
    many processes under torchrun. Without --config the settings are the benchmark's best for the
    method and the sources trained on (configs/baselines); with --init those for a network that was
    trained to classify ImageNet, without it those for a network trained from scratch. Without
    --records everything is small, on the miniature.
    """

    method: tyro.conf.Positional[str]
    """protonet, matchingnet, relationnet, maml, proto_maml, anil, ctx or simple_cnaps, which
    learn from episodes; baseline (nearest neighbour) or finetune, which learn from images."""
    settings: tuple[str, ...] = ()
    """Of the method, as in steps=5 rate=0.01; docs/baselines.md lists them."""
    config: Path | None = None
    """YAML file with the same keys as these flags; flags win."""
    backbone: str = "resnet18"
    """The network; "aa_" before a name anti-aliases it."""
    init: Path | None = None
    """Checkpoint to begin from, e.g. of a training on ImageNet's classes."""
    records: Path | None = None
    """Folder with a folder of records per source; the miniature when not given."""
    train_sources: tuple[str, ...] = ("ilsvrc_2012",)
    """Sources whose train classes are learned; all takes those of the protocol."""
    validation_sources: tuple[str, ...] = ("ilsvrc_2012",)
    """Sources of the validation episodes; ImageNet's alone decide in the benchmark."""
    image_size: int = 84
    """Side of the square images in pixels, e.g. 84 or 126."""
    image_rule: str = "official"
    """How bytes become pixels; the benchmark's own rule by default."""
    packs: Path | None = None
    """Folder of packs, if not beside the records."""
    protocol: str = "md-v1"
    """Rules of all episodes: a preset, or the path of a .yaml file; a file that a configuration
    names may be beside it."""
    train_protocol: str = ""
    """Rules of the training episodes, where they are others."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = field(default_factory=lambda: RECIPE)
    sources: tuple[str, ...] = ("all",)
    """Sources to evaluate on; all takes those of the protocol that are there."""
    split: str = "test"
    """Classes to evaluate on: train, valid or test."""
    episodes: int = 600
    """Episodes per source to evaluate on; published results use 600."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["--out"])] = None
    """Folder of checkpoint, log and rows; by default a name in runs/ that depends on the
    settings."""
    device: str = "auto"
    """auto, cpu or cuda."""
    workers: int | None = None
    """Processes that read images ahead. Never moves a number."""
    features: str = "cache"
    """Folder where features are kept between runs: cache, none, or a path."""
    dry_run: bool = False
    """Only say what would be trained, on how much, in how long: ten steps are measured."""
    tensorboard: bool = False
    """Write a log for TensorBoard beside the JSON lines."""

    @property
    def text(self) -> str:
        """The method with its settings, as the table of methods reads them."""
        return f"{self.method}:{','.join(self.settings)}" if self.settings else self.method

    def check(self) -> "Baseline":
        """These settings, if training and evaluation could obey them.

        Raises:
            InputError: a setting is wrong.
        """
        self.recipe.check()
        backbone = str(BackboneName.parse(self.backbone))
        sources = spell_out(self.train_sources, self.protocol)
        checked = replace(self, backbone=backbone, train_sources=sources)
        checked.experiment(Path("x"), ("x",)).check()
        if self.train_protocol:
            find_protocol(self.train_protocol)
        return checked

    def training(self, kind: type[Kind], method: str) -> Kind:
        """The settings of its training.

        Args:
            kind: of settings.
            method: what they call it.

        Raises:
            InputError: a setting is wrong.
        """
        return kind(
            backbone=self.backbone,
            method=method,
            init=self.init,
            records=self.records,
            train_sources=self.train_sources,
            image_size=self.image_size,
            image_rule=self.image_rule,
            packs=self.packs,
            protocol=self.protocol,
            validation_sources=self.validation_sources,
            recipe=self.recipe,
            output=self.output,
            device=self.device,
            workers=self.workers,
            tensorboard=self.tensorboard,
        ).check()

    def experiment(self, checkpoint: Path, heads: tuple[str, ...]) -> Experiment:
        """The settings of its evaluation."""
        return Experiment(
            backbone=(self.backbone,),
            heads=heads,
            records=self.records,
            sources=self.sources,
            split=self.split,
            episodes=self.episodes,
            seed=self.recipe.seed,
            protocol=self.protocol,
            image_size=self.image_size,
            image_rule=self.image_rule,
            packs=self.packs,
            checkpoint=(checkpoint,),
            output=self.output,
            device=self.device,
            workers=self.workers,
            features=self.features,
        )

    def default_folder(self) -> Path:
        """A name in runs/ that differs with every setting that moves a weight."""
        what = "miniature" if self.records is None else self.records.resolve().name or "records"
        other = ("config", "output", "device", "workers", "features", "dry_run", "tensorboard")
        evaluated = ("sources", "split", "episodes")
        content = {k: v for k, v in asdict(self).items() if k not in (*other, *evaluated)}
        content["place"] = str(self.records and self.records.resolve())
        return Path("runs") / f"{self.method}-{what}-{short_hash(content)}"


def parse_baseline(
    arguments: list[str], default_config: Callable[[Baseline], Path | None], prog: str
) -> Baseline:
    """The baseline that flags and a configuration file describe; flags win.

    It names the file.

    Args:
        arguments: the command line, without the program's name.
        default_config: the configuration of a method where no --config is given.
        prog: the program's name, for the help text.

    Raises:
        InputError: a setting is wrong.
        SystemExit: a flag is wrong (status 2, explained on the terminal) or help was asked for.
    """
    typed: Baseline = tyro.cli(Baseline, prog=prog, args=arguments)
    path = typed.config or default_config(typed)
    found = layered(Baseline(typed.method), path, arguments, prog)
    if path is not None:
        found = replace(
            found,
            config=path,
            protocol=_beside(path, found.protocol),
            train_protocol=_beside(path, found.train_protocol),
        )
    return found.check()


def _beside(config: Path, protocol: str) -> str:
    """A protocol by name or path; the path of a file that is beside a configuration file."""
    there = config.parent / protocol
    is_file = protocol.endswith((".yaml", ".yml")) and not Path(protocol).exists()
    return str(there) if is_file and there.exists() else protocol
