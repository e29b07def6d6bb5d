"""What a training is made of: settings from flags and files. Imports no torch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import tyro

from episodes.faults import InputError, unknown_name
from episodes.protocol import SOURCES, find_protocol
from fewshot.backbone_name import BackboneName
from fewshot.experiment import read_config, short_hash
from fewshot.training.recipe import Recipe

Flags = TypeVar("Flags")

METHODS = ("supervised", "multi_domain", "distillation", "self_distillation", "film")


@dataclass(frozen=True)
class Settings:
    """Train a backbone on the train classes of one source or several.

    The same command goes on where it was stopped, and runs on many processes under torchrun:
    torchrun --nproc-per-node 8 run_meta_dataset.py train … (every process sees the same --output).
    Without --records it trains on the miniature.
    """

    backbone: str = "aa_resnet18"
    """The network; "aa_" before a name anti-aliases it."""
    method: str = "supervised"
    """supervised: one network per source. multi_domain: one network with a linear head per source
    (MDL). distillation: that, taught by one network per source (URL). self_distillation: one per
    source, taught by a trained network of the same kind (born again). film: per source, only
    scales and offsets of the network that --init names (SUR-pnf)."""
    init: Path | None = None
    """Checkpoint to begin from; its classifier is left out, for it has learned other classes."""
    config: Path | None = None
    """YAML file with the same keys as these flags; flags win. A folder holds one per source."""
    records: Path | None = None
    """Folder with a folder of records per source; the miniature when not given."""
    train_sources: tuple[str, ...] = ("ilsvrc_2012",)
    """Sources whose train classes are learned; all takes those of the protocol."""
    teachers: tuple[Path, ...] = ()
    """Checkpoints that teach, one per source, in any order."""
    temperature: float = 4.0
    """Of the softmax by which a teacher's scores are compared."""
    teacher_weight: float = 0.5
    """self_distillation: share of the loss that compares with the teacher."""
    teacher_weights: tuple[float, ...] = ()
    """distillation: weight of each teacher, in the order of the sources; 1 each when not given."""
    teacher_steps: tuple[int, ...] = ()
    """distillation: steps over which the weight of each teacher falls to 0, in the order of the
    sources; all when not given."""
    image_size: int = 84
    """Side of the square images in pixels, e.g. 84, 126 or 224."""
    image_rule: str = "official"
    """How bytes become pixels; the benchmark's own rule by default."""
    packs: Path | None = None
    """Folder of packs, if not beside the records."""
    protocol: str = "md-v1"
    """Rules of the validation episodes, and the splits that are obeyed."""
    validation_sources: tuple[str, ...] = ()
    """Sources of the validation episodes; those trained on when not given."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = field(default_factory=Recipe)
    output: Path | None = None
    """Folder of checkpoints and logs; by default a name in runs/ that depends on the settings."""
    device: str = "auto"
    """auto, cpu or cuda."""
    workers: int | None = None
    """Processes that read images ahead, beside each training process. Never moves a number."""
    dry_run: bool = False
    """Only say what would be trained, on how much, in how long: ten steps are measured."""
    profile: bool = False
    """Write a trace of a few steps (trace.json) for chrome://tracing or Perfetto."""
    tensorboard: bool = False
    """Write a log for TensorBoard beside the JSON lines."""

    methods: ClassVar[tuple[str, ...]] = METHODS
    """What the method may be."""

    @property
    def name(self) -> str:
        """Of the files of this training."""
        if self.method == "supervised":
            return self.train_sources[0]
        if self.method == "self_distillation":
            return f"{self.train_sources[0]}.born_again"
        if self.method == "film":
            return f"{self.train_sources[0]}.film"
        return self.method

    @property
    def single(self) -> bool:
        """Whether the method trains one network per source."""
        return self.method in ("supervised", "self_distillation", "film")

    def check(self) -> Self:
        """These settings, if a training could obey them.

        Raises:
            InputError: a setting is wrong.
        """
        if self.method not in self.methods:
            raise unknown_name("method", self.method, self.methods)
        backbone = str(BackboneName.parse(self.backbone))
        if self.device not in ("auto", "cpu", "cuda"):
            raise unknown_name("device", self.device, ("auto", "cpu", "cuda"))
        for source in (*self.train_sources, *self.validation_sources):
            if self.records is None and source not in SOURCES and "=" not in source:
                raise unknown_name("source", source, SOURCES)
        if self.image_size < 1:
            raise InputError(f"--image-size is {self.image_size}: it must be above 0.")
        if (self.workers or 0) < 0:
            raise InputError(f"--workers is {self.workers}: it must not be negative.")
        if not self.temperature > 0:
            raise InputError(f"--temperature is {self.temperature}: it must be above 0.")
        if not 0 < self.teacher_weight <= 1:
            raise InputError(f"--teacher-weight is {self.teacher_weight}: from above 0 to 1.")
        find_protocol(self.protocol)
        taught = len(self.train_sources) if "distillation" in self.method else 0
        if len(self.teachers) != taught:
            raise InputError(
                f"{self.method} on {len(self.train_sources)} sources takes {taught} teachers, "
                f"not {len(self.teachers)}.",
                "--teachers",
                "Give one checkpoint per source." if taught else "Leave --teachers out.",
            )
        if self.method == "film" and self.init is None:
            raise InputError("film trains on top of a network.", "--init", "Name its checkpoint.")
        if taught and self.recipe.compile:
            raise InputError("networks with teachers are not compiled.", "--compile")
        for name in ("teacher_weights", "teacher_steps"):
            if len(getattr(self, name)) not in (0, taught):
                raise InputError(f"--{name.replace('_', '-')} must name {taught} numbers.")
        self.recipe.check()
        return replace(self, backbone=backbone)

    def plain(self) -> dict[str, Any]:
        """Every setting that moves a number, as plain values."""
        other = ("config", "output", "device", "workers", "dry_run", "profile", "tensorboard")
        return {key: value for key, value in asdict(self).items() if key not in other}


