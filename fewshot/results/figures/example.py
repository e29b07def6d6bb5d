"""An episode in pictures as a figure."""

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewshot.results.figures.figure import (
    ACCENT,
    QUIET,
    Figure,
    clip,
    new_canvas,
    short_name,
    styled,
)

if TYPE_CHECKING:
    from fewshot.gallery import Example

WRONG = "#b3470a"


@styled
def draw_example(example: "Example") -> Figure:
    """A row per class: support on the left; query on the right, with what each head made of it."""
    shots = max(len(row.support) for row in example.classes)
    queries = max(len(row.query) for row in example.classes)
    heads, file = list(example.accuracies), f"example_{example.source}_{example.index}"
    across, down = shots + queries, len(example.classes)
    canvas = new_canvas(0.62 * across + 1.9, 0.78 * down + 0.4)
    panels = canvas.subplots(down, across, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for line, row in zip(panels, example.classes, strict=True):
        line[0].text(
            -0.15, 0.5, clip(f"{row.label + 1}  {row.name}", 22), transform=line[0].transAxes,
            ha="right", va="center", fontsize=8,
        )  # fmt: skip
        for panel, picture in zip(line, row.support, strict=False):
            panel.imshow(decode_picture(picture))
        for panel, query in zip(line[shots:], row.query, strict=False):
            panel.imshow(decode_picture(query.picture))
            known = [query.guesses[head] for head in heads if head in query.guesses]
            for k, guess in enumerate(known if len(known) == len(heads) else ()):
                right = guess == row.label
                panel.text(
                    (k + 0.5) / len(heads), -0.04, "\u2713" if right else "\u2717",
                    transform=panel.transAxes, ha="center", va="top", fontsize=6.5,
                    color=ACCENT if right else WRONG,
                )  # fmt: skip
    panels[0, 0].set_title("support", fontsize=8, loc="left", color=QUIET)
    panels[0, shots].set_title("query", fontsize=8, loc="left", color=QUIET)
    canvas.subplots_adjust(wspace=0.08, hspace=0.24)
    shown = (
        f"the first {down} of {len(example.names)} classes"
        if down < len(example.names)
        else (f"{down} classes")
    )
    caption = (
        f"{short_name(example.source)}, episode {example.index}: {shown}. Below a query: guessed "
        f"right or wrong by {', '.join(heads)}."
    )
    canvas.text(0.5, 0.02, caption, ha="center", va="top", fontsize=7, color=QUIET, wrap=True)
    return Figure(file, f"Example of {short_name(example.source)}", caption, canvas)


def decode_picture(uri: str) -> NDArray[np.uint8]:
    """uint8 [height, width, 3] of a data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
