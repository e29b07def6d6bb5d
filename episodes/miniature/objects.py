"""Photographs of things: the classes of `ilsvrc_2012`, and `mscoco`'s cluttered crops of them."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from episodes.miniature.artefacts import ARTEFACTS
from episodes.miniature.canvas import (
    BLACK,
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
from episodes.miniature.creatures import CREATURES, GENES, Genes

KINDS = CREATURES | ARTEFACTS
PATTERNS = ("plain", "stripes", "spots", "plain", "checks")
SETTINGS: tuple[tuple[Colour, Colour], ...] = (
    ((0.55, 0.35, 0.85), (0.58, 0.15, 0.95)),  # sky
    ((0.28, 0.55, 0.45), (0.22, 0.45, 0.65)),  # grass
    ((0.10, 0.35, 0.60), (0.08, 0.25, 0.80)),  # sand
    ((0.00, 0.02, 0.45), (0.60, 0.05, 0.70)),  # stone
    ((0.07, 0.45, 0.40), (0.09, 0.50, 0.55)),  # wood
    ((0.52, 0.55, 0.45), (0.55, 0.60, 0.70)),  # water
)
"""Backgrounds, shared by all classes: they tell nothing about the class."""


def spread(index: int, size: int) -> NDArray[np.float64]:
    """Point `index` of a sequence that fills the unit cube evenly: siblings never coincide.

    Source: the R-sequence (Roberts 2018), a Kronecker sequence on the generalized golden ratio.
    """
    ratio = 2.0
    for _ in range(20):
        ratio = (1 + ratio) ** (1 / (size + 1))
    steps: NDArray[np.float64] = ratio ** -np.arange(1.0, size + 1)
    return (0.5 + index * steps) % 1.0


def setting(rng: Generator, size: tuple[int, int], clutter: int) -> Canvas:
    """A canvas with a background and some clutter on it."""
    near, far = SETTINGS[int(rng.integers(len(SETTINGS)))]
    colours = vary(near, rng, 0.04, 0.15), vary(far, rng, 0.04, 0.15)
    canvas = Canvas(ground(rng, size, colours, cells=int(rng.integers(2, 7))))
    scatter(canvas, rng, int(rng.integers(clutter + 1)), colours)
    return canvas


@dataclass(frozen=True)
class Thing:
    """A class of look-alikes.

    Attributes:
        kind: name of the outline.
        genes: its proportions, in [0, 1].
        colours: of the main, second, dark and light parts.
        pattern, pitch, turn: marks on the main part.
    """

    kind: str
    genes: NDArray[np.float64]
    colours: tuple[Colour, Colour, Colour, Colour]
    pattern: str
    pitch: float
    turn: float

    @classmethod
    def of_class(cls, rng: Generator, kind: str, sibling: int) -> "Thing":
        family = zlib.crc32(kind.encode())
        place = spread(family % 97 + sibling, GENES + 3)
        hue = family % 31 / 31 + 0.16 * sibling
        return cls(
            kind=kind,
            genes=place[:GENES],
            colours=(
                (hue % 1, float(0.35 + 0.5 * place[-1]), float(0.45 + 0.45 * place[-2])),
                ((hue + 0.3 + 0.4 * float(place[-3])) % 1, 0.5, float(0.35 + 0.5 * place[-1])),
                (float(rng.random()), 0.3, 0.18),
                (float(rng.random()), 0.12, 0.92),
            ),
            pattern=PATTERNS[(family + sibling) % len(PATTERNS)],
            pitch=float(rng.uniform(0.2, 0.36)),
            turn=float(rng.uniform(0, np.pi)),
        )

    def put_on(self, canvas: Canvas, rng: Generator, pose: Pose, spread_of_genes: float) -> None:
        """Draw one individual."""
        genes = np.clip(self.genes + rng.normal(0, spread_of_genes, GENES), 0, 0.999)
        colours = [vary(colour, rng, 0.05, 0.16) for colour in self.colours]
        if rng.random() < 0.25:  # some individuals have a colour of their own
            colours[0] = any_colour(rng)
        surfaces = [Surface(colour) for colour in colours]
        surfaces[0] = Surface(colours[0], colours[1], self.pattern, self.pitch, self.turn)
        for points, tone in KINDS[self.kind](Genes(genes.tolist())):
            canvas.fill(points, surfaces[tone], pose)

    def paint(self, rng: Generator) -> Image.Image:
        size = (int(rng.integers(76, 116)), int(rng.integers(76, 116)))
        canvas = setting(rng, size, clutter=7)
        self.put_on(canvas, rng, Pose.draw(rng, size, (0.5, 0.95), 0.35, 0.2), 0.07)
        return photograph(canvas.finished(), rng, 0.7, 10, 0.2)


@dataclass(frozen=True)
class Scene:
    """A class of `mscoco`: a kind in all its shapes and colours, among others, cut by the crop."""

    kind: str

    @classmethod
    def of_class(cls, rng: Generator, kind: str) -> "Scene":
        del rng  # a whole kind has no traits of its own
        return cls(kind)

    def paint(self, rng: Generator) -> Image.Image:
        aspect = float(np.exp(rng.uniform(-0.5, 0.5)))
        side = float(rng.uniform(40, 100))
        size = (max(int(side * aspect**0.5), 24), max(int(side / aspect**0.5), 24))
        canvas = setting(rng, size, clutter=5)
        others = rng.choice(sorted(KINDS), int(rng.integers(0, 3)))
        for kind in [*map(str, others), self.kind]:
            individual = Thing(
                kind=kind,
                genes=rng.random(GENES),
                colours=(any_colour(rng), any_colour(rng), BLACK, (0.1, 0.1, 0.9)),
                pattern=PATTERNS[int(rng.integers(len(PATTERNS)))],
                pitch=float(rng.uniform(0.2, 0.5)),
                turn=float(rng.uniform(0, np.pi)),
            )
            wanted = kind == self.kind
            reach, shift = ((0.7, 1.1), 0.25) if wanted else ((0.3, 0.7), 0.9)
            individual.put_on(canvas, rng, Pose.draw(rng, size, reach, 0.3, shift), 0.0)
        return photograph(canvas.finished(), rng, 1.2, 16, 0.3)
