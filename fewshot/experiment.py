"""What an experiment is made of: one frozen record of settings, from a file and from flags.

Imports no torch, so that the command line answers at once.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from episodes.faults import InputError, unknown_name
from episodes.protocol import SOURCES, Split, find_protocol
from episodes.yaml_file import read_yaml
from fewshot.backbone_name import BackboneName
from fewshot.shard import Shard


@dataclass(frozen=True)
class Experiment:
    """Evaluate few-shot heads on Meta-Dataset.

    Trains the backbone on one source's train classes (or takes a checkpoint), evaluates every
    head on the same episodes of every source, and prints one table. Without --records it uses
    the miniature, a small ten-source benchmark drawn on first use.
    """

    backbone: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--backbones"])] = ("aa_resnet18",)
    """Backbones; "aa_" before a name anti-aliases it. With several, heads over one extractor get
    a row for each, and sur selects over all."""
    heads: tuple[str, ...] = ("prototypical", "finetune", "sur")
    """Heads, with settings as in finetune:steps=50,layers=all; or a file's own: mine.py:MyHead."""
    config: Path | None = None
    """YAML file with the same keys as these flags; flags win."""
    records: Path | None = None
    """Folder with a folder of records per source; the miniature when not given."""
    sources: tuple[str, ...] = ("all",)
    """Sources to evaluate on; all takes the protocol's that are there, name=folder a folder of
    class folders of images."""
    split: str = "test"
    """Classes to draw episodes from: train, valid or test."""
    episodes: int = 600
    """Episodes per source; published results use 600."""
    seed: int = 0
    """Another seed draws other episodes, initial weights and batches."""
    protocol: str = "md-v1"
    """Rules of the episodes: a preset, or the path of a .yaml file."""
    image_size: int = 84
    """Side of the square images in pixels, e.g. 84, 126 or 224."""
    image_rule: str = "official"
    """How bytes become pixels; the benchmark's own rule by default."""
    packs: Path | None = None
    """Folder of packs, if not beside the records; a pack gives the same pixels, only faster."""
    plans: tuple[Path, ...] = ()
    """Plan files: evaluates exactly their episodes, one file per source."""
    checkpoint: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["--checkpoints"])] = ()
    """Weights, one file per backbone (or several for one backbone); skips training."""
    source: str = "ilsvrc_2012"
    """Source whose train classes the backbone is trained on."""
    epochs: int = 90
    """Training: passes over the images."""
    batch_size: int = 256
    """Training: images per step."""
    learning_rate: float = 0.1
    """Training: the highest, from which the rate falls along a cosine."""
    warmup: float = 0.05
    """Training: share of the steps over which the learning rate rises first, below 1."""
    weight_decay: float = 1e-4
    """Training: of all parameters."""
    augment: str = "flip"
    """Training: random changes of images: none, flip, crop, jitter, randaugment or sur."""
    output: Path | None = None
    """Run folder; by default a name in runs/ that depends on every setting that matters."""
    device: str = "auto"
    """auto, cpu or cuda."""
    workers: int | None = None
    """Processes that evaluate side by side; with --ray, at most so many. Never moves a number."""
    threads: int | None = None
    """CPU threads of each process; by default as many as PyTorch takes for a process alone."""
    read_ahead: int | None = None
    """Processes that read images ahead; by default what suits the device. Never moves a number."""
    ray: str | None = None
    """Evaluate on a Ray cluster: auto (the one of this machine), its address, or local."""
    worker_gpus: float = 1.0
    """With --ray on GPUs: of each worker; 0.5 lets two share a GPU."""
    shard: str | None = None
    """i/n evaluates only the i-th of n parts of the episodes; `results merge` makes them whole."""
    features: str = "cache"
    """Folder where features are kept between runs: cache (in $XDG_CACHE_HOME), none, or a path."""
    feature_dtype: str = "float32"
    """How features are kept: float32, or float16 in half the space."""
    max_memory: float | None = None
    """Gigabytes for the episodes that a head works on at once. Never moves a number."""
    time_limit: float = 600.0
    """Seconds that a head of your own may take for an episode before it counts as failed."""

    def check(self) -> "Experiment":
        """This experiment, if a run could obey it.

        Not done when it is made: flags and files are read one by one, and only together they
        make an experiment.

        Raises:
            InputError: a setting is wrong.
        """
        split = Split.parse(self.split).value
        find_protocol(self.protocol)
        if self.device not in ("auto", "cpu", "cuda"):
            raise unknown_name("device", self.device, ("auto", "cpu", "cuda"))
        for name in (self.source, *self.source_names()):
            if self.records is None and name not in SOURCES and "=" not in name:
                raise unknown_name("source", name, SOURCES)
        names = tuple(str(BackboneName.parse(name)) for name in self.backbone)
        positive = ["episodes", "image_size", "epochs", "batch_size", "learning_rate"]
        positive += ["worker_gpus"]
        for name in positive:
            if not getattr(self, name) > 0:
                raise InputError(f"{flag(name)} is {getattr(self, name)}: it must be above 0.")
        if self.batch_size < 2:
            raise InputError("--batch-size is 1: batch norm needs 2 images.")
        if self.seed >= 2**63:
            raise InputError(f"--seed is {self.seed}: it must be below 2 to the power of 63.")
        if not 0 <= self.warmup < 1:
            raise InputError(f"--warmup is {self.warmup}: it must be from 0 to below 1.")
        if self.feature_dtype not in ("float32", "float16"):
            raise unknown_name("feature dtype", self.feature_dtype, ("float32", "float16"))
        if self.threads is not None and self.threads < 1:
            raise InputError(f"--threads is {self.threads}: it must be above 0.")
        counts = ("workers", "read_ahead")
        for name in ("seed", "weight_decay", "max_memory", "time_limit", *counts):
            if (getattr(self, name) or 0) < 0:
                raise InputError(f"{flag(name)} is {getattr(self, name)}: it must not be negative.")
        Shard.parse(self.shard)
        for name in ("backbone", "heads", "sources"):
            values = getattr(self, name)
            if not values:
                raise InputError(f"{flag(name)} is empty.", remedy="Name at least one.")
            if name != "backbone" and len(set(values)) < len(values):
                raise InputError(f"{flag(name)} names one twice: {' '.join(values)}.")
        if self.checkpoint and len(self.backbone) not in (1, len(self.checkpoint)):
            raise InputError(
                f"{len(self.backbone)} backbones, but {len(self.checkpoint)} checkpoints.",
                remedy="Give one checkpoint per backbone, or one backbone for all of them.",
            )
        return replace(self, split=split, backbone=names)

    def source_names(self) -> tuple[str, ...]:
        """The sources to evaluate on, `all` spelled out as those that the protocol tests on."""
        every = find_protocol(self.protocol).test_sources
        return every if self.sources == ("all",) else self.sources

    def indices(self) -> range:
        """Numbers of the episodes of each source that this shard evaluates."""
        return Shard.parse(self.shard).of(self.episodes)

    def backbones_of_checkpoints(self) -> tuple[str, ...]:
        """The name of the backbone of each checkpoint."""
        repeat = len(self.checkpoint) if len(self.backbone) == 1 else 1
        return self.backbone * repeat if self.checkpoint else ()

    def settings(self) -> dict[str, Any]:
        """Every setting as plain values, for run folders."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return plain

    def identity(self, **facts: object) -> dict[str, Any]:
        """What makes two runs the same experiment: settings that move numbers, and facts.

        Heads, sources and the number of episodes are not part of it: a run can be extended.

        Args:
            facts: what settings alone do not say, e.g. hashes of weights.
        """
        names = ["backbone", "split", "seed", "image_size", "image_rule"]
        if self.feature_dtype != "float32":
            names.append("feature_dtype")
        if not self.checkpoint:
            names += ["source", "epochs", "batch_size", "learning_rate", "warmup"]
            names += ["weight_decay", "augment"]
        plain = self.settings()
        protocol = find_protocol(self.protocol)  # a file's rules count, not its path
        rules = {"protocol": f"{protocol.name} ({protocol.hash})"}
        return rules | {name: plain[name] for name in names} | facts


def flag(name: str) -> str:
    """A setting's name on the command line."""
    return "--" + name.replace("_", "-")


