"""One training from its settings to its checkpoint, in a folder; resumable, by any processes."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from episodes.faults import InputError
from episodes.loader import LabelledImages
from episodes.protocol import find_protocol
from episodes.reader import EpisodeReader
from fewshot.backbones import Backbone
from fewshot.checkpoint import Card, load_checkpoint, save_checkpoint
from fewshot.devices import choose_workers, describe_device
from fewshot.film import insert_film
from fewshot.heads import Head, build_head
from fewshot.listener import Listener
from fewshot.results import collect
from fewshot.sources import find_records
from fewshot.training.classifier import find_classifier
from fewshot.training.distillation import Distillation, SelfDistillation
from fewshot.training.files import Files
from fewshot.training.film import Film
from fewshot.training.journal import Journal
from fewshot.training.loop import Observer, Score, Training, train
from fewshot.training.meter import Report
from fewshot.training.objective import CrossEntropy
from fewshot.training.processes import Place
from fewshot.training.recipe import Recipe
from fewshot.training.settings import Settings
from fewshot.training.supervised import MakeObjective, prepare
from fewshot.training.teachers import by_source, card_of, load_teachers
from fewshot.training.validation import Validation

WAIT_SECONDS = 2.0
"""Between looks whether another process has finished."""


class Job:
    """A training with all that it reads.

    Args:
        settings: of the training.
        place: where this process works.
        listener: told how far the drawing of the miniature is.

    Raises:
        InputError: a setting or a file is wrong.
    """

    def __init__(self, settings: Settings, place: Place, listener: Listener) -> None:
        self.settings, self.place, self.listener = settings, place, listener
        self.recipe = settings.recipe
        self.seen: tuple[str, ...] = ()
        drawn = partial(listener.progress, "draw the miniature", note="class files")
        if place.first:
            find_records(settings, drawn)
        place.same(0, "nothing")  # the others find what the first has drawn
        self.records, self.benchmark = find_records(settings, lambda done, total: None)
        size, rule, packs = settings.image_size, settings.image_rule, settings.packs
        everything = [
            LabelledImages(self.records, source, "train", size, rule, packs)
            for source in settings.train_sources
        ]
        for images in everything:
            if place.first and (reason := images.reader.unpacked_because):
                listener.say(f"records are read instead of a pack: {reason}")
        self.images, self.held_out = everything, []
        if self.recipe.held_out:
            pairs = [one.hold_out(self.recipe.held_out, self.recipe.seed) for one in everything]
            self.images, self.held_out = [one for one, _ in pairs], [one for _, one in pairs]
        self.episodes = []
        if self.recipe.select == "few_shot":
            self.episodes = self.open_episodes(
                settings.validation_sources or settings.train_sources, "valid"
            )

    def open_episodes(
        self, sources: Sequence[str], split: str, protocol: str = ""
    ) -> list[EpisodeReader]:
        """The episodes of a split of some sources, by the settings' seed.

        Args:
            sources: by name.
            split: of their classes.
            protocol: rules of the episodes; the settings' own when empty.

        Raises:
            InputError: a source is missing or broken, or too small for the protocol.
        """
        settings = self.settings
        rules = protocol or settings.protocol
        shared = (rules, self.recipe.seed, settings.image_size, settings.image_rule)
        return [
            EpisodeReader(self.records, source, split, *shared, settings.packs)
            for source in sources
        ]

    @property
    def source(self) -> str:
        """The sources, joined by a plus sign."""
        return "+".join(one.reader.spec.name for one in self.images)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by label; of several sources, each behind its source's name."""
        if len(self.images) == 1:
            return self.images[0].class_names
        return tuple(
            f"{one.reader.spec.name}/{name}" for one in self.images for name in one.class_names
        )

    @property
    def head(self) -> Head:
        """What classifies the validation episodes."""
        return build_head(self.recipe.validation_head)

    def begin(self) -> Training[Any]:
        """The training at its beginning.

        Raises:
            InputError: the recipe does not fit the data, or a teacher does not fit.
        """
        return prepare(
            self.settings.backbone,
            self.images,
            self.recipe,
            self.place,
            self._objective(),
            self.begin_with,
        )

    def begin_with(self, backbone: Backbone) -> str:
        """Weights of `--init` instead of drawn ones; scales and offsets where the method asks."""
        settings, begun_with = self.settings, ""
        if settings.init is not None:
            initial, card = load_checkpoint(settings.init, settings.backbone)
            if card.image_size != settings.image_size:
                self.listener.say(
                    f"{settings.init} was trained at {card.image_size} pixels; "
                    f"here it goes on at {settings.image_size}."
                )
            name, _ = find_classifier(backbone)
            drawn = backbone.network.state_dict()
            fresh = {key: drawn[key] for key in drawn if key.startswith(f"{name}.")}
            backbone.load(initial.network.state_dict() | fresh)
            begun_with, self.seen = card.weights, card.seen_splits
        if settings.method == "film":
            insert_film(backbone)
        return begun_with

    def _objective(self) -> MakeObjective:
        settings = self.settings
        if settings.method == "film":
            return Film
        if not settings.teachers:
            return CrossEntropy
        teaching = load_teachers(
            self.teachers, self.images, settings.image_size, settings.temperature
        )
        if settings.method == "self_distillation":
            if (name := teaching.teachers[0].name) != settings.backbone:
                raise InputError(
                    f"is a {name}, not a {settings.backbone}.",
                    settings.teachers[0],
                    "Born again means a teacher of the same kind.",
                )
            return partial(SelfDistillation, teaching=teaching, weight=settings.teacher_weight)
        part = self.recipe.parts(len(self.images))[0]
        steps = self.recipe.steps or self.recipe.epochs * (len(self.images[0]) // part)
        return partial(
            Distillation,
            teaching=teaching,
            weights=settings.teacher_weights or (1.0,) * len(self.images),
            steps=settings.teacher_steps or (steps,) * len(self.images),
            seed=self.recipe.seed,
        )

    @cached_property
    def teachers(self) -> tuple[Path, ...]:
        """The checkpoints that teach, in the order of the sources."""
        return by_source(self.settings.teachers, [one.reader.spec.name for one in self.images])

    # ---- from beginning to end ---------------------------------------------------------------

    def carry_out(self, folder: Path) -> Path:
        """Train, or go on, or find that it is done; wait if another process is at it.

        Args:
            folder: of the files.

        Returns:
            The checkpoint.

        Raises:
            InputError: a file is wrong, or the folder holds another training of this name.
        """
        told = False
        while (path := self.carry_out_if_free(folder)) is None:
            if not told:
                self._say(f"another process trains {self.settings.name}: waiting for it")
            told = True
            time.sleep(WAIT_SECONDS)
        return path

    def carry_out_if_free(self, folder: Path) -> Path | None:
        """The same, but None where another process is at it.

        Raises:
            InputError: as for `carry_out`.
        """
        files = Files(folder, self.settings.name)
        claim = files.claim
        if self._done(files):
            if self.place.first:
                files.clear()
            self._say(f"{files.name} is trained already: {files.final}")
            return files.final
        if not self.place.any(self.place.first and claim.take()):
            return None
        try:
            if not self._done(files):  # until a moment ago, by another process
                self._carry_out(files)
        finally:
            claim.give_back()
        return files.final

    def _done(self, files: Files) -> bool:
        """Whether it is finished, as the first process sees it."""
        if done := self.place.any(self.place.first and files.final.exists()):
            self._refuse_other(files.final)
        return done

    def _carry_out(self, files: Files) -> None:
        settings, place = self.settings, self.place
        training = self.begin()
        training.chosen_by = self.chosen_by
        if training.resume(files.state, self._say):
            self._say(f"{settings.name}: going on from step {training.step:,}.")
        elif files.state.exists():
            raise InputError(
                "is of a training with other settings.",
                files.state.newest,
                "Choose another --output, or remove it to train from the start.",
            )
        workers = choose_workers(settings.workers, place.device)
        observer = Observer()
        journal = None
        if place.first:
            board = files.folder / "tensorboard" / settings.name if settings.tensorboard else None
            journal = Journal(files.journal, training.step, board)
            observer = Observer(
                report=partial(self._report, journal),
                say=self.listener.say,
                validated=partial(self._validated, journal),
                keep=partial(self._keep, files.best),
            )
        if self.recipe.validates:
            measured = self.episodes, self.held_out, self.recipe, self.head
            observer = replace(observer, validate=Validation(*measured, place, workers))
        trace = files.folder / "trace.json" if settings.profile else None
        backbone = train(training, files.state, workers, observer, profile=trace)
        if place.first:
            self._finish(files, training, backbone)
            journal.close() if journal else None
        place.same(training.step, "the last step")  # the others wait until it is written

    def _finish(self, files: Files, training: Training[Any], backbone: Backbone) -> None:
        if self.recipe.select == "last":
            save_checkpoint(files.final, backbone, self.card({"step": training.step}))
        else:
            save_checkpoint(files.last, backbone, self.card({"step": training.step}))
            files.best.replace(files.final)
        files.clear()
        self.listener.say(f"trained {self.settings.name}: {files.final}")

    def _say(self, sentence: str) -> None:
        """Tell the user, by the first process."""
        if self.place.first:
            self.listener.say(sentence)

    def _report(self, journal: Journal, report: Report) -> None:
        journal.report(report)
        gpu = f", GPU {report.gpu_utilisation} %" if report.gpu_utilisation is not None else ""
        note = (
            f"steps, loss {report.loss:.3f}, {report.images_per_second:,.0f} images/s, "
            f"waiting {report.data_share:.0%}{gpu}"
        )
        self.listener.progress(f"train {self.settings.name}", report.step, report.total, note)

    def _validated(self, journal: Journal, score: Score, step: int) -> None:
        journal.score(score, step)
        self.listener.say(f"{self.settings.name} step {step:,}: {describe_score(score)}")

    def _keep(self, path: Path, backbone: Backbone, score: Score, step: int) -> None:
        save_checkpoint(path, backbone, self.card({"step": step, **score.metrics}))

    def card(self, metrics: dict[str, object]) -> Card:
        """What the checkpoint says of itself."""
        provenance = collect(describe_device(self.place.device))
        own = [f"{one.reader.spec.name}:train" for one in self.images]
        return Card(
            backbone=self.settings.backbone,
            records=self.benchmark,
            source=self.source,
            split="train",
            classes=self.classes,
            image_size=self.settings.image_size,
            image_rule=self.images[0].reader.rule,
            protocol=find_protocol(self.settings.protocol).name,
            seed=self.recipe.seed,
            training=asdict(self.recipe),
            git_commit=(provenance["git"] or {}).get("commit"),
            versions=provenance["versions"],
            method=self.settings.method,
            made_from=self._made_from(),
            seen=tuple(dict.fromkeys((*self.seen, *own))),
            metrics=metrics,
        )

    @property
    def chosen_by(self) -> dict[str, object]:
        """The sources and the protocol by which the kept weights are chosen; none of the last."""
        if not self.episodes:
            return {}
        sources = [reader.images.spec.name for reader in self.episodes]
        return {"chosen_on": sources, "chosen_by": self.episodes[0].sampler.protocol.hash}

    def _made_from(self) -> dict[str, object]:
        """What else decides these weights, other weights among them; JSON values."""
        settings, found = self.settings, self.chosen_by
        if settings.init is not None:
            found["init"] = card_of(settings.init).weights
        if settings.teachers:
            found["teachers"] = [card_of(path).weights for path in self.teachers]
            found["temperature"] = settings.temperature
        if settings.method == "self_distillation":
            found["teacher_weight"] = settings.teacher_weight
        if settings.method == "distillation":
            found["teacher_weights"] = list(settings.teacher_weights)
            found["teacher_steps"] = list(settings.teacher_steps)
        return found

    def _refuse_other(self, path: Path) -> None:
        own, card = self.card({}), card_of(path)
        compared = (
            "backbone",
            "source",
            "classes",
            "image_size",
            "image_rule",
            "method",
            "made_from",
        )
        same = all(getattr(card, name) == getattr(own, name) for name in (*compared, "learner"))
        if not same or Recipe.of(card.training) != self.recipe:
            remedy = "Choose another --output, or remove it to train again."
            raise InputError("comes from a training with other settings.", path, remedy)


def describe_score(score: Score) -> str:
    """A validation in words, as percentages."""
    words = []
    for source, (mean, interval) in score.metrics["few_shot"].items():
        words.append(f"{source} valid episodes {100 * mean:.2f} ± {100 * interval:.2f} %")
    for source, top1 in score.metrics["held_out"].items():
        words.append(f"{source} held-out top-1 {100 * top1:.2f} %")
    return ", ".join(words)
