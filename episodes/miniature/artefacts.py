"""Things that people make, as outlines; see `creatures` for genes and parts."""

import numpy as np

from episodes.miniature.creatures import DARK, LIGHT, MAIN, SECOND, Genes, Kind, Part
from episodes.miniature.shapes import bar, box, ellipse, lathe, polygon, regular, smooth, star


def _wheels(y: float, radius: float, *places: float) -> list[Part]:
    tyres = [Part(ellipse(x, y, radius), DARK) for x in places]
    return tyres + [Part(ellipse(x, y, radius * 0.45), LIGHT) for x in places]


def car(g: Genes) -> list[Part]:
    top, roof, back = g(0, -0.7, -0.3), g(1, 0.2, 0.45), g(2, 0.2, 0.8)
    cabin = polygon((-0.5, -0.05), (-roof, top), (roof * 0.9, top), (back, -0.05))
    panes = polygon(
        (-0.38, -0.08), (-roof * 0.85, top + 0.1), (roof * 0.75, top + 0.1), (back * 0.8, -0.08)
    )
    body = smooth(
        (-0.95, 0.05),
        (-0.5, -0.12),
        (0.5, -0.12),
        (0.95, g(3, -0.1, 0.1)),
        (0.95, 0.4),
        (-0.95, 0.4),
    )
    wheel = g(4, 0.15, 0.27)
    return [
        Part(cabin, MAIN),
        Part(panes, LIGHT),
        Part(bar((0.0, top), (0.02, 0), 0.07), MAIN),
        Part(body, MAIN),
        Part(box(-0.9, 0.2, 0.9, 0.3), SECOND),
        *_wheels(0.42, wheel, -0.55, 0.55),
    ]


def bus(g: Genes) -> list[Part]:
    top, panes, wheel = g(0, -0.7, -0.35), g.count(1, 3, 6), g(2, 0.13, 0.22)
    width = 1.7 / panes
    glass = [
        Part(
            box(-0.85 + width * k, top + 0.12, -0.9 + width * (k + 1), top + g(3, 0.35, 0.55)),
            LIGHT,
        )
        for k in range(panes)
    ]
    return [
        Part(box(-0.95, top, 0.95, 0.42), MAIN),
        Part(box(-0.95, 0.15, 0.95, 0.28), SECOND),
        *glass,
        *_wheels(0.45, wheel, -0.6, g(4, 0.3, 0.65)),
    ]


def bicycle(g: Genes) -> list[Part]:
    radius, seat, bars = g(0, 0.3, 0.44), g(1, -0.5, -0.25), g(2, -0.6, -0.3)
    wheels: list[Part] = []
    for x in (-0.55, 0.55):
        wheels += [
            Part(ellipse(x, 0.4, radius), DARK),
            Part(ellipse(x, 0.4, radius * g(3, 0.7, 0.88)), LIGHT),
        ]
    frame = [
        ((-0.55, 0.4), (-0.15, seat + 0.15)),
        ((-0.15, seat + 0.15), (0.4, -0.1)),
        ((0, 0.4), (0.4, -0.1)),
        ((0, 0.4), (-0.2, seat)),
        ((-0.55, 0.4), (0, 0.4)),
        ((0.55, 0.4), (0.35, bars)),
    ]
    tubes = [Part(bar(a, b, g(4, 0.06, 0.12)), MAIN) for a, b in frame]
    return [
        *wheels,
        *tubes,
        Part(ellipse(-0.22, seat, 0.18, 0.06), SECOND),
        Part(bar((0.35, bars), (0.6, bars - 0.08), 0.08), SECOND),
    ]


def boat(g: Genes) -> list[Part]:
    bow, mast, sail = g(0, 0.1, 0.4), g(1, 0.7, 0.95), g(2, 0.3, 0.85)
    hull = polygon((-0.95, 0.3), (0.95, 0.3 - bow / 2), (0.7, 0.8), (-0.7 + bow, 0.8))
    return [
        Part(bar((0, 0.35), (0, -mast), 0.06), DARK),
        Part(polygon((0.05, -mast), (sail, 0.2), (0.05, 0.2)), LIGHT),
        Part(
            polygon((-0.05, -mast * g(3, 0.5, 1)), (-sail * g(4, 0.5, 1.1), 0.2), (-0.05, 0.2)),
            SECOND,
        ),
        Part(hull, MAIN),
    ]


def bottle(g: Genes) -> list[Part]:
    wide, neck, shoulder = g(0, 0.22, 0.5), g(1, 0.07, 0.18), g(2, -0.5, 0.1)
    glass = lathe(
        (-0.8, neck),
        (shoulder - 0.1, neck),
        (shoulder + 0.15, wide),
        (0.9, wide * g(3, 0.75, 1.05)),
    )
    label = g(4, 0.05, 0.3)
    return [
        Part(glass, MAIN),
        Part(lathe((0.5 - label, wide * 0.95), (0.5 + label, wide * 0.9)), SECOND),
        Part(lathe((-0.95, neck * 1.3), (-0.75, neck * 1.3)), DARK),
        Part(bar((-wide * 0.6, shoulder + 0.25), (-wide * 0.6, 0.75), 0.06), LIGHT),
    ]