def parse_settings(arguments: list[str], prog: str) -> tuple[Settings, ...]:
    """The trainings that flags and configuration files describe, one after the other.

    A method that trains one network per source makes as many trainings as there are sources. If
    `--config` is a folder, each reads the file there that is named after its source.

    Args:
        arguments: the command line, without the program's name.
        prog: the program's name, for the help text.

    Raises:
        InputError: a setting is wrong.
        SystemExit: a flag is wrong (status 2, explained on the terminal) or help was asked for.
    """
    typed: Settings = tyro.cli(Settings, prog=prog, args=arguments)
    if typed.config is None or not typed.config.is_dir():
        together = layered(Settings(), typed.config, arguments, prog)
        sources = spell_out(together.train_sources, together.protocol)
        if not together.single:
            return (replace(together, train_sources=sources).check(),)
        trainings = [replace(together, train_sources=(source,)) for source in sources]
    else:
        sources = spell_out(typed.train_sources, typed.protocol)
        trainings = [
            replace(
                layered(Settings(), typed.config / f"{source}.yaml", arguments, prog),
                train_sources=(source,),
            )
            for source in sources
        ]
    if len(sources) > 1 and len(typed.teachers) == len(sources):
        from fewshot.training.teachers import by_source  # which imports torch

        names = [source.partition("=")[0] for source in sources]
        pairs = zip(trainings, by_source(typed.teachers, names), strict=True)
        trainings = [replace(training, teachers=(teacher,)) for training, teacher in pairs]
    return tuple(training.check() for training in trainings)


def default_folder(trainings: Sequence[Settings]) -> Path:
    """A name in runs/ that differs with every setting that moves a number."""
    first = trainings[0]
    where = "miniature" if first.records is None else first.records.resolve().name or "records"
    content = [training.plain() for training in trainings]
    content.append({"place": str(first.records and first.records.resolve())})
    return (
        Path("runs")
        / f"train-{BackboneName.parse(first.backbone).file}-{where}-{short_hash(content)}"
    )


def spell_out(sources: tuple[str, ...], protocol: str) -> tuple[str, ...]:
    """Sources to train on, `all` spelled out as those of the protocol.

    Raises:
        InputError: there is none, or one twice.
    """
    if sources == ("all",):
        return find_protocol(protocol).train_sources
    if not sources:
        raise InputError("--train-sources is empty.", remedy="Name at least one.")
    if len(set(sources)) < len(sources):
        raise InputError("--train-sources names one twice.")
    return sources


def layered(defaults: Flags, path: Path | None, arguments: list[str], prog: str) -> Flags:
    """Flags over a configuration file over defaults; all have a recipe among them.

    Raises:
        InputError: the file is wrong.
        SystemExit: a flag is wrong (status 2, explained on the terminal) or help was asked for.
    """
    kind, settings = type(defaults), defaults
    if path is not None:
        known = {one.name for one in (*fields(kind), *fields(Recipe))}  # type: ignore[arg-type]
        flags = read_config(path, known - {"config", "recipe"})
        try:
            settings = tyro.cli(kind, prog=str(path), args=flags, default=settings)
        except SystemExit:
            raise InputError("has a value of the wrong type, as said above.", path) from None
    settings = tyro.cli(kind, prog=prog, args=arguments, default=settings)
    return settings
