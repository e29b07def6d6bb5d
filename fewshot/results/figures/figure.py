"""A figure: how it looks, on the page and in a paper."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from episodes.faults import InputError
from fewshot.results.tables import SHORT_NAMES, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

Arguments = ParamSpec("Arguments")
Drawn = TypeVar("Drawn")
INK, QUIET, LINE, ACCENT = "#1b1f24", "#57606a", "#d0d7de", "#0b5cad"
THEMED = {INK: "var(--ink)", QUIET: "var(--quiet)", LINE: "var(--line)", ACCENT: "var(--accent)"}
"""Colours that follow the page's theme, by the colour that papers get."""
SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
MARKERS, DASHES = "osD^vP", ("-", "--", ":", "-.")
STYLE = {
    "font.size": 9,
    "text.parse_math": False,  # a head may be called anything
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": LINE,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
INCH = 96.0  # pixels of the page


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure.

    Attributes:
        name: of its files.
        title, caption: in words.
        canvas: matplotlib's.
        tips: what is shown when the pointer rests on a part, by the part's gid.
    """

    name: str
    title: str
    caption: str
    canvas: "Canvas"
    tips: Mapping[str, str] = field(default_factory=dict)

    def as_svg(self) -> str:
        """Markup that a page holds inside itself and that takes the page's colours."""
        text = self._render("svg").decode()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", text, count=1, flags=re.S)
        width = re.search(r'viewBox="0 0 ([\d.]+) ', text)
        pixels = float(width[1]) * INCH / 72 if width else 640
        opening = (
            f'<svg role="img" aria-label="{escape(f"{self.title}. {self.caption}", quote=True)}" '
            f'style="width:100%;min-width:{min(pixels, 0.85 * pixels):.0f}px;'
            f'max-width:{pixels:.0f}px;height:auto"'
        )
        text = re.sub(r"<svg(?= )", lambda _: opening, text, count=1)
        text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
        text = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1inherit", text)
        for color, variable in THEMED.items():
            text = text.replace(color, variable)
        for gid, tip in self.tips.items():
            tag = f'<g id="{gid}">'
            text = text.replace(tag, f"{tag}<title>{escape(tip)}</title>", 1)
        return text

    def save(self, folder: Path) -> None:
        """Write it as PDF and SVG, for papers.

        Raises:
            InputError: a file cannot be written.
        """
        write_text(folder / f"{self.name}.svg", self._render("svg").decode())
        try:
            (folder / f"{self.name}.pdf").write_bytes(self._render("pdf"))
        except OSError as error:
            raise InputError(f"cannot be written ({error}).", folder) from error

    def _render(self, form: str) -> bytes:
        import matplotlib

        sink = io.BytesIO()
        date = {"svg": "Date", "pdf": "CreationDate"}[form]  # equal results are equal files
        with matplotlib.rc_context({**STYLE, "svg.hashsalt": self.name}):
            self.canvas.savefig(sink, format=form, metadata={date: None}, bbox_inches="tight")
        return sink.getvalue()


def new_canvas(width: float, height: float) -> "Canvas":
    """An empty canvas in inches.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        remedy = "pip install matplotlib"
        raise InputError("figures need matplotlib, which is missing.", remedy=remedy) from error
    return Canvas(figsize=(width, height))


def styled(draw: Callable[Arguments, Drawn]) -> Callable[Arguments, Drawn]:
    """Runs a drawing function in this file's style."""

    @wraps(draw)
    def in_style(*arguments: Arguments.args, **named: Arguments.kwargs) -> Drawn:
        try:
            import matplotlib
        except ImportError:
            return draw(*arguments, **named)  # says what is missing
        with matplotlib.rc_context(STYLE):
            return draw(*arguments, **named)

    return in_style


def short_name(source: str) -> str:
    """What tables call a source."""
    return SHORT_NAMES.get(source, source)


LEAST = 8
"""Letters that are left of a head."""


def clip(name: str, most: int = 34) -> str:
    """A name that fits; of a head on a backbone, the beginnings of both are kept."""
    if len(name) <= most:
        return name
    head, at, backbone = name.rpartition(" @ ")
    if not at:
        return f"{name[: most - 1]}…"
    head = clip(head, max(most - len(at + backbone), LEAST))
    return f"{head}{at}{clip(backbone, most - len(head + at))}"


def draw_line(
    panel: "Axes", place: int, name: str, x: Sequence[float], y: Sequence[float]
) -> "tuple[str, Line2D]":
    """A line in the colour and dash of its place in the legend."""
    color = SERIES[place % len(SERIES)]
    dash = DASHES[place // len(SERIES) % len(DASHES)]
    (line,) = panel.plot(x, y, dash, color=color, linewidth=1.5, markersize=4, label=clip(name, 42))
    return color, line


def add_legend(panel: "Axes") -> None:
    """The names of the lines, to the right of a panel."""
    panel.legend(
        loc="upper left", bbox_to_anchor=(1.02, 1.02), frameon=False, fontsize=8, labelcolor=INK
    )
