"""Road signs seen from a moving car: the classes of `traffic_sign`."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image

from episodes.miniature.canvas import BLACK, WHITE, Canvas, Colour, Pose, ground, photograph, vary
from episodes.miniature.shapes import Points, bar, box, ellipse, polygon, regular, star

RED: Colour = (0.99, 0.82, 0.75)
BLUE: Colour = (0.60, 0.85, 0.65)
YELLOW: Colour = (0.13, 0.80, 0.95)
STREET: tuple[tuple[Colour, Colour], ...] = (
    ((0.30, 0.40, 0.35), (0.55, 0.15, 0.75)),
    ((0.07, 0.30, 0.45), (0.60, 0.10, 0.60)),
    ((0.58, 0.25, 0.80), (0.30, 0.30, 0.30)),
)

SEGMENTS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "a": ((-1, -2), (1, -2)), "b": ((1, -2), (1, 0)), "c": ((1, 0), (1, 2)), "d": ((-1, 2), (1, 2)),
    "e": ((-1, 0), (-1, 2)), "f": ((-1, -2), (-1, 0)), "g": ((-1, 0), (1, 0)),
}  # fmt: skip
"""The seven strokes of a digit."""

DIGITS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")


def number(value: int) -> list[Points]:
    """A number of one or two digits as strokes."""
    text = str(value)
    out = []
    for place, digit in enumerate(text):
        x = 0.27 * (2 * place - len(text) + 1)
        for segment in DIGITS[int(digit)]:
            (x0, y0), (x1, y1) = SEGMENTS[segment]
            out.append(bar((x + 0.16 * x0, 0.17 * y0), (x + 0.16 * x1, 0.17 * y1), 0.12))
    return out


def arrow(turn: float) -> list[Points]:
    """An arrow that points up, turned by radians."""
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[cos, sin], [-sin, cos]])
    parts = bar((0, 0.5), (0, -0.1), 0.18), polygon((-0.32, -0.05), (0, -0.55), (0.32, -0.05))
    return [part @ matrix for part in parts]


GLYPHS: dict[str, list[Points]] = {
    "nothing": [],
    **{str(value): number(value) for value in (20, 30, 40, 50, 60, 80)},
    "ahead": arrow(0.0),
    "left": arrow(np.pi / 2),
    "right": arrow(-np.pi / 2),
    "slanting": arrow(np.pi / 4),
    "bar": [box(-0.6, -0.14, 0.6, 0.14)],
    "cross": [bar((-0.4, -0.4), (0.4, 0.4), 0.2), bar((-0.4, 0.4), (0.4, -0.4), 0.2)],
    "plus": [box(-0.42, -0.1, 0.42, 0.1), box(-0.1, -0.42, 0.1, 0.42)],
    "mark": [bar((0, -0.45), (0, 0.12), 0.2, 0.12), ellipse(0, 0.34, 0.1)],
    "bend": [bar((-0.2, 0.45), (-0.2, 0), 0.16), bar((-0.2, 0.04), (0.2, -0.14), 0.16),
             bar((0.2, -0.1), (0.2, -0.5), 0.16)],
    "humps": [ellipse(-0.24, 0.15, 0.22), ellipse(0.24, 0.15, 0.22), box(-0.5, 0.15, 0.5, 0.35)],
    "walker": [ellipse(0, -0.35, 0.11), bar((0, -0.25), (0, 0.1), 0.2),
               bar((0, 0.1), (-0.2, 0.5), 0.12), bar((0, 0.1), (0.2, 0.5), 0.12),
               bar((-0.25, -0.1), (0.25, 0.0), 0.1)],
    "cars": [box(-0.52, 0.02, -0.06, 0.3), box(0.06, 0.02, 0.52, 0.3),
             box(-0.42, -0.16, -0.16, 0.05), box(0.16, -0.16, 0.42, 0.05)],
    "star": [star(0, 0.02, 0.42, 0.42, 6)],
    "lights": [ellipse(0, -0.3, 0.13), ellipse(0, 0.02, 0.13), ellipse(0, 0.34, 0.13)],
}  # fmt: skip
"""What signs show, as outlines."""

PLATES: dict[str, tuple[Points, Points, Colour, Colour, Colour]] = {
    "ban": (ellipse(0, 0, 0.95), ellipse(0, 0, 0.72), RED, WHITE, BLACK),
    "end": (ellipse(0, 0, 0.95), ellipse(0, 0, 0.88), BLACK, WHITE, (0.0, 0.0, 0.5)),
    "warning": (regular(0, 0.15, 1.1, 3), regular(0, 0.17, 0.78, 3), RED, WHITE, BLACK),
    "order": (ellipse(0, 0, 0.95), ellipse(0, 0, 0.88), WHITE, BLUE, WHITE),
    "stop": (regular(0, 0, 1, 8, 0.39), regular(0, 0, 0.9, 8, 0.39), WHITE, RED, WHITE),
    "priority": (regular(0, 0, 1, 4), regular(0, 0, 0.7, 4), WHITE, YELLOW, BLACK),
    "yield": (regular(0, -0.15, 1.1, 3, np.pi), regular(0, -0.17, 0.72, 3, np.pi),
              RED, WHITE, BLACK),
    "notice": (box(-0.85, -0.85, 0.85, 0.85), box(-0.75, -0.75, 0.75, 0.75), WHITE, BLUE, WHITE),
}  # fmt: skip
"""Outline, field, and the colours of rim, field and glyph."""


@dataclass(frozen=True)
class Sign:
    """A class: a plate and what is on it. Everything else is weather and distance."""

    plate: str
    glyph: str

    @classmethod
    def of_class(cls, rng: Generator, plate: str, glyph: str) -> "Sign":
        del rng  # signs are regulated
        return cls(plate, glyph)

    def paint(self, rng: Generator) -> Image.Image:
        side = int(np.exp(rng.uniform(np.log(30), np.log(100))))
        size = (side, int(side * rng.uniform(0.92, 1.08)))
        near, far = STREET[int(rng.integers(len(STREET)))]
        canvas = Canvas(ground(rng, size, (vary(near, rng, 0.1, 0.2), vary(far, rng, 0.1, 0.2))))
        pose = Pose.draw(rng, size, (0.62, 0.88), 0.12, 0.12, flip=False)
        outline, field, rim, inside, ink = PLATES[self.plate]
        fade = rng.uniform(0.0, 0.12)
        rim, inside, ink = (vary(colour, rng, 0.02, 0.04 + fade) for colour in (rim, inside, ink))
        canvas.fill(outline, rim, pose)
        canvas.fill(field, inside, pose)
        drop = 0.22 if self.plate == "warning" else -0.2 if self.plate == "yield" else 0.0
        small = 0.72 if self.plate in ("warning", "yield", "priority") else 1.0
        for part in GLYPHS[self.glyph]:
            canvas.fill(part * small + (0, drop), ink, pose)
        if rng.random() < 0.3:  # a branch or a pole in front
            x = float(rng.uniform(-1, 1))
            canvas.fill(bar((x, -1.5), (x + 0.5, 1.5), 0.15), vary(near, rng, 0.1, 0.2), pose)
        picture = photograph(canvas.finished(), rng, 0.012 * side + 0.5, 9, 0.25)
        exposure = float(np.exp(rng.uniform(np.log(0.25), np.log(1.2))))  # dusk to noon
        return picture.point([min(int(value * exposure), 255) for value in range(256)] * 3)
