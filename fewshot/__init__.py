"""Few-shot learning on episodes: anti-aliasing, backbones, heads, results.

`fewshot.score` scores arrays with any head, `fewshot.antialias` filters any network; importing
this package imports no PyTorch, using one of them does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from episodes.import_order import check_import_order

if TYPE_CHECKING:
    from fewshot.antialiasing import antialias
    from fewshot.heads.score import score

__all__ = ["antialias", "score"]
HOMES = {"antialias": "fewshot.antialiasing", "score": "fewshot.heads.score"}

check_import_order()


def __getattr__(name: str) -> Any:
    """Import torch only for the names that need it."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'fewshot' has no attribute '{name}'")
