"""Figures of results, for papers and for the page: drawn once by matplotlib, themed by the page.

Identity is never told by colour alone: bars stand beside their names, lines differ in marker and
dash, cells of heat maps carry their numbers. Colours are those of Okabe and Ito.
"""

from fewshot.results.figures.accuracy import (
    Points,
    draw_against,
    draw_against_by_source,
    draw_bars,
)
from fewshot.results.figures.comparison import draw_critical_difference, draw_differences
from fewshot.results.figures.example import draw_example
from fewshot.results.figures.figure import Figure
from fewshot.results.figures.making import draw_aliasing, draw_selection, draw_training

__all__ = [
    "Figure",
    "Points",
    "draw_against",
    "draw_against_by_source",
    "draw_aliasing",
    "draw_bars",
    "draw_critical_difference",
    "draw_differences",
    "draw_example",
    "draw_selection",
    "draw_training",
]
