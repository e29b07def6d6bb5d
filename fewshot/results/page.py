"""Pages of one file: templates that escape everything, with style and script inside."""

from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

from fewshot.results.tables import SHORT_NAMES


@cache
def _environment() -> jinja2.Environment:
    folder = files("fewshot.results") / "templates"

    def load(name: str) -> str | None:
        path = folder / name
        return path.read_text(encoding="utf-8") if path.is_file() else None

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(load),
        autoescape=True,  # names of classes, heads and folders come from files
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: "–" if value is None else f"{value:.2f}"
    environment.filters["short_name"] = lambda source: SHORT_NAMES.get(source, source)
    return environment


def render_template(name: str, **values: Any) -> str:
    """A page of the folder `templates`; values are text until they are marked as markup there."""
    return _environment().get_template(name).render(**values)
