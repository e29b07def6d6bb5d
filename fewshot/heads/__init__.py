"""Few-shot heads: the table, and how a head is written as text.

To add a head: one file with a class derived from `Head` (its text is the contract), its test,
and one line in the tuples below; the contract suite then runs on it. A head outside the
repository needs no line: `mine.py:MyHead` works wherever a name does.
"""

import re
from pathlib import Path
from typing import Any

from episodes.faults import InputError, unknown_name
from fewshot.heads.base import Features, Head, ImagePredictor, Predictor
from fewshot.heads.batch import Episode, EpisodeHead, EpisodePredictor, Queries, Support
from fewshot.heads.finetune import Finetune, ProtoMaml
from fewshot.heads.flute import Flute
from fewshot.heads.layer import Anil, FinetuneCosine, FinetuneLinear
from fewshot.heads.linear import LinearSvm, Logistic, Ridge
from fewshot.heads.mahalanobis import Mahalanobis, TransductiveCnaps
from fewshot.heads.nearest import Matching, NearestNeighbour
from fewshot.heads.pmf import Pmf
from fewshot.heads.prototypical import NccCosine, Prototypical, SimpleShot
from fewshot.heads.pt_map import PtMap
from fewshot.heads.rectified import BdCspn, LaplacianShot
from fewshot.heads.settings import apply_settings, split_settings
from fewshot.heads.sur import Sur, SurPnf
from fewshot.heads.tim import Tim
from fewshot.heads.tsa import Tsa
from fewshot.heads.url import Url
from fewshot.heads.urt import Urt
from fewshot.heads.user_file import (
    file_of_head,
    installed_heads,
    is_own,
    load_head_class,
    load_installed,
)

__all__ = [
    "HEADS",
    "Episode",
    "EpisodeHead",
    "EpisodePredictor",
    "Features",
    "Head",
    "ImagePredictor",
    "Predictor",
    "Queries",
    "Support",
    "build_head",
    "file_of_head",
    "is_own",
]

FROZEN: tuple[type[Head], ...] = (
    NearestNeighbour,
    Prototypical,
    NccCosine,
    SimpleShot,
    Matching,
    Logistic,
    LinearSvm,
    Ridge,
    FinetuneLinear,
    FinetuneCosine,
    Anil,
    Mahalanobis,
    Sur,
    SurPnf,
    Urt,
    Url,
)
"""Heads on frozen features that score each query by itself."""
TRANSDUCTIVE: tuple[type[Head], ...] = (BdCspn, LaplacianShot, Tim, PtMap, TransductiveCnaps)
"""Heads on frozen features that look at all queries together."""
TUNING: tuple[type[Head], ...] = (Finetune, Tsa, Pmf, Flute, ProtoMaml)
"""Heads that tune the backbone, or can."""
HEADS: dict[str, type[Head]] = {head.name: head for head in (*FROZEN, *TRANSDUCTIVE, *TUNING)}
"""Every head by its name."""


def build_head(text: str, **settings: Any) -> Head:
    """Make a head from its text and, optionally, settings by name.

    Args:
        text: `name`, `name:key=value,key=value`, `path/mine.py:MyHead`, or
            `path/mine.py:MyHead:key=value`; a name of the table, or of an installed package.
        settings: more settings, as values of the field's type or as text.

    Raises:
        InputError: an unknown name, setting or choice, with the nearest known one; a value of
            the wrong type or out of range; a file that gives no head (see `load_head_class`).
    """
    file = re.fullmatch(r"(?P<path>.+\.py)(?::(?P<head>[^:=]*))?(?::(?P<settings>.*))?", text)
    if file:
        head = load_head_class(Path(file["path"]), file["head"] or "")
        if head.name in HEADS:
            raise InputError(
                f"the head calls itself '{head.name}', the name of a head of this project.",
                file["path"],
                "Choose another `name`.",
            )
        written = file["settings"] or ""
    else:
        name, _, written = text.partition(":")
        if name in HEADS:
            head = HEADS[name]
        elif name in (installed := installed_heads()):
            head = load_installed(installed[name])
        else:
            raise unknown_name("head", name, [*HEADS, *installed])
    values = split_settings(written, text)
    twice = values.keys() & settings.keys()
    if twice:
        raise InputError(f"the setting '{min(twice)}' is given twice.", f"head {text}")
    return apply_settings(head, {**values, **settings})
