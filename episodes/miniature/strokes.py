"""What hands draw: the characters of `omniglot` and the doodles of `quickdraw`."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from episodes.miniature.creatures import GENES, Genes
from episodes.miniature.objects import KINDS, spread
from episodes.miniature.shapes import Points, curve, turned

CHARACTER_PX, DOODLE_PX = 105, 28
HANDS = 20
FINE = 2
"""Drawn at this many times the size, then averaged."""


def draw_lines(lines: list[Points], side: int, width: float, fine: int) -> NDArray[np.uint8]:
    """Strokes in unit coordinates as ink on a square: 0 is paper, 255 is ink.

    Args:
        lines: open curves.
        side: of the square in pixels.
        width: of the pen in pixels.
        fine: drawn at this many times the size.
    """
    sheet = Image.new("L", (side * fine, side * fine))
    pen = ImageDraw.Draw(sheet)
    thick, half = max(round(width * fine), 1), side * fine / 2
    for line in lines:
        corners = (line * 0.92 + 1) * half
        pen.line(corners.ravel().tolist(), 255, thick, joint="curve")
        for x, y in corners[[0, -1]].tolist():
            pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), 255)
    return np.asarray(sheet.reduce(fine))


def wobbly(points: Points, rng: Generator, amount: float) -> Points:
    """The points as a hand draws them: displaced by a slow random walk."""
    steps = rng.normal(0, amount, points.shape)
    smooth = np.apply_along_axis(np.convolve, 0, steps, np.ones(5) / 2.2, "same")
    return points + (smooth if len(points) >= 5 else steps)


@dataclass(frozen=True)
class Hand:
    """Who draws: every character is drawn by the same few people, as in Omniglot."""

    slant: float
    turn: float
    pen: float
    shake: float
    stretch: NDArray[np.float64]

    @classmethod
    def number(cls, index: int) -> "Hand":
        place = spread(index, 6)
        return cls(
            slant=float(place[0] - 0.5) * 0.7,
            turn=float(place[1] - 0.5) * 0.35,
            pen=float(1.6 + 1.8 * place[2]),
            shake=float(0.02 + 0.05 * place[3]),
            stretch=0.6 + 0.36 * place[4:6],
        )


@dataclass(frozen=True)
class Character:
    """A letter: the control points of its strokes.

    An alphabet has a style (how many strokes, how curved, how square), which its letters share.
    """

    strokes: tuple[Points, ...]
    bend: int

    @classmethod
    def of_class(cls, rng: Generator, alphabet: int) -> "Character":
        style = spread(alphabet, 3)
        bend = 1 if style[0] < 0.3 else 4  # straight or curved
        grid = 3 if style[1] < 0.5 else 5
        count = int(rng.integers(2, 4 + (style[2] > 0.5)))
        strokes = []
        start = rng.integers(0, grid, 2)
        for _ in range(count):
            corners = [start]
            while len(corners) < int(rng.integers(3, 5)):
                step = rng.integers(0, grid, 2)
                if (step != corners[-1]).any():
                    corners.append(step)
            strokes.append(np.array(corners) / (grid - 1) * 1.6 - 0.8)
            start = corners[int(rng.integers(len(corners)))]  # strokes touch
        return cls(tuple(strokes), bend)

    def paint(self, rng: Generator) -> Image.Image:
        hand = Hand.number(int(rng.integers(HANDS)))
        slanted = np.array([[1.0, 0.0], [-hand.slant, 1.0]])
        place = rng.uniform(-0.25, 0.25, 2)
        lines = []
        for stroke in self.strokes:
            moved = (
                stroke + rng.normal(0, hand.shake, stroke.shape) + rng.normal(0, hand.shake / 2, 2)
            )
            line = curve(moved, 6) if self.bend > 1 else moved
            lines.append(turned(line * hand.stretch, hand.turn) @ slanted + place)
        ink = draw_lines(lines, CHARACTER_PX, hand.pen, FINE)
        crisp = np.where(ink > 110, 255, 0).astype(np.uint8)  # the originals have one bit a pixel
        return Image.fromarray(crisp).convert("RGB")


@dataclass(frozen=True)
class Doodle:
    """A sketched thing: outlines only, drawn in a hurry."""

    kind: str
    genes: NDArray[np.float64]

    @classmethod
    def of_class(cls, rng: Generator, kind: str) -> "Doodle":
        return cls(kind, rng.random(GENES))

    def paint(self, rng: Generator) -> Image.Image:
        genes = np.clip(self.genes + rng.normal(0, 0.2, GENES), 0, 0.999).tolist()
        parts = KINDS[self.kind](Genes(genes))
        keep = rng.random(len(parts)) > 0.18  # some forget a part,
        keep[np.argmax([np.ptp(part.points, axis=0).prod() for part in parts])] = (
            True  # not the main one
        )
        stretch, turn = np.exp(rng.normal(-0.22, 0.2, 2)), rng.normal(0, 0.3)
        mirror = np.array([rng.choice([-1.0, 1.0]), 1.0])
        shift = rng.uniform(-0.25, 0.25, 2)
        lines = []
        for part, kept in zip(parts, keep, strict=True):
            if not kept:
                continue
            closed = np.concatenate([part.points, part.points[:1]])
            dense = closed if len(closed) > 12 else curve_straight(closed)
            loose = wobbly(dense, rng, float(rng.uniform(0.02, 0.06)))
            gap = int(rng.integers(0, max(len(loose) // 6, 1)))  # outlines do not always close
            lines.append(turned(loose[: len(loose) - gap] * mirror * stretch * 0.88, turn) + shift)
        ink = draw_lines(lines, DOODLE_PX, float(rng.uniform(0.8, 1.3)), 4)
        return Image.fromarray(255 - ink).convert("RGB")


def curve_straight(corners: Points, steps: int = 4) -> Points:
    """The same polyline with `steps` points per side, so that each side can wobble."""
    t = np.arange(steps)[None, :, None] / steps
    points: Points = (corners[:-1, None] * (1 - t) + corners[1:, None] * t).reshape(-1, 2)
    return np.concatenate([points, corners[-1:]])
