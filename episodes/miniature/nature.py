"""Flowers (`vgg_flower`), mushrooms (`fungi`) and birds (`cu_birds`), each out of doors."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from episodes.miniature.canvas import (
    BLACK,
    WHITE,
    Canvas,
    Colour,
    Pose,
    Surface,
    any_colour,
    ground,
    photograph,
    scatter,
    vary,
)
from episodes.miniature.objects import spread
from episodes.miniature.shapes import bar, box, ellipse, lathe, petal, polygon, smooth

LEAVES: tuple[Colour, Colour] = ((0.30, 0.60, 0.25), (0.26, 0.50, 0.50))
SOIL: tuple[Colour, Colour] = ((0.08, 0.50, 0.22), (0.20, 0.40, 0.42))
AIR: tuple[Colour, Colour] = ((0.55, 0.25, 0.80), (0.30, 0.35, 0.55))


def outdoors(
    rng: Generator,
    size: tuple[int, int],
    colours: tuple[Colour, Colour],
    clutter: int,
    cells: int = 5,
) -> Canvas:
    near, far = (vary(colour, rng, 0.05, 0.15) for colour in colours)
    canvas = Canvas(ground(rng, size, (near, far), cells))
    scatter(canvas, rng, clutter, (near, far), 0.3)
    return canvas


def photo_size(rng: Generator, low: int = 80, high: int = 120) -> tuple[int, int]:
    """A size whose longer side is drawn between bounds and whose aspect is 4:3, 1 or 3:4."""
    long = int(rng.integers(low, high))
    short = int(long * rng.uniform(0.7, 1.0))
    return (long, short) if rng.random() < 0.6 else (short, long)


@dataclass(frozen=True)
class Flower:
    """Petals around a heart."""

    petals: int
    length: float
    width: float
    tip: float
    layers: int
    heart: float
    colours: tuple[Colour, Colour, Colour]
    veined: bool

    @classmethod
    def of_class(cls, rng: Generator, index: int) -> "Flower":
        place = spread(index, 6)
        hue = (0.70 + 0.47 * float(place[0])) % 1.0  # violet through red to yellow
        return cls(
            petals=(4, 5, 6, 8, 12, 16)[int(place[1] * 6)],
            length=float(0.6 + 0.35 * place[2]),
            width=float(0.7 + 0.7 * place[3]),
            tip=float(place[4]),
            layers=1 + int(place[5] * 2),
            heart=float(rng.uniform(0.1, 0.34)),
            colours=(
                (hue, float(rng.uniform(0.15, 0.9)), float(rng.uniform(0.7, 1))),
                (hue + float(rng.uniform(-0.1, 0.08)), 0.7, float(rng.uniform(0.4, 0.95))),
                (float(rng.uniform(0.05, 0.17)), 0.8, float(rng.uniform(0.3, 0.95))),
            ),
            veined=bool(rng.random() < 0.5),
        )

    def paint(self, rng: Generator) -> Image.Image:
        size = photo_size(rng)
        canvas = outdoors(rng, size, LEAVES, clutter=int(rng.integers(4, 12)))
        for _ in range(int(rng.integers(1, 3)) if rng.random() < 0.35 else 1):
            pose = Pose.draw(rng, size, (0.6, 1.0), np.pi, 0.2)
            self._bloom(canvas, rng, pose)
        return photograph(canvas.finished(), rng, 0.8, 7, 0.25)

    def _bloom(self, canvas: Canvas, rng: Generator, pose: Pose) -> None:
        outer, inner, heart = (vary(colour, rng, 0.03, 0.12) for colour in self.colours)
        canvas.fill(bar((0, 0), (rng.uniform(-0.4, 0.4), 3), 0.1), (0.3, 0.6, 0.4), pose)
        width = 2 * np.pi / self.petals * self.width
        for layer in range(self.layers):
            size = self.length * (1 - 0.4 * layer)
            for k in range(self.petals):
                turn = (k + 0.5 * layer) * 2 * np.pi / self.petals + rng.normal(0, 0.06)
                length = size * rng.uniform(0.88, 1.08)
                shade = vary(inner if layer else outer, rng, 0.01, 0.06)
                canvas.fill(petal(length, length * width, self.tip, turn), shade, pose)
                if self.veined:
                    canvas.fill(petal(length * 0.75, length * width * 0.3, 0.2, turn), inner, pose)
        canvas.fill(ellipse(0, 0, self.heart), heart, pose)
        canvas.fill(ellipse(0, 0, self.heart * 0.5), vary(heart, rng, 0.02, 0.2), pose)


@dataclass(frozen=True)
class Mushroom:
    """Cap, gills, stem, ring, and scales on the cap."""

    shape: NDArray[np.float64]
    cap: Colour
    stem: Colour
    scales: bool
    ring: bool

    @classmethod
    def of_class(cls, rng: Generator, index: int) -> "Mushroom":
        place = spread(index, 7)
        earthy = float(0.02 + 0.13 * place[5]) if rng.random() < 0.8 else float(rng.random())
        return cls(
            shape=place[:5],
            cap=(earthy, float(0.2 + 0.6 * place[6]), float(rng.uniform(0.35, 0.95))),
            stem=(0.1, float(rng.uniform(0.05, 0.35)), float(rng.uniform(0.55, 0.95))),
            scales=bool(rng.random() < 0.4),
            ring=bool(rng.random() < 0.4),
        )

    def paint(self, rng: Generator) -> Image.Image:
        size = photo_size(rng)
        canvas = outdoors(rng, size, SOIL, clutter=int(rng.integers(8, 18)), cells=7)
        for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.5 else 1):
            self._grow(canvas, rng, Pose.draw(rng, size, (0.45, 0.9), 0.3, 0.35))
        return photograph(canvas.finished(), rng, 0.9, 9, 0.3)

    def _grow(self, canvas: Canvas, rng: Generator, pose: Pose) -> None:
        wide, high, curl, thick, foot = np.clip(self.shape + rng.normal(0, 0.09, 5), 0, 1).tolist()
        wide, high, thick = 0.4 + 0.5 * wide, 0.25 + 0.55 * high, 0.08 + 0.2 * thick
        cap, stem = vary(self.cap, rng, 0.03, 0.16), vary(self.stem, rng, 0.03, 0.12)
        brim = -0.1
        canvas.fill(lathe((brim, thick), (0.7, thick), (0.95, thick * (1 + foot))), stem, pose)
        if self.ring:
            canvas.fill(lathe((0.15, thick), (0.3, thick * 1.8), (0.33, thick)), WHITE, pose)
        gills = Surface(vary(stem, rng, 0.02, 0.1), vary(cap, rng, 0.02, 0.1), "stripes", 0.12, 0)
        canvas.fill(ellipse(0, brim, wide * 0.95, 0.12 + 0.1 * curl), gills, pose)
        dome = smooth(
            (-wide, brim + 0.2 * curl - 0.05),
            (-wide * 0.75, brim - high * 0.7),
            (0, brim - high - 0.15 * (1 - curl)),
            (wide * 0.75, brim - high * 0.7),
            (wide, brim + 0.2 * curl - 0.05),
            (0, brim - 0.08),
        )
        marks = "spots" if self.scales else "plain"
        canvas.fill(dome, Surface(cap, vary(WHITE, rng, 0.1, 0.1), marks, 0.26, 0.4), pose)
        canvas.fill(
            ellipse(-wide * 0.3, brim - high * 0.65, 0.14, 0.06, -0.5),
            (cap[0], cap[1] * 0.5, min(cap[2] * 1.2, 1)),
            pose,
        )


@dataclass(frozen=True)
class Bird:
    """A perching bird: patches of plumage on one body plan."""

    shape: NDArray[np.float64]
    plumage: tuple[Colour, Colour, Colour, Colour, Colour]
    wing_marks: str
    crest: bool
    mask: bool

    @classmethod
    def of_class(cls, rng: Generator, index: int) -> "Bird":
        hues = [
            any_colour(rng) if rng.random() < 0.5 else (0.08, 0.35, float(rng.uniform(0.2, 0.7)))
            for _ in range(3)
        ]
        back, belly, crown = hues
        return cls(
            shape=spread(index, 5),
            plumage=(
                back,
                belly,
                crown if rng.random() < 0.5 else back,
                vary(back, rng, 0.2, 0.3),
                (float(rng.uniform(0.02, 0.15)), 0.6, float(rng.uniform(0.2, 0.9))),
            ),
            wing_marks=("plain", "stripes", "spots")[int(rng.integers(3))],
            crest=bool(rng.random() < 0.3),
            mask=bool(rng.random() < 0.35),
        )

    def paint(self, rng: Generator) -> Image.Image:
        size = photo_size(rng, 84, 124)
        canvas = outdoors(
            rng, size, AIR if rng.random() < 0.5 else LEAVES, int(rng.integers(3, 12))
        )
        pose = Pose.draw(rng, size, (0.45, 0.85), 0.3, 0.25)
        for _ in range(int(rng.integers(0, 4))):  # twigs
            y = float(rng.uniform(-1, 1))
            canvas.fill(bar((-2, y), (2, float(rng.uniform(-1, 1))), 0.05), (0.07, 0.5, 0.25), pose)
        self._perch(canvas, rng, pose)
        return photograph(canvas.finished(), rng, 0.8, 8, 0.25)

    def _perch(self, canvas: Canvas, rng: Generator, pose: Pose) -> None:
        fat, beak, tail, head, wing = np.clip(self.shape + rng.normal(0, 0.05, 5), 0, 1).tolist()
        back, belly, crown, wings, bill = (vary(colour, rng, 0.03, 0.12) for colour in self.plumage)
        high, head, beak = 0.26 + 0.2 * fat, 0.18 + 0.12 * head, 0.12 + 0.35 * beak
        x, y = -0.48 + rng.normal(0, 0.04), -0.42 + rng.normal(0, 0.07)
        canvas.fill(bar((-1.6, 0.72), (1.6, 0.66), 0.09), (0.07, 0.45, 0.3), pose)
        for leg in (-0.05, 0.1):
            canvas.fill(bar((leg, 0.3), (leg, 0.7), 0.04), BLACK, pose)
        canvas.fill(bar((0.4, 0.05), (0.6 + 0.5 * tail, 0.3 + 0.3 * tail), 0.22, 0.16), wings, pose)
        trunk = smooth((x, y - 0.1), (0.1, -high), (0.55, 0.08), (0.1, high + 0.05), (-0.45, 0.1))
        canvas.fill(trunk, back, pose)
        canvas.fill(
            smooth((x, y + 0.15), (-0.05, 0.02), (0.4, 0.15), (0.08, high + 0.04), (-0.4, 0.1)),
            belly,
            pose,
        )
        if self.crest:
            canvas.fill(
                polygon((x, y - head), (x + 0.3, y - head - 0.2), (x + 0.15, y)), crown, pose
            )
        canvas.fill(
            polygon(
                (x - head * 0.7, y - 0.08), (x - head - beak, y + 0.03), (x - head * 0.7, y + 0.1)
            ),
            bill,
            pose,
        )
        canvas.fill(ellipse(x, y, head), belly, pose)
        canvas.fill(ellipse(x + 0.02, y - 0.05, head, head * 0.8), crown, pose)
        if self.mask:
            canvas.fill(box(x - head * 0.9, y - 0.06, x + head * 0.5, y + 0.04), BLACK, pose)
        canvas.fill(ellipse(x - head * 0.35, y - 0.03, 0.05), WHITE, pose)
        canvas.fill(ellipse(x - head * 0.35, y - 0.03, 0.032), BLACK, pose)
        lift = rng.uniform(-0.25, 0.1)
        feathers = smooth(
            (-0.25, -0.1),
            (0.2, -high * 0.8 + lift),
            (0.5 + 0.35 * wing, 0.12 + lift / 2),
            (0.1, high * 0.55),
        )
        canvas.fill(feathers, Surface(wings, belly, self.wing_marks, 0.2, 0.6), pose)
