"""A training put together: images of one or several sources, a backbone, an objective."""

from collections.abc import Callable, Sequence

from torchvision.ops import StochasticDepth

from episodes.augmentation import find_augmentation
from episodes.faults import InputError
from episodes.loader import LabelledImages
from episodes.streams import JointStream, LabelledBatch, LabelledStream
from fewshot.backbones import Backbone, build_backbone
from fewshot.training.classifier import make_cosine
from fewshot.training.lessons import LabelledLessons
from fewshot.training.loop import Training
from fewshot.training.objective import CrossEntropy
from fewshot.training.processes import Place
from fewshot.training.recipe import Recipe

MakeObjective = Callable[[Backbone, Sequence[int], float], CrossEntropy]
"""Backbone, number of classes of each source, label smoothing → what is minimised."""


def prepare(
    name: str,
    images: Sequence[LabelledImages],
    recipe: Recipe,
    place: Place,
    make_objective: MakeObjective = CrossEntropy,
    begin_with: Callable[[Backbone], str] = lambda backbone: "",
) -> Training[LabelledBatch]:
    """A training at its beginning.

    Args:
        name: of the backbone.
        images: of each source, to train on.
        recipe: how.
        place: where this process works.
        make_objective: the method; supervised where not given.
        begin_with: changes the freshly initialised backbone before anything else, and says
            by a hash what it begins with.

    Raises:
        InputError: the backbone or the augmentation is unknown, the backbone cannot be run at
            this image size, or a batch is larger than the data or does not part among sources
            and processes.
    """
    recipe.check()
    if recipe.mix != "none" and len(images) > 1:
        raise InputError("images of several sources are not mixed.", "--mix", "Use --mix none.")
    lessons = open_lessons(images, recipe, place)
    classes = [len(one.class_names) for one in images]
    backbone = build_backbone(name, sum(classes), recipe.seed)
    backbone.check_size(images[0].reader.size)
    begun_with = begin_with(backbone)
    if recipe.classifier == "cosine":
        make_cosine(backbone, recipe.seed)
    if recipe.stochastic_depth:
        _set_stochastic_depth(backbone, recipe.stochastic_depth)
    objective = make_objective(backbone, classes, recipe.label_smoothing)
    objective.begun_with = begun_with
    return Training(objective, lessons, recipe, place)


def open_lessons(images: Sequence[LabelledImages], recipe: Recipe, place: Place) -> LabelledLessons:
    """The batches of one process: its part of each source's part."""
    streams = []
    for one, part in zip(images, recipe.parts(len(images)), strict=True):
        pieces = place.ranks * recipe.accumulate
        if part % pieces:
            whose = f" of {one.reader.spec.name}" if len(images) > 1 else ""
            raise InputError(
                f"{part} images{whose} do not part among {place.ranks} processes "
                f"with {recipe.accumulate} parts each.",
                "--batch-size",
                f"Take a multiple of {pieces}.",
            )
        plain = recipe.augment == "none"
        augmentation = None if plain else find_augmentation(recipe.augment, one.reader.size)
        streams.append(
            LabelledStream(one, part // place.ranks, recipe.seed, "drop", place.shard, augmentation)
        )
    return LabelledLessons(JointStream(streams), recipe)


def _set_stochastic_depth(backbone: Backbone, last: float) -> None:
    """Probabilities that rise in a line from 0 at the input to `last` at the last branch."""
    branches = [one for one in backbone.network.modules() if isinstance(one, StochasticDepth)]
    if not branches:
        raise InputError(
            f"{backbone.name} has no residual branches to skip.",
            "--stochastic-depth",
            "Take an efficientnet, or leave it at 0.",
        )
    for number, branch in enumerate(branches, start=1):
        branch.p = last * number / len(branches)
