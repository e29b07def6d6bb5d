"""The paper and the camera: a canvas that takes unit coordinates, paints, and photographs.

Colours are (hue, saturation, value), each in [0, 1]; hue wraps around.
"""

import colorsys
import io
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from episodes.miniature.shapes import Points

Colour = tuple[float, float, float]
FINE = 2
"""Drawn at twice the size, then averaged: smooth edges."""

BLACK: Colour = (0.0, 0.0, 0.08)
WHITE: Colour = (0.1, 0.03, 0.95)


def rgb(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(colour[0] % 1.0, *np.clip(colour[1:], 0, 1).tolist())
    return int(255 * red), int(255 * green), int(255 * blue)


def vary(colour: Colour, rng: Generator, hue: float = 0.03, tone: float = 0.1) -> Colour:
    """A colour nearby: what light and individuals do to a class's colour."""
    shift = rng.uniform(-1, 1, 3)
    return (
        float(colour[0] + hue * shift[0]) % 1.0,
        float(np.clip(colour[1] + tone * shift[1], 0, 1)),
        float(np.clip(colour[2] + tone * shift[2], 0.05, 1)),
    )


def any_colour(rng: Generator) -> Colour:
    return (float(rng.random()), float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.2, 0.95)))


@dataclass(frozen=True)
class Surface:
    """How a part is covered: a colour, and marks of a second colour.

    Attributes:
        base, marks: the two colours.
        pattern: plain, stripes, spots or checks.
        pitch: distance of the marks in unit coordinates.
        turn: their direction in radians.
    """

    base: Colour
    marks: Colour = BLACK
    pattern: str = "plain"
    pitch: float = 0.3
    turn: float = 0.0


