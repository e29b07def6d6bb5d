"""Few-shot learning on episodes: anti-aliasing, backbones, heads, results."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot.antialiasing import antialias

__all__ = ["antialias"]


def __getattr__(name: str) -> Any:
    """Import torch only for the names that need it."""
    if name in __all__:
        from fewshot import antialiasing

        return getattr(antialiasing, name)
    raise AttributeError(f"module 'fewshot' has no attribute '{name}'")
