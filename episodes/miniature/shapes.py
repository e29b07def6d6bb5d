"""Outlines in unit coordinates: x to the right, y down, an object fills about [-1, 1]².

Every outline is a closed polygon, float64 [points, 2].
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
ROUND = 22
"""Corners of a circle: smooth enough at a hundred pixels."""


def polygon(*corners: tuple[float, float]) -> Points:
    return np.array(corners, dtype=np.float64)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def ellipse(x: float, y: float, across: float, high: float = 0.0, turn: float = 0.0) -> Points:
    """An ellipse by its centre, half axes (`high` 0: a circle) and angle in radians."""
    angle = np.linspace(0, 2 * np.pi, ROUND, endpoint=False)
    flat = np.stack([across * np.cos(angle), (high or across) * np.sin(angle)], axis=1)
    centred: Points = turned(flat, turn) + np.array([x, y])
    return centred


def turned(points: Points, turn: float) -> Points:
    """The points turned about the origin, by radians."""
    cos, sin = np.cos(turn), np.sin(turn)
    out: Points = points @ np.array([[cos, sin], [-sin, cos]])
    return out


def bar(start: tuple[float, float], end: tuple[float, float], thick: float,
        thick_end: float | None = None) -> Points:  # fmt: skip
    """A straight limb between two points, with its thickness at either end."""
    a, b = np.array(start, dtype=np.float64), np.array(end, dtype=np.float64)
    along = (b - a) / (np.hypot(*(b - a)) or 1.0)
    side = np.array([-along[1], along[0]]) / 2
    last = thick if thick_end is None else thick_end
    return np.array([a + side * thick, b + side * last, b - side * last, a - side * thick])


def star(x: float, y: float, radius: float, inner: float, tips: int, turn: float = 0.0) -> Points:
    """A star of `tips` tips; `inner` is the radius between them as a fraction."""
    angle = turn + np.arange(2 * tips) * np.pi / tips
    reach = np.where(np.arange(2 * tips) % 2, radius * inner, radius)
    return np.stack([x + reach * np.sin(angle), y - reach * np.cos(angle)], axis=1)


def regular(x: float, y: float, radius: float, corners: int, turn: float = 0.0) -> Points:
    """A regular polygon with one corner on top."""
    angle = turn + np.arange(corners) * 2 * np.pi / corners
    return np.stack([x + radius * np.sin(angle), y - radius * np.cos(angle)], axis=1)


def smooth(*corners: tuple[float, float], steps: int = 5) -> Points:
    """A closed curve through the corners (uniform Catmull-Rom)."""
    return curve(polygon(*corners), steps, closed=True)


def curve(corners: Points, steps: int = 5, closed: bool = False) -> Points:
    """A curve through the corners (uniform Catmull-Rom), `steps` points per stretch."""
    if closed:
        before, after, last = np.roll(corners, 1, 0), np.roll(corners, -1, 0), len(corners)
    else:
        before = np.concatenate([corners[:1], corners[:-1]])
        after, last = np.concatenate([corners[1:], corners[-1:]]), len(corners) - 1
    beyond = np.roll(after, -1, 0) if closed else np.concatenate([after[1:], after[-1:]])
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (points[:last, None] for points in (before, corners, after, beyond))
    bent = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    points: Points = bent.reshape(-1, 2)
    return points if closed else np.concatenate([points, corners[-1:]])


def lathe(*profile: tuple[float, float]) -> Points:
    """A shape symmetric about x = 0, from (y, half width) pairs from top to bottom."""
    right = [(half, y) for y, half in profile]
    left = [(-half, y) for y, half in reversed(profile)]
    return polygon(*right, *left)


def petal(length: float, width: float, tip: float, turn: float) -> Points:
    """A petal from the origin outwards; `tip` 0 is pointed, 1 is broad."""
    along: Sequence[float] = (0.0, 0.3, 0.6, 0.85, 1.0)
    half = (0.05, 0.35, 0.5, 0.15 + 0.35 * tip, 0.28 * tip)
    outline = lathe(*((-length * a, width * h) for a, h in zip(along, half, strict=True)))
    return turned(outline, turn)