@dataclass(frozen=True)
class Pose:
    """Where and how an object stands in the picture: unit coordinates to pixels of the canvas."""

    matrix: NDArray[np.float64]
    centre: NDArray[np.float64]

    @classmethod
    def draw(
        cls,
        rng: Generator,
        size: tuple[int, int],
        scale: tuple[float, float] = (0.7, 0.95),
        turn: float = 0.2,
        shift: float = 0.1,
        flip: bool = True,
    ) -> "Pose":
        """A pose drawn at random.

        Args:
            rng: the image's generator.
            size: width and height of the picture in pixels.
            scale: bounds of the object's half size as a fraction of the picture's.
            turn: greatest rotation in radians.
            shift: greatest shift of the centre, as a fraction of the picture's half size.
            flip: whether to mirror half of the images.
        """
        half = np.array(size) * FINE / 2
        angle, shear = rng.uniform(-turn, turn), rng.uniform(-0.12, 0.12)
        stretch = np.exp(rng.uniform(-0.1, 0.1))
        mirror = -1.0 if flip and rng.random() < 0.5 else 1.0
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = np.array([[cos, sin], [-sin, cos]]) @ np.array([[1, 0], [shear, 1]])
        matrix = np.diag([mirror * stretch, 1 / stretch]) @ matrix * half.min()
        return cls(matrix * rng.uniform(*scale), half * (1 + rng.uniform(-shift, shift, 2)))

    def __call__(self, points: Points) -> Points:
        return points @ self.matrix + self.centre

    @property
    def unit(self) -> float:
        """Length of one unit in pixels of the canvas."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))


class Canvas:
    """A picture in the making, twice as large as it will be."""

    def __init__(self, image: Image.Image) -> None:
        self.size = image.size
        self.image = image.resize((image.width * FINE, image.height * FINE))
        self.pen = ImageDraw.Draw(self.image)

    def fill(self, points: Points, surface: Surface | Colour, pose: Pose) -> None:
        """Paint the inside of an outline."""
        corners = pose(points)
        if isinstance(surface, tuple):
            self.pen.polygon(corners.ravel().tolist(), rgb(surface))
        elif surface.pattern == "plain":
            self.pen.polygon(corners.ravel().tolist(), rgb(surface.base))
        else:
            self._fill_marked(corners, surface, pose)

    def _fill_marked(self, corners: Points, surface: Surface, pose: Pose) -> None:
        """Paint marks on a layer, and show the layer inside the outline only."""
        low = np.maximum(np.floor(corners.min(0)), 0).astype(int)
        high = np.minimum(np.ceil(corners.max(0)) + 1, self.image.size).astype(int)
        width, height = (high - low).tolist()
        if width < 1 or height < 1:
            return
        layer = Image.new("RGB", (width, height), rgb(surface.base))
        mask = Image.new("1", (width, height))
        ImageDraw.Draw(mask).polygon((corners - low).ravel().tolist(), 1)
        pen, ink = ImageDraw.Draw(layer), rgb(surface.marks)
        reach = np.arange(-8, 9) * surface.pitch
        cos, sin = np.cos(surface.turn), np.sin(surface.turn)
        along, across = np.array([cos, sin]), np.array([-sin, cos])
        if surface.pattern == "stripes":
            for step in reach:
                ends = pose(np.array([along * step - 3 * across, along * step + 3 * across])) - low
                pen.line(ends.ravel().tolist(), ink, max(int(pose.unit * surface.pitch * 0.45), 1))
        else:
            grid = np.stack(np.meshgrid(reach, reach), -1).reshape(-1, 2)
            grid[:, 0] += np.round(grid[:, 1] / surface.pitch) % 2 * surface.pitch / 2
            centres = pose(grid @ np.array([along, across])) - low
            radius = pose.unit * surface.pitch * 0.28
            stamp = pen.ellipse if surface.pattern == "spots" else pen.rectangle
            inside = ((centres > -radius) & (centres < np.array([width, height]) + radius)).all(1)
            for x, y in centres[inside].tolist():
                stamp((x - radius, y - radius, x + radius, y + radius), fill=ink)
        self.image.paste(layer, low.tolist(), mask)

    def line(self, points: Points, colour: Colour, width: float, pose: Pose) -> None:
        """Draw a stroke along the points; the width is in units of the pose."""
        thick = max(round(width * pose.unit), 1)
        self.pen.line(pose(points).ravel().tolist(), rgb(colour), thick, joint="curve")

    def finished(self) -> Image.Image:
        """The picture at its own size."""
        return self.image.reduce(FINE)


def noise(rng: Generator, size: tuple[int, int], cells: int) -> NDArray[np.float32]:
    """Smooth noise of standard deviation near 1, float32 [height, width]."""
    grid = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(grid.resize(size, Image.Resampling.BICUBIC))


def ground(
    rng: Generator, size: tuple[int, int], colours: tuple[Colour, Colour], cells: int = 5,
    rough: float = 0.5,
) -> Image.Image:  # fmt: skip
    """A background: two colours mixed by smooth noise of two octaves.

    Args:
        rng: the image's generator.
        size: width and height in pixels.
        colours: the two colours.
        cells: grid cells of the coarse octave; the fine one has four times as many.
        rough: weight of the fine octave.
    """
    mix = noise(rng, size, cells) + rough * noise(rng, size, 4 * cells)
    share = (1 / (1 + np.exp(-1.5 * mix)))[..., None]
    first, second = (np.array(rgb(colour), dtype=np.float32) for colour in colours)
    return Image.fromarray((first + (second - first) * share).astype(np.uint8))


def scatter(canvas: Canvas, rng: Generator, count: int, colours: tuple[Colour, Colour],
            reach: float = 0.35) -> None:  # fmt: skip
    """Clutter: random triangles to pentagons all over the canvas."""
    extent = np.array(canvas.image.size)
    for _ in range(count):
        corners = int(rng.integers(3, 6))
        centre, spread = rng.random(2) * extent, rng.uniform(0.1, 1) * reach * extent.min()
        points = centre + rng.uniform(-1, 1, (corners, 2)) * spread
        colour = vary(colours[int(rng.integers(2))], rng, 0.06, 0.25)
        canvas.pen.polygon(points.ravel().tolist(), rgb(colour))


def photograph(
    image: Image.Image, rng: Generator, blur: float = 0.5, grain: float = 6.0, light: float = 0.2
) -> Image.Image:
    """What a camera adds: blur, a light that is never even, an exposure, grain.

    Args:
        image: RGB.
        rng: the image's generator.
        blur: greatest radius in pixels.
        grain: greatest standard deviation of the grain, of 255.
        light: strength of exposure and of the gradient of light.
    """
    soft = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, blur))))
    pixels = np.asarray(soft, dtype=np.float32)
    height, width = pixels.shape[:2]
    slope = rng.uniform(-light, light, 3).astype(np.float32)
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    right = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    pixels = pixels * (1 + slope[0] + slope[1] * down + slope[2] * right)
    strength = np.float32(rng.uniform(0.3, 1) * grain)
    pixels += strength * rng.standard_normal((height, width, 1), dtype=np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encode_jpeg(image: Image.Image) -> bytes:
    """JPEG at Pillow's defaults (quality 75), as the official converters write it."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()
