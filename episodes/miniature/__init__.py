"""A tiny ten-source benchmark in the official format, drawn by our own code on first use.

It has the names, the file format and the structure of the ten sources of Meta-Dataset, and
none of their images: an honest stand-in to learn the tool and to test it. Numbers measured on
it say "miniature" and are never comparable to published ones.
"""

from episodes.miniature.records import (
    MINIATURE_VERSION,
    default_folder,
    draw_miniature,
    draw_source,
    is_complete,
)

__all__ = ["MINIATURE_VERSION", "default_folder", "draw_miniature", "draw_source", "is_complete"]
