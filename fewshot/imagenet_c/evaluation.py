"""Classifiers on corrupted images, cell after cell; what is finished is kept."""

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from episodes.faults import InputError
from episodes.images import resize_by_rule, to_unit_range
from episodes.loader import prefetch
from episodes.tfrecord import replacing
from fewshot.backbones import Backbone
from fewshot.features import BATCH_SIZE
from fewshot.imagenet_c.folders import CLEAN, Cell, CorruptedImages, class_of
from fewshot.imagenet_c.metrics import Errors
from fewshot.imagenet_c.picture import Pixels
from fewshot.kept import KeptResults

JPEG_QUALITY = 85
"""Of the released images, and of those that `keep` writes."""


@dataclass(frozen=True)
class Score:
    """What a classifier did on a cell.

    Attributes:
        correct, images: images classified right, and all.
        seconds: of one core, spent on reading and corrupting them.
    """

    correct: int
    images: int
    seconds: float


@dataclass(frozen=True)
class Column:
    """A classifier in the table.

    Attributes:
        name: of the column.
        backbone: in evaluation mode, on the device.
        classes: names of its outputs.
        kept: the file with its scores.
        among: classes that a guess may be, of those it knows; empty: all.
    """

    name: str
    backbone: Backbone
    classes: tuple[str, ...]
    kept: KeptResults
    among: Set[str] = frozenset()

    @property
    def outputs(self) -> list[int]:
        """Outputs that compete for the best guess."""
        return [k for k, name in enumerate(self.classes) if not self.among or name in self.among]

    def read(self) -> dict[Cell, Score]:
        """The scores that are there.

        Raises:
            InputError: the file is damaged, or holds scores of other makings.
        """
        found = self.kept.read()
        try:
            return {_cell(key): Score(**score) for key, score in found.items()}
        except (ValueError, TypeError) as error:
            what = f"is not a file of scores ({error!r})."
            remedy = "Remove it, or choose another --output."
            raise InputError(what, self.kept.path, remedy) from error

    def write(self, scores: Mapping[Cell, Score]) -> None:
        """Keep the scores, atomically.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        self.kept.write({f"{name}/{severity}": vars(s) for (name, severity), s in scores.items()})


def _cell(key: str) -> Cell:
    name, _, severity = key.partition("/")
    return name, int(severity)


def errors_of(scores: Mapping[Cell, Score]) -> Errors:
    """The share of images classified wrong, by cell."""
    return {cell: 1 - score.correct / score.images for cell, score in scores.items()}


@dataclass(frozen=True)
class Preparation:
    """How an image of 224 pixels reaches the network; done by worker processes.

    Attributes:
        images: where they are read.
        size: side to which they are resized, or None: as they are.
        rule: the image rule whose resize is used.
        keep: folder that corrupted images are written to in the layout of the release, or None.
    """

    images: CorruptedImages
    size: int | None
    rule: str
    keep: Path | None = None

    def load(self, cell: Cell, names: Sequence[str]) -> tuple[Tensor, float]:
        """Images of a cell, [n, 3, size, size] as levels or in [−1, 1], and core seconds spent.

        Raises:
            InputError: an image cannot be read.
        """
        began = time.thread_time()
        pictures = [self.images.read(cell, name) for name in names]
        seconds = time.thread_time() - began
        if self.keep is not None and cell != CLEAN:
            for name, pixels in zip(names, pictures, strict=True):
                _write_released(self.keep, cell, name, pixels)
        if self.size is None:
            levels = np.stack([pixels.transpose(2, 0, 1) for pixels in pictures])
            return torch.from_numpy(levels), seconds
        sized = [resize_by_rule(pixels, self.size, self.rule) for pixels in pictures]
        return torch.from_numpy(np.stack(sized)), seconds


def _write_released(folder: Path, cell: Cell, name: str, pixels: Pixels) -> None:
    """One image in the layout and the encoding of the release."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    with replacing(folder / cell[0] / str(cell[1]) / name) as temporary:
        temporary.write_bytes(buffer.getvalue())


Progress = Callable[[Cell, int, int], None]


def evaluate(
    columns: Sequence[Column],
    preparation: Preparation,
    device: torch.device,
    jobs: int,
    progress: Progress = lambda cell, done, total: None,
) -> list[dict[Cell, Score]]:
    """Scores of every column on every cell; those that are kept already are not computed again.

    Every image is read and corrupted once, whatever the number of columns.

    Args:
        columns: the classifiers.
        preparation: of the images.
        device: where the backbones are.
        jobs: processes that read and corrupt; they do not change any number.
        progress: called with a cell, images done and images in all.

    Returns:
        Per column, its scores.

    Raises:
        InputError: an image cannot be read, or a file of scores cannot be written or understood.
    """
    images = preparation.images
    kept = [column.read() for column in columns]
    todo = [cell for cell in images.cells if any(cell not in scores for scores in kept)]
    batch = min(BATCH_SIZE, len(images.names))
    starts = range(0, len(images.names), batch)
    parts = [images.names[start : start + batch] for start in starts]
    batches = prefetch(preparation.load, ((cell, part) for cell in todo for part in parts), jobs)
    for cell in todo:
        found = _score_cell(columns, parts, batches, device, partial(progress, cell))
        for column, scores, score in zip(columns, kept, found, strict=True):
            if cell not in scores:
                scores[cell] = score
                column.write(scores)
    return kept


def _score_cell(
    columns: Sequence[Column],
    parts: Sequence[tuple[str, ...]],
    batches: Iterator[tuple[Tensor, float]],
    device: torch.device,
    progress: Callable[[int, int], None],
) -> list[Score]:
    """The score of every column on the cell whose batches come next."""
    correct, seconds, done = [0] * len(columns), 0.0, 0
    total = sum(map(len, parts))
    progress(0, total)
    for names in parts:
        pixels, spent = next(batches)
        images = torch.from_numpy(to_unit_range(pixels.numpy()))
        for k, column in enumerate(columns):
            outputs = column.outputs
            best = classify(column.backbone, images, len(parts[0]), device, outputs).tolist()
            guesses = [column.classes[outputs[place]] for place in best]
            correct[k] += sum(g == class_of(n) for g, n in zip(guesses, names, strict=True))
        seconds, done = seconds + spent, done + len(names)
        progress(done, total)
    return [Score(right, total, round(seconds, 4)) for right in correct]


def classify(
    backbone: Backbone, images: Tensor, batch: int, device: torch.device, outputs: Sequence[int]
) -> Tensor:
    """Which of some outputs has the highest score: its place among them, int64 [n].

    Args:
        backbone: with its classifier, in evaluation mode, on the device.
        images: float32 [n, 3, S, S] in [−1, 1].
        batch: images of a forward pass, n or more: all passes have one shape, so one set of bits.
        device: where it is computed.
        outputs: of the classifier, those that compete.
    """
    padded = images.new_zeros(batch, *images.shape[1:])
    padded[: len(images)] = images
    with torch.inference_mode():
        scores = backbone(padded.to(device, memory_format=torch.channels_last))
    return scores[: len(images), outputs].float().argmax(dim=1).cpu()