def cup(g: Genes) -> list[Part]:
    top, foot, high = g(0, 0.42, 0.68), g(1, 0.2, 0.55), g(2, 0.35, 0.75)
    grip = g(3, 0.18, 0.34)
    x = (top + foot) / 2
    return [
        Part(ellipse(x, 0, grip, grip * 1.1), SECOND),
        Part(ellipse(x, 0, grip * 0.55, grip * 0.65), LIGHT),
        Part(lathe((-high, top), (high * 0.6, (top + 2 * foot) / 3), (high, foot)), MAIN),
        Part(ellipse(0, -high, top, 0.14), DARK),
        Part(
            lathe((high * g(4, -0.4, 0.3), top * 0.85), (high * g(4, -0.1, 0.6), top * 0.75)),
            SECOND,
        ),
    ]


def house(g: Genes) -> list[Part]:
    wide, peak, eaves = g(0, 0.5, 0.85), g(1, -0.95, -0.5), g(2, -0.3, 0.05)
    door, panes = g(3, 0.12, 0.24), g.count(4, 1, 3)
    wall = box(-wide, eaves, wide, 0.85)
    glass = [
        Part(box(x - 0.1, eaves + 0.15, x + 0.1, eaves + 0.4), LIGHT)
        for x in np.linspace(-wide * 0.65, wide * 0.65, panes + 1)
    ]
    chimney = box(wide * 0.4, peak + 0.05, wide * 0.65, eaves)
    return [
        Part(chimney, DARK),
        Part(wall, MAIN),
        Part(polygon((-wide - 0.12, eaves), (g(5, -0.3, 0.3), peak), (wide + 0.12, eaves)), SECOND),
        *glass,
        Part(box(-door, 0.3, door, 0.85), DARK),
    ]


def clock(g: Genes) -> list[Part]:
    rim, corners, hour = g(0, 0.08, 0.24), g.count(1, 4, 9), g(2, 0, 6.3)
    outer = ellipse(0, 0, 0.88) if corners > 7 else regular(0, 0, 0.95, corners)
    ticks = g.count(3, 4, 12)
    marks = [
        Part(
            bar((0.5 * np.sin(a), 0.5 * np.cos(a)), (0.62 * np.sin(a), 0.62 * np.cos(a)), 0.08),
            DARK,
        )
        for a in np.arange(ticks) * 2 * np.pi / ticks
    ]
    minute = hour * g(4, 2, 9)
    return [
        Part(outer, MAIN),
        Part(ellipse(0, 0, 0.88 - rim - 0.08), LIGHT),
        *marks,
        Part(bar((0, 0), (0.35 * np.sin(hour), -0.35 * np.cos(hour)), 0.1), SECOND),
        Part(bar((0, 0), (0.55 * np.sin(minute), -0.55 * np.cos(minute)), 0.06), DARK),
    ]


def lamp(g: Genes) -> list[Part]:
    top, rim, high = g(0, 0.1, 0.4), g(1, 0.4, 0.8), g(2, -0.25, 0.15)
    belly = g(3, 0.05, 0.32)
    return [
        Part(lathe((high, 0.05), (0.5, max(belly, 0.05)), (0.85, 0.06)), SECOND),
        Part(lathe((0.82, g(4, 0.2, 0.5)), (0.94, g(4, 0.25, 0.55))), DARK),
        Part(lathe((-0.9, top), (high, rim)), MAIN),
        Part(lathe((high - 0.1, rim * 0.95), (high, rim)), LIGHT),
    ]


def hammer(g: Genes) -> list[Part]:
    long, high, peen = g(0, 0.35, 0.75), g(1, 0.14, 0.3), g(2, 0.0, 0.3)
    head = polygon(
        (-long, -0.75 - peen / 3),
        (0.3, -0.8),
        (0.3 + peen, -0.7 - peen / 2),
        (0.3 + peen, -0.6 + high),
        (-long, -0.7 + high),
    )
    return [
        Part(bar((0, -0.6), (0, 0.95), g(3, 0.1, 0.2), g(4, 0.12, 0.3)), MAIN),
        Part(bar((0, g(5, 0.2, 0.6)), (0, 0.95), g(4, 0.18, 0.34)), DARK),
        Part(head, SECOND),
    ]


def guitar(g: Genes) -> list[Part]:
    low, upper, waist = g(0, 0.35, 0.58), g(1, 0.25, 0.45), g(2, 0.15, 0.3)
    body = smooth(
        (0, -0.15),
        (upper, -0.05),
        (waist, 0.25),
        (low, 0.55),
        (0, 0.93),
        (-low, 0.55),
        (-waist, 0.25),
        (-upper, -0.05),
    )
    return [
        Part(bar((0, -0.8), (0, 0.2), g(3, 0.09, 0.18)), DARK),
        Part(lathe((-0.98, g(4, 0.08, 0.2)), (-0.75, 0.08)), SECOND),
        Part(body, MAIN),
        Part(ellipse(0, 0.25, g(5, 0.08, 0.18)), DARK),
        Part(box(-0.2, 0.6, 0.2, 0.68), SECOND),
        Part(bar((0, -0.7), (0, 0.6), 0.03), LIGHT),
    ]


