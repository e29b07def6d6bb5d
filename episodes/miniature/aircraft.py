"""Aeroplanes seen from the side, cropped tight: the classes of `aircraft`."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from episodes.miniature.canvas import (
    FINE,
    WHITE,
    Canvas,
    Colour,
    Pose,
    any_colour,
    ground,
    photograph,
    vary,
)
from episodes.miniature.objects import spread
from episodes.miniature.shapes import Points, ellipse, polygon, smooth

SKY: tuple[Colour, Colour] = ((0.57, 0.45, 0.85), (0.58, 0.10, 0.95))
GREY: Colour = (0.6, 0.05, 0.55)


@dataclass(frozen=True)
class Aeroplane:
    """A variant: proportions, engines and tail. The livery is the airline's, not the variant's."""

    slim: float
    nose: float
    wing: tuple[float, float, float]
    fin: tuple[float, float, float]
    high_tail: bool
    engines: int
    rear_engine: bool
    high_wing: bool
    windows: int

    @classmethod
    def of_class(cls, rng: Generator, index: int) -> "Aeroplane":
        place = spread(index, 9)
        return cls(
            slim=float(0.075 + 0.13 * place[0]),
            nose=float(0.1 + 0.25 * place[1]),
            wing=(
                float(-0.45 + 0.55 * place[2]),
                float(0.2 + 0.22 * place[3]),
                float(0.05 + 0.6 * place[4]),
            ),
            fin=(
                float(0.15 + 0.3 * place[5]),
                float(0.1 + 0.14 * place[6]),
                float(0.05 + 0.25 * place[7]),
            ),
            high_tail=bool(rng.random() < 0.35),
            engines=int(rng.integers(0, 4)),
            rear_engine=bool(rng.random() < 0.35),
            high_wing=bool(rng.random() < 0.3),
            windows=int(6 + 20 * place[8]),
        )

    def _outlines(self) -> dict[str, Points]:
        """The parts; the fuselage is two units long, nose to the left."""
        slim, (root, chord, sweep), (tall, broad, lean) = self.slim, self.wing, self.fin
        y = -slim * 0.7 if self.high_wing else slim * 0.5
        tail_y = -slim - tall * 0.92 if self.high_tail else -slim * 0.4
        return {
            "far wing": polygon(
                (root + 0.05, y),
                (root + sweep, y - 0.22),
                (root + sweep + 0.1, y - 0.22),
                (root + chord, y),
            ),
            "fin": polygon(
                (0.92 - broad - 0.12, -slim * 0.6),
                (0.88 - broad / 2 + lean * 0.3, -slim - tall),
                (0.95 + lean * 0.4, -slim - tall),
                (0.95, -slim * 0.3),
            ),
            "fuselage": smooth(
                (-1, slim * 0.25),
                (-1 + self.nose, -slim * 0.85),
                (-0.5, -slim),
                (0.5, -slim),
                (0.98, -slim * 0.45),
                (0.98, -slim * 0.2),
                (0.55, slim * 0.75),
                (-0.5, slim),
                (-1 + self.nose * 0.6, slim * 0.85),
            ),
            "tail plane": polygon(
                (0.75, tail_y), (0.98, tail_y + 0.07), (1.08, tail_y + 0.07), (0.97, tail_y - 0.02)
            ),
            "wing": polygon(
                (root, y),
                (root + sweep, y + 0.3),
                (root + sweep + 0.13, y + 0.3),
                (root + chord + 0.08, y),
            ),
        }

    def paint(self, rng: Generator) -> Image.Image:
        pose = self._approach(rng)
        parts = self._outlines()
        corners = pose(np.concatenate(list(parts.values())))
        margin = 4 + rng.uniform(0, 8, 4)
        low, high = corners.min(0) - margin[:2], corners.max(0) + margin[2:]
        pose = Pose(pose.matrix, pose.centre - low)  # the crop is tight, as the original boxes
        width, height = np.maximum(((high - low) / FINE).astype(int), 24).tolist()
        near, far = (vary(colour, rng, 0.04, 0.2) for colour in SKY)
        canvas = Canvas(ground(rng, (width, height), (near, far), 3, 0.25))
        if rng.random() < 0.35:  # on the ground
            land = vary((0.25, 0.3, 0.4), rng, 0.15, 0.15)
            canvas.fill(polygon((-3, 0.22), (3, 0.22), (3, 3), (-3, 3)), land, pose)
        self._fly(canvas, rng, pose, parts)
        return photograph(canvas.finished(), rng, 0.7, 7, 0.25)

    def _approach(self, rng: Generator) -> Pose:
        pose = Pose.draw(rng, (128, 128), (0.82, 0.98), 0.12, 0.0)
        squeeze = np.diag([rng.uniform(0.75, 1.0), rng.uniform(0.95, 1.25)])  # seen obliquely
        matrix: NDArray[np.float64] = squeeze @ pose.matrix
        return Pose(matrix, pose.centre)

    def _fly(self, canvas: Canvas, rng: Generator, pose: Pose, parts: dict[str, Points]) -> None:
        body = vary(WHITE, rng, 0.1, 0.12) if rng.random() < 0.75 else any_colour(rng)
        accent, metal = any_colour(rng), vary(GREY, rng, 0.05, 0.2)
        slim, (root, _, sweep), _ = self.slim, self.wing, self.fin
        canvas.fill(parts["far wing"], (metal[0], metal[1], metal[2] * 0.8), pose)
        canvas.fill(parts["fin"], accent, pose)
        canvas.fill(parts["fuselage"], body, pose)
        if rng.random() < 0.5:
            stripe = polygon(
                (-0.95, 0.0), (0.95, -slim * 0.4), (0.95, -slim * 0.2), (-0.95, slim * 0.4)
            )
            canvas.fill(stripe, accent, pose)
        for x in np.linspace(-0.75, 0.7, self.windows):
            canvas.fill(ellipse(float(x), -slim * 0.35, 0.018, 0.03), (0.6, 0.3, 0.25), pose)
        pane = polygon(
            (-0.97 + self.nose * 0.4, -slim * 0.2),
            (-0.97 + self.nose * 0.8, -slim * 0.7),
            (-0.88 + self.nose, -slim * 0.3),
        )
        canvas.fill(pane, (0.6, 0.4, 0.2), pose)
        canvas.fill(parts["tail plane"], metal, pose)
        if self.rear_engine:
            canvas.fill(ellipse(0.55, -slim * 0.6, 0.16, 0.06), accent, pose)
        canvas.fill(parts["wing"], metal, pose)
        for k in range(self.engines):
            x, y = (
                root + sweep * (0.25 + 0.25 * k),
                slim * (-0.4 if self.high_wing else 0.9) + 0.07 * k,
            )
            canvas.fill(ellipse(x, y + 0.03, 0.11, 0.05), accent, pose)
            canvas.fill(ellipse(x - 0.09, y + 0.03, 0.02, 0.045), (0.6, 0.2, 0.15), pose)
