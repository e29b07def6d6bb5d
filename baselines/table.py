"""The benchmark's reference methods: the table, and heads by their text.

A file each, or one for a family; `learner.py` is their contract. Those of `EPISODIC` learn from
episodes, the others take a network that was trained to classify.
"""

from typing import Any

from baselines.ctx import Ctx
from baselines.finetune import BenchmarkFinetune
from baselines.knn import BenchmarkKnn
from baselines.maml import Anil, Maml, ProtoMaml
from baselines.matchingnet import Matchingnet
from baselines.method import Method
from baselines.protonet import Protonet
from baselines.relationnet import Relationnet
from baselines.simple_cnaps import SimpleCnaps
from episodes.faults import InputError, unknown_name
from fewshot.heads import Head
from fewshot.heads import build_head as build_plain_head
from fewshot.heads.settings import apply_settings, split_settings

KINDS: tuple[type[Method], ...] = (
    *(Protonet, Matchingnet, Relationnet, Maml, ProtoMaml, Anil, Ctx, SimpleCnaps),
    *(BenchmarkKnn, BenchmarkFinetune),
)
METHODS: dict[str, type[Method]] = {kind().method: kind for kind in KINDS}
"""The methods by the name that the command `baseline` takes."""
EPISODIC = tuple(name for name, kind in METHODS.items() if kind.learns_from == "episodes")
"""Those that learn from episodes."""


def build_method(text: str) -> Method:
    """A method from its text, `name` or `name:key=value,key=value`.

    Raises:
        InputError: an unknown name, setting or choice, or a value of the wrong type.
    """
    name, _, written = text.partition(":")
    if name not in METHODS:
        raise unknown_name("method", name, list(METHODS))
    return _apply(METHODS[name], written, text)


def build_head(text: str, **settings: Any) -> Head:
    """A head from its text, as `fewshot.heads.build_head`, and also those that were trained here.

    Raises:
        InputError: as for `fewshot.heads.build_head`.
    """
    name, _, written = text.partition(":")
    known = {kind.name: kind for kind in METHODS.values()}
    if name not in known:
        return build_plain_head(text, **settings)
    return _apply(known[name], written, text, **settings)


def _apply(kind: type[Method], written: str, text: str, **settings: Any) -> Method:
    made = apply_settings(kind, {**split_settings(written, text), **settings})
    if not isinstance(made, Method):
        raise InputError("is no method of the benchmark.", text)
    return made
