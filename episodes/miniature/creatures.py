"""Things that live, as outlines: animals, plants, a person.

A kind turns genes, numbers in [0, 1], into the parts of one individual. Genes near each other
give individuals that look alike: that is what makes a class, and what makes siblings.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from episodes.miniature.shapes import Points, bar, box, ellipse, lathe, petal, polygon, smooth, star

GENES = 6


class Tone(IntEnum):
    """Which of an object's four surfaces covers a part."""

    MAIN = 0
    SECOND = 1
    DARK = 2
    LIGHT = 3


MAIN, SECOND, DARK, LIGHT = Tone


class Part(NamedTuple):
    """One outline of an object and what covers it."""

    points: Points
    tone: Tone


class Genes:
    """The numbers in [0, 1] that shape an individual, read with bounds."""

    def __init__(self, values: Sequence[float]) -> None:
        self.values = values

    def __call__(self, gene: int, low: float, high: float) -> float:
        """A gene as a number between two bounds."""
        return low + self.values[gene] * (high - low)

    def count(self, gene: int, low: int, high: int) -> int:
        """A gene as a whole number between two bounds, both included."""
        return min(low + int(self.values[gene] * (high - low + 1)), high)


Kind = Callable[[Genes], list[Part]]


def fish(g: Genes) -> list[Part]:
    high, tail, nose = g(0, 0.25, 0.6), g(1, 0.25, 0.6), g(2, -0.15, 0.15)
    body = smooth(
        (-0.9, nose),
        (-0.4, -high),
        (0.2, -high * 0.8),
        (0.6, -0.08),
        (0.6, 0.08),
        (0.2, high * 0.8),
        (-0.4, high),
    )
    fork = g(3, 0.0, 0.25)
    fin = g(4, 0.2, 0.6)
    return [
        Part(polygon((0.5, 0), (0.95, -tail), (0.95 - fork, 0), (0.95, tail)), SECOND),
        Part(
            polygon((-0.3, -high * 0.8), (0.1 + fin / 2, -high - fin * 0.6), (0.35, -0.1)), SECOND
        ),
        Part(body, MAIN),
        Part(polygon((-0.2, 0.05), (0.15, 0.1 + fin / 2), (0.1, 0.02)), SECOND),
        Part(ellipse(-0.6, nose - 0.05, 0.08), LIGHT),
        Part(ellipse(-0.6, nose - 0.05, 0.045), DARK),
    ]


def whale(g: Genes) -> list[Part]:
    high, back = g(0, 0.3, 0.5), g(1, 0.1, 0.45)
    body = smooth(
        (-0.95, 0.1),
        (-0.7, -high),
        (0, -high),
        (0.6, -0.02),
        (0.85, -0.35),
        (0.8, 0.05),
        (0.2, high * 0.7),
        (-0.6, high * 0.8),
    )
    fluke = g(2, 0.15, 0.35)
    return [
        Part(body, MAIN),
        Part(
            smooth((-0.9, 0.2), (-0.3, 0.1), (0.3, 0.2), (-0.2, high * 0.7), (-0.6, high * 0.75)),
            LIGHT,
        ),
        Part(polygon((0, -high * 0.95), (0.15 + back, -high - back), (0.35, -high * 0.6)), SECOND),
        Part(
            smooth((0.75, -0.3), (0.7 - fluke, -0.6), (0.85, -0.45), (1.0 + fluke / 2, -0.6)),
            SECOND,
        ),
        Part(ellipse(-0.7, 0.0, 0.04), DARK),
    ]


def beetle(g: Genes) -> list[Part]:
    wide, long, head = g(0, 0.35, 0.62), g(1, 0.5, 0.75), g(2, 0.14, 0.3)
    legs = [
        Part(bar((0, y), (side * (wide + g(3, 0.2, 0.4)), y + bend), 0.08, 0.04), DARK)
        for side in (-1, 1)
        for y, bend in ((-0.25, -0.25), (0.1, 0.05), (0.4, 0.35))
    ]
    horn = g(4, 0.05, 0.35)
    feelers = [
        Part(bar((s * 0.06, -long), (s * horn, -0.75 - horn * 0.7), 0.05), DARK) for s in (-1, 1)
    ]
    return [
        *legs,
        *feelers,
        Part(ellipse(0, -long, head), SECOND),
        Part(ellipse(0, 0.12, wide, long), MAIN),
        Part(ellipse(0, -long * 0.6, wide * 0.75, 0.2), SECOND),
        Part(bar((0, -0.35), (0, 0.12 + long), 0.04), DARK),
    ]


def spider(g: Genes) -> list[Part]:
    reach, knee, rear = g(0, 0.65, 0.95), g(1, 0.1, 0.5), g(2, 0.25, 0.48)
    parts = []
    for side in (-1, 1):
        for fan in np.linspace(-0.8, 0.8, 4):
            joint = (side * reach * 0.55, float(fan) * 0.5 - knee)
            parts.append(Part(bar((0, 0), joint, 0.08, 0.06), DARK))
            parts.append(Part(bar(joint, (side * reach, float(fan)), 0.06, 0.03), DARK))
    return [
        *parts,
        Part(ellipse(0, rear, rear * g(3, 0.75, 1.1), rear), MAIN),
        Part(ellipse(0, -0.15, 0.22), SECOND),
    ]