def key(g: Genes) -> list[Part]:
    bow, teeth = g(0, 0.22, 0.4), g.count(1, 1, 4)
    head = regular(-0.55, 0, bow * 1.15, g.count(2, 3, 8), 0.4)
    bits = [
        Part(
            box(0.8 - 0.17 * k - 0.1, 0, 0.8 - 0.17 * k, 0.14 + g(3, 0.08, 0.3) * (1 + k % 2)),
            SECOND,
        )
        for k in range(teeth)
    ]
    return [
        *bits,
        Part(bar((-0.5, 0), (0.85, 0), g(4, 0.1, 0.22)), MAIN),
        Part(head, MAIN),
        Part(ellipse(-0.55, 0, bow * g(5, 0.35, 0.7)), DARK),
    ]


def chair(g: Genes) -> list[Part]:
    seat, back, deep = g(0, -0.05, 0.3), g(1, -0.95, -0.55), g(2, 0.35, 0.6)
    legs = [Part(bar((x, seat), (x * 1.15, 0.95), g(3, 0.07, 0.16)), DARK) for x in (-deep, deep)]
    slats = g.count(4, 1, 3)
    rest = [
        Part(box(-deep, y, deep, y + 0.12), SECOND)
        for y in np.linspace(back + 0.02, seat - 0.35, slats)
    ]
    posts = [Part(bar((x, back), (x, seat), 0.1), DARK) for x in (-deep, deep)]
    return [
        *legs,
        *posts,
        *rest,
        Part(box(-deep - 0.08, seat, deep + 0.08, seat + g(5, 0.1, 0.25)), MAIN),
    ]


def umbrella(g: Genes) -> list[Part]:
    wide, high, ribs = g(0, 0.65, 0.95), g(1, 0.4, 0.8), g.count(2, 3, 6)
    t = np.linspace(np.pi, 2 * np.pi, 15)
    dome = [(wide * float(np.cos(a)), 0.05 + high * float(np.sin(a))) for a in t]
    step = 2 * wide / ribs
    hem = [(wide - step * (k + 0.5), 0.05 - g(3, 0.05, 0.2)) for k in range(ribs)]
    wedge = polygon((0, 0.05 - high), (-step / 2, 0.0), (step / 2, 0.0))
    hook = [Part(bar((0, 0.85), (0.2, 0.9), 0.09), DARK)]
    return [
        Part(bar((0, -high - 0.05), (0, 0.88), 0.06), DARK),
        *hook,
        Part(polygon(*dome, *hem), MAIN),
        Part(wedge, SECOND),
    ]


def hat(g: Genes) -> list[Part]:
    brim, crown, high = g(0, 0.6, 0.95), g(1, 0.25, 0.5), g(2, -0.8, -0.2)
    top = crown * g(3, 0.5, 1.15)
    band = 0.45 - g(4, 0.12, 0.3)
    return [
        Part(ellipse(0, 0.5, brim, 0.17), MAIN),
        Part(lathe((high, top * 0.85), (high + 0.1, top), (0.48, crown)), MAIN),
        Part(lathe((band, crown), (0.48, crown)), SECOND),
    ]


def kite(g: Genes) -> list[Part]:
    wide, waist, bows = g(0, 0.35, 0.7), g(1, -0.5, 0.0), g.count(2, 1, 4)
    tail = [
        Part(star(0.15 * (-1) ** k, 0.5 + 0.12 * k, g(3, 0.08, 0.16), 0.4, 4), SECOND)
        for k in range(bows)
    ]
    return [
        Part(bar((0, 0.3), (0.15, 0.98), 0.04), DARK),
        *tail,
        Part(polygon((0, -0.95), (wide, waist), (0, 0.45), (-wide, waist)), MAIN),
        Part(polygon((0, -0.95), (wide, waist), (0, waist)), SECOND),
        Part(polygon((0, 0.45), (-wide, waist), (0, waist)), LIGHT),
    ]


def cake(g: Genes) -> list[Part]:
    tiers, wide, candles = g.count(0, 1, 3), g(1, 0.5, 0.85), g.count(2, 0, 5)
    parts = [Part(ellipse(0, 0.8, wide + 0.12, 0.1), LIGHT)]
    top = 0.8
    for k in range(tiers):
        half, high = wide * (1 - 0.25 * k), g(3, 0.3, 0.5) * (1 - 0.1 * k)
        parts.append(Part(lathe((top - high, half), (top, half)), MAIN))
        parts.append(
            Part(lathe((top - high - 0.05, half), (top - high + 0.12, half * 1.02)), SECOND)
        )
        top -= high
    sticks = [
        Part(bar((x, top), (x, top - g(4, 0.15, 0.3)), 0.05), DARK)
        for x in np.linspace(-0.3, 0.3, candles)
    ]
    return [*sticks, *parts]


ARTEFACTS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (car, bus, bicycle, boat, bottle, cup, house, clock, lamp, hammer, guitar, key,
                 chair, umbrella, hat, kite, cake)
}  # fmt: skip
"""Kinds by name."""
