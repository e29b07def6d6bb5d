"""How figures look, and how they are written. Needs matplotlib, which is an extra.

Colours are those of Okabe and Ito, which people with any kind of colour vision can tell apart;
lines differ in their marks as well, so that a print without colour can be read.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from episodes.faults import unknown_name, writing
from episodes.tfrecord import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT = "#222222", "#DDDDDD"
FORMATS = ("png", "svg", "pdf")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "svg.hashsalt": "run_meta_dataset",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
ABSENT = "matplotlib is not installed: no plots. pip install 'run-meta-dataset[plots]' adds it."


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def check_formats(formats: Sequence[str]) -> None:
    """Raises InputError for a format that figures are not written in."""
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format of plots", name, FORMATS)


def colour_of(place: int) -> str:
    """The colour of the line at this place in a legend."""
    return COLOURS[place % len(COLOURS)]


def mark_of(place: int) -> str:
    """The mark of the line at this place in a legend."""
    return MARKS[place % len(MARKS)]


@contextmanager
def drawing(width: float, height: float) -> Iterator["Figure"]:
    """A figure of so many inches in the project's style."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def entitle(figure: "Figure", what: str, where: str = "") -> None:
    """Say above a figure what it shows and, on a second line, of which runs."""
    figure.suptitle(f"{what}\n{where}" if where else what, fontsize=9.5, x=0.01, ha="left")


def save(figure: "Figure", folder: Path, stem: str, formats: Sequence[str]) -> tuple[Path, ...]:
    """Write a figure, each file whole or not at all; the same figure gives the same bytes.

    To be called within `drawing`.

    Raises:
        InputError: a file cannot be written.
    """
    written = []
    for name in formats:
        path = folder / f"{stem}.{name}"
        dated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        with writing(path, "choose another --output"), replacing(path) as temporary:
            figure.savefig(temporary, format=name, metadata=dated[name])
        written.append(path)
    return tuple(written)