def snail(g: Genes) -> list[Part]:
    shell, x, rise = g(0, 0.38, 0.6), g(1, -0.05, 0.25), g(2, 0.5, 0.95)
    y = 0.4 - shell
    foot = smooth(
        (0.95, 0.65), (0.3, 0.4), (-0.5, 0.4), (-0.65, -0.05), (-0.85, 0.05), (-0.8, 0.65)
    )
    turns = [
        Part(
            ellipse(
                x + shell * 0.1 * k,
                y + shell * 0.1 * k,
                shell * (1 - 0.25 * k),
                shell * rise * (1 - 0.25 * k),
            ),
            tone,
        )
        for k, tone in enumerate((MAIN, SECOND, MAIN, SECOND))
    ]
    return [
        Part(bar((-0.7, 0), (-0.85, -0.2 - g(3, 0.1, 0.4)), 0.06), LIGHT),
        Part(bar((-0.65, 0), (-0.6, -0.2 - g(3, 0.1, 0.4)), 0.06), LIGHT),
        Part(foot, LIGHT),
        *turns,
    ]


def butterfly(g: Genes) -> list[Part]:
    up, out, low = g(0, 0.5, 0.95), g(1, 0.6, 1.0), g(2, 0.35, 0.85)
    parts = []
    for s in (-1, 1):
        parts.append(
            Part(
                smooth(
                    (0, 0.05),
                    (s * 0.35, low),
                    (s * out * 0.8, low * g(3, 0.6, 1.1)),
                    (s * 0.6, 0.1),
                ),
                SECOND,
            )
        )
        parts.append(
            Part(
                smooth((0, 0.1), (s * out, 0.1), (s * out, -up), (s * 0.3, -up * g(4, 0.4, 0.9))),
                MAIN,
            )
        )
        parts.append(Part(ellipse(s * out * 0.65, -up * 0.4, g(5, 0.08, 0.2)), LIGHT))
        parts.append(Part(bar((0, -0.4), (s * 0.2, -0.75), 0.04), DARK))
    return [*parts, Part(ellipse(0, 0, 0.08, 0.5), DARK)]


def _beast(g: Genes, muzzle: float, ear: float, horn: float, leg: float, tail: float) -> list[Part]:
    """Four legs, a trunk, a head: hounds, cats and deer differ in proportions."""
    high, long, up = g(0, 0.2, 0.34), g(1, 0.45, 0.68), g(2, 0.1, 0.45)
    leg, thick = leg * g(3, 0.8, 1.15), g(4, 0.1, 0.2)
    tail = tail * g(5, 0.5, 1.4)
    head = (-long - 0.12, -up - 0.12)
    legs = [
        Part(bar((x, 0.05), (x + lean, high + leg), thick, thick * 0.7), tone)
        for x, lean, tone in (
            (-long * 0.9, 0.05, DARK),
            (long * 0.75, 0.1, DARK),
            (-long * 0.7, -0.08, MAIN),
            (long * 0.9, -0.04, MAIN),
        )
    ]
    parts = [
        Part(bar((long * 0.9, -0.1), (long + 0.3 * abs(tail) + 0.1, -tail), 0.12, 0.06), SECOND),
        *legs,
        Part(
            smooth(
                (-long, -high * 0.9),
                (0, -high * 0.75),
                (long, -high * 0.8),
                (long * 1.05, high * 0.6),
                (0, high * 0.7),
                (-long, high),
            ),
            MAIN,
        ),
        Part(bar((-long * 0.8, 0), head, 0.34, 0.22), MAIN),
        Part(bar(head, (head[0] - muzzle, head[1] + 0.12), 0.26, 0.14), SECOND),
        Part(ellipse(*head, 0.2, 0.18), MAIN),
    ]
    for side in (-0.08, 0.1):
        root = (head[0] + side, head[1] - 0.08)
        parts.append(Part(bar(root, (root[0] + side * 1.5, root[1] - ear), 0.14, 0.03), SECOND))
        if horn:
            tip = (root[0] + side * 2, root[1] - horn)
            parts.append(Part(bar(root, tip, 0.06, 0.03), LIGHT))
            parts.append(
                Part(
                    bar(
                        (root[0] + side, root[1] - horn / 2),
                        (root[0] - 0.2, root[1] - horn),
                        0.05,
                        0.02,
                    ),
                    LIGHT,
                )
            )
    return [*parts, Part(ellipse(head[0] - 0.05, head[1] - 0.02, 0.035), DARK)]


def hound(g: Genes) -> list[Part]:
    return _beast(g, muzzle=0.32, ear=-0.22, horn=0.0, leg=0.5, tail=0.4)


def cat(g: Genes) -> list[Part]:
    return _beast(g, muzzle=0.12, ear=0.2, horn=0.0, leg=0.4, tail=0.75)


