"""The textures of `dtd`: each word is a rule that turns a plane into a pattern."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from episodes.miniature.canvas import Colour, any_colour, noise, photograph, rgb, vary

Plane = NDArray[Any]
Pattern = Callable[[Plane, Plane, Generator], Plane]
"""Coordinates u, v (about 5 to 12 periods across the picture) to values, 0 to 1."""


def _wave(x: Plane) -> Plane:
    return 0.5 + 0.5 * np.sin(2 * np.pi * x)


def _cell(x: Plane) -> Plane:
    """Distance from the centre of the unit cell, -0.5 to 0.5."""
    return x - np.floor(x) - np.float32(0.5)


def _step(x: Plane, at: float = 0.0, soft: float = 0.08) -> Plane:
    return np.clip((x - at) / soft + 0.5, 0, 1)


def _soft(u: Plane, rng: Generator, cells: int) -> Plane:
    return noise(rng, (u.shape[1], u.shape[0]), cells)


def _nearest(u: Plane, v: Plane, rng: Generator) -> tuple[Plane, Plane]:
    """Distances to the nearest and second nearest of randomly shifted cell centres (Worley)."""
    cell_u, cell_v = np.floor(u).astype(int), np.floor(v).astype(int)
    shifts = rng.random((64, 64, 2), dtype=np.float32)
    first = np.full(u.shape, 9, np.float32)
    second = first.copy()
    for du in (-1, 0, 1):
        for dv in (-1, 0, 1):
            shift = shifts[(cell_u + du) % 64, (cell_v + dv) % 64]
            gap = np.hypot(cell_u + du + shift[..., 0] - u, cell_v + dv + shift[..., 1] - v)
            second = np.minimum(second, np.maximum(first, gap))
            first = np.minimum(first, gap)
    return first, second


def banded(u: Plane, v: Plane, rng: Generator) -> Plane:
    return _wave(u * 0.7 + 0.06 * _soft(u, rng, 6))


def pinstriped(u: Plane, v: Plane, rng: Generator) -> Plane:
    return _step(np.abs(_cell(u)), 0.1)


def chequered(u: Plane, v: Plane, rng: Generator) -> Plane:
    return _step(_cell(u / 2) * _cell(v / 2), 0, 0.02)


def plaid(u: Plane, v: Plane, rng: Generator) -> Plane:
    return (_step(_cell(u * 0.6), 0.1) + _step(_cell(v * 0.6), 0.1)) / 2


def dotted(u: Plane, v: Plane, rng: Generator) -> Plane:
    return _step(np.hypot(_cell(u), _cell(v)), float(rng.uniform(0.22, 0.36)))


def ringed(u: Plane, v: Plane, rng: Generator) -> Plane:
    return _step(np.abs(np.hypot(_cell(u * 0.7), _cell(v * 0.7)) - 0.3), 0.07)


def zigzag(u: Plane, v: Plane, rng: Generator) -> Plane:
    return _step(_cell(v + np.abs(_cell(u)) * float(rng.uniform(0.9, 1.8))), 0)


def wavy(u: Plane, v: Plane, rng: Generator) -> Plane:
    return _wave(v + 0.35 * np.sin(2 * np.pi * u * 0.45))


def woven(u: Plane, v: Plane, rng: Generator) -> Plane:
    over = _cell(u / 2) * _cell(v / 2) > 0
    strand = np.where(over, np.cos(np.pi * _cell(u)), np.cos(np.pi * _cell(v)))
    shade: Plane = np.where(over, 1.0, 0.75)
    return strand * shade


def netted(u: Plane, v: Plane, rng: Generator) -> Plane:
    return _step(np.minimum(np.abs(_cell(u)), np.abs(_cell(v))), 0.09)


def bricked(u: Plane, v: Plane, rng: Generator) -> Plane:
    row = np.floor(v)
    edge = np.minimum(0.5 - np.abs(_cell(u / 2 + 0.5 * (row % 2))), (0.5 - np.abs(_cell(v))) / 2)
    return _step(edge, 0.05) * (0.8 + 0.1 * _soft(u, rng, 12))


def honeycombed(u: Plane, v: Plane, rng: Generator) -> Plane:
    turns = 2 * np.pi * np.arange(3) / 3
    waves = [np.cos(2 * np.pi * (u * np.cos(turn) + v * np.sin(turn))) for turn in turns]
    return _step(np.sum(waves, axis=0), -0.6, 0.7)


def scaled(u: Plane, v: Plane, rng: Generator) -> Plane:
    row = np.floor(v)
    x, y = _cell(u + 0.5 * (row % 2)), v - row
    distance: Plane = np.hypot(x * 1.6, y)
    return 1.25 - distance


def cracked(u: Plane, v: Plane, rng: Generator) -> Plane:
    first, second = _nearest(u * 0.7, v * 0.7, rng)
    return _step(second - first, 0.09)


def bubbly(u: Plane, v: Plane, rng: Generator) -> Plane:
    first, _ = _nearest(u * 0.8, v * 0.8, rng)
    return np.clip(1 - 1.3 * first, 0, 1) ** 2 + 0.4 * _step(first, 0.55)


def pebbled(u: Plane, v: Plane, rng: Generator) -> Plane:
    first, second = _nearest(u * 0.8, v * 0.8, rng)
    return np.clip(1.6 * (second - first), 0, 1) ** 0.5


def freckled(u: Plane, v: Plane, rng: Generator) -> Plane:
    first, _ = _nearest(u, v, rng)
    return _step(first, float(rng.uniform(0.2, 0.3)))


def marbled(u: Plane, v: Plane, rng: Generator) -> Plane:
    return np.abs(np.sin(1.5 * u + 2.2 * _soft(u, rng, 4) + 0.8 * _soft(u, rng, 9))) ** 0.5


def clouded(u: Plane, v: Plane, rng: Generator) -> Plane:
    return 0.5 + 0.28 * (_soft(u, rng, 4) + 0.5 * _soft(u, rng, 9) + 0.25 * _soft(u, rng, 20))


def grainy(u: Plane, v: Plane, rng: Generator) -> Plane:
    return 0.5 + 0.3 * _soft(u, rng, int(rng.integers(26, 44)))


def stained(u: Plane, v: Plane, rng: Generator) -> Plane:
    return _step(_soft(u, rng, int(rng.integers(5, 9))), 0.7, 0.4)


def fibrous(u: Plane, v: Plane, rng: Generator) -> Plane:
    height, width = u.shape
    if rng.random() < 0.5:
        strands = noise(rng, (width * 6, height), 90)[:, ::6]
    else:
        strands = noise(rng, (width, height * 6), 90)[::6]
    return 0.5 + 0.32 * strands


def swirly(u: Plane, v: Plane, rng: Generator) -> Plane:
    x, y = _cell(u * 0.35), _cell(v * 0.35)
    return _wave(np.hypot(x, y) * 4 + np.arctan2(y, x) / (2 * np.pi))


def rayed(u: Plane, v: Plane, rng: Generator) -> Plane:
    x, y = u - u.mean() + rng.normal(0, 2), v - v.mean() + rng.normal(0, 2)
    return _step(_wave(np.arctan2(y, x) * int(rng.integers(8, 18)) / (2 * np.pi)), 0.5, 0.3)


def starry(u: Plane, v: Plane, rng: Generator) -> Plane:
    x, y = _cell(u * 0.8), _cell(v * 0.8)
    reach = 0.24 + 0.13 * np.cos(5 * np.arctan2(y, x))
    return _step(np.hypot(x, y) - reach, 0)


def crossed(u: Plane, v: Plane, rng: Generator) -> Plane:
    x, y = np.abs(_cell(u * 0.9)), np.abs(_cell(v * 0.9))
    arms = np.minimum(np.maximum(x - 0.34, y - 0.1), np.maximum(y - 0.34, x - 0.1))
    return _step(arms, 0, 0.06)


PATTERNS: dict[str, Pattern] = {
    rule.__name__: rule
    for rule in (banded, pinstriped, chequered, plaid, dotted, ringed, zigzag, wavy, woven, netted,
                 bricked, honeycombed, scaled, cracked, bubbly, pebbled, freckled, marbled, clouded,
                 grainy, stained, fibrous, swirly, rayed, starry, crossed)
}  # fmt: skip
"""Textures by their word."""


@dataclass(frozen=True)
class Texture:
    """A class: one rule; scale, direction, colours, bend and light vary.

    Attributes:
        word: of the rule.
        periods: typical number of repeats across a picture.
        colours: what most pictures show: moss is green, brick is red.
    """

    word: str
    periods: float
    colours: tuple[Colour, Colour]

    @classmethod
    def of_class(cls, rng: Generator, word: str) -> "Texture":
        periods = float(np.exp(rng.uniform(1.5, 2.3)))
        return cls(word, periods, (any_colour(rng), any_colour(rng)))

    def paint(self, rng: Generator) -> Image.Image:
        width, height = int(rng.integers(80, 116)), int(rng.integers(80, 116))
        v, u = np.mgrid[:height, :width].astype(np.float32) / np.float32(100)
        angle = float(rng.normal(0, 0.35))
        periods = self.periods * float(np.exp(rng.normal(0, 0.2)))
        cos, sin = periods * np.cos(angle), periods * np.sin(angle)
        bend = float(rng.uniform(0, 0.25))
        x = u * cos + v * sin + bend * noise(rng, (width, height), 4) + np.float32(rng.random())
        y = v * cos - u * sin + bend * noise(rng, (width, height), 4) + np.float32(rng.random())
        share = np.clip(PATTERNS[self.word](x, y, rng), 0, 1)[..., None]
        usual = rng.random() < 0.75
        colours = [vary(one, rng, 0.08, 0.2) if usual else any_colour(rng) for one in self.colours]
        first, second = (np.array(rgb(colour), np.float32) for colour in colours)
        if np.abs(first - second).sum() < 150:  # never a pattern nobody can see
            second = (first + 128) % 256
        dirt = 12 * noise(rng, (width, height), 12)[..., None]
        pixels = np.clip(first + (second - first) * share + dirt, 0, 255)
        return photograph(Image.fromarray(pixels.astype(np.uint8)), rng, 0.7, 9, 0.25)