def short_hash(content: object) -> str:
    """Eight hexadecimal digits of a JSON-like value."""
    canonical = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def read_config(path: Path, known: Collection[str] | None = None) -> list[str]:
    """A YAML configuration file as command-line arguments.

    Args:
        path: of the file.
        known: names of settings; those of an experiment when not given.

    Raises:
        InputError: the file is missing, is not a flat YAML mapping, or has an unknown key.
    """
    content = read_yaml(path) or {}
    if not isinstance(content, dict):
        raise InputError("is not a mapping of settings to values.", path)
    return as_arguments(content, path, known)


def as_arguments(
    content: Mapping[str, Any], where: Path, known: Collection[str] | None = None
) -> list[str]:
    """Settings as command-line arguments.

    Args:
        content: the settings.
        where: what a fault is reported of.
        known: names of settings; those of an experiment when not given.

    Raises:
        InputError: a key is unknown, or a value is a mapping.
    """
    known = known or {field.name for field in fields(Experiment)} - {"config"}
    arguments: list[str] = []
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in known:
            fault = unknown_name("setting", str(key), sorted(known))
            raise InputError(fault.what, where, fault.remedy)
        if isinstance(value, dict):
            raise InputError(f"'{key}' holds a mapping, but settings are flat.", where)
        if isinstance(value, bool):
            arguments.append(flag(name) if value else flag(f"no_{name}"))
        elif value is not None:
            values = value if isinstance(value, list) else [value]
            arguments += [flag(name), *map(str, values)]
    return arguments


def parse_experiment(
    arguments: list[str], default_config: Callable[[Experiment], Path | None], prog: str
) -> Experiment:
    """The experiment that flags and configuration files describe; flags win.

    Args:
        arguments: the command line, without the program's name.
        default_config: the configuration file that an experiment starts from, if any.
        prog: the program's name, for the help text.

    Raises:
        InputError: a setting is wrong.
        SystemExit: a flag is wrong (status 2, explained on the terminal) or help was asked for.
    """
    typed: Experiment = tyro.cli(Experiment, prog=prog, args=arguments)
    own = [typed.config] if typed.config else []
    experiment = _layered(own, arguments, prog)
    if (base := default_config(experiment)) is not None:
        experiment = _layered([base, *own], arguments, prog)
    try:
        return experiment.check()
    except InputError as error:
        remedy = f"{error.remedy} Set by a flag or in {typed.config}." if own else error.remedy
        raise InputError(error.what, error.where, remedy.strip()) from error


def _layered(paths: Sequence[Path], arguments: list[str], prog: str) -> Experiment:
    """Flags over configuration files, each of which is over the one before."""
    experiment = Experiment()
    for path in paths:
        flags = read_config(path)
        try:
            experiment = tyro.cli(Experiment, prog=str(path), args=flags, default=experiment)
        except SystemExit:
            raise InputError("has a value of the wrong type, as said above.", path) from None
    experiment = tyro.cli(Experiment, prog=prog, args=arguments, default=experiment)
    return experiment