def deer(g: Genes) -> list[Part]:
    return _beast(g, muzzle=0.3, ear=0.1, horn=0.42, leg=0.7, tail=0.12)


def tree(g: Genes) -> list[Part]:
    wide, trunk = g(0, 0.35, 0.75), g(1, 0.1, 0.26)
    crown: list[Part]
    if g(2, 0, 1) < 0.5:
        tiers = g.count(3, 2, 4)
        crown = [
            Part(
                polygon(
                    (0, -0.95 + 0.35 * k),
                    (wide * (0.6 + 0.2 * k), -0.3 + 0.35 * k),
                    (-wide * (0.6 + 0.2 * k), -0.3 + 0.35 * k),
                ),
                MAIN if k % 2 else SECOND,
            )
            for k in reversed(range(tiers))
        ]
    else:
        puffs = g.count(3, 3, 6)
        spots = [
            (wide * 0.7 * np.cos(a), -0.35 + 0.35 * np.sin(a)) for a in np.linspace(0, 5, puffs)
        ]
        crown = [Part(ellipse(x, y, wide * 0.55, 0.42), MAIN) for x, y in spots]
        crown.append(Part(ellipse(0, -0.4, wide * 0.5, 0.4), SECOND))
    return [Part(lathe((-0.3, trunk * 0.7), (0.8, trunk), (0.95, trunk * 1.6)), DARK), *crown]


def leaf(g: Genes) -> list[Part]:
    lobes, wide, depth = g.count(0, 1, 7), g(1, 0.35, 0.8), g(2, 0.1, 0.45)
    t = np.linspace(0, 1, 26)
    half = (
        wide * np.sin(np.pi * t ** g(3, 0.6, 1.5)) * (1 - depth * np.abs(np.sin(np.pi * lobes * t)))
    )
    blade = lathe(*zip((1.5 * t - 0.9).tolist(), half.tolist(), strict=True))
    veins = [
        Part(bar((0, y), (s * wide * 0.55, y - g(4, 0.1, 0.35)), 0.035, 0.015), SECOND)
        for y in (-0.3, 0.0, 0.3)
        for s in (-1, 1)
    ]
    return [Part(blade, MAIN), Part(bar((0, -0.8), (0, 0.95), 0.03, 0.07), SECOND), *veins]


def fruit(g: Genes) -> list[Part]:
    wide, neck, dip = g(0, 0.5, 0.8), g(1, 0.25, 0.9), g(2, 0.0, 0.2)
    body = smooth(
        (0, -0.55 + dip),
        (wide * neck, -0.6),
        (wide, 0.15),
        (wide * 0.55, 0.8),
        (0, 0.8 - dip / 2),
        (-wide * 0.55, 0.8),
        (-wide, 0.15),
        (-wide * neck, -0.6),
    )
    return [
        Part(bar((0, -0.4), (g(3, -0.2, 0.2), -0.95), 0.08, 0.06), DARK),
        Part(petal(g(4, 0.3, 0.7), 0.35, 0.3, 1.2) + np.array([0, -0.6]), SECOND),
        Part(body, MAIN),
        Part(ellipse(-wide * 0.45, -0.1, 0.1, 0.2), LIGHT),
    ]


def cactus(g: Genes) -> list[Part]:
    wide, arms = g(0, 0.14, 0.3), g.count(1, 1, 3)
    parts = [Part(ellipse(0, 0.05, wide, 0.85), MAIN)]
    for k in range(arms):
        s, y = (-1, 1, -1)[k], 0.3 - 0.3 * k * g(2, 0.5, 1.2)
        parts.append(Part(bar((0, y), (s * 0.6, y), 0.2), MAIN))
        parts.append(Part(ellipse(s * 0.6, y - 0.2, 0.12, g(3, 0.2, 0.4)), MAIN))
    pot = lathe((0.55, 0.42), (0.7, 0.42), (0.95, 0.3))
    return [*parts, Part(star(0, -0.8, g(4, 0.1, 0.25), 0.5, 5), LIGHT), Part(pot, SECOND)]


def person(g: Genes) -> list[Part]:
    wide, lift, step = g(0, 0.16, 0.32), g(1, -0.5, 0.6), g(2, 0.08, 0.35)
    limbs = [Part(bar((0, 0.2), (s * step, 0.92), 0.18, 0.12), SECOND) for s in (-1, 1)] + [
        Part(bar((s * wide * 0.8, -0.35), (s * (wide + 0.32), -0.05 - s * lift), 0.12, 0.08), MAIN)
        for s in (-1, 1)
    ]
    coat = lathe((-0.45, wide), (0.1, wide * 0.8), (0.2 + g(3, 0.05, 0.4), wide * g(4, 0.8, 1.5)))
    return [
        *limbs,
        Part(coat, MAIN),
        Part(ellipse(0, -0.65, 0.18, 0.21), LIGHT),
        Part(box(-0.18, -0.9, 0.18, -0.72), DARK),
    ]


CREATURES: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (fish, whale, beetle, spider, snail, butterfly, hound, cat, deer, tree, leaf, fruit,
                 cactus, person)
}  # fmt: skip
"""Kinds by name."""
