"""Which sub-sampling steps get a filter, by name.

| placement | the filter stands |
|---|---|
| `pool` | after a max or average pooling at stride 1 |
| `conv` | after a strided convolution of the main path, at stride 1, normalised and activated |
| `preconv` | before such a convolution, which keeps its stride |
| `skip` | before the strided projection of a shortcut: filter and sub-sample, then project |
| `stem` | after the strided convolution that reads the image, activated |
| `se` | like `conv`, where squeeze-and-excitation reads the sub-sampled map |
| `critical` | at every aliased step whose support is below 7 |
| `all` | at every step |

Source: Vasconcelos et al. 2021, sections 3 and 4: a filter helps where too few samples are read to
learn a low-pass; more filters are not better.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from episodes.faults import InputError, unknown_name
from fewshot.antialiasing.operations import CONV
from fewshot.antialiasing.steps import MAIN, Step
from fewshot.backbone_name import PLACEMENTS

DEFAULT = "critical"
ENOUGH_SUPPORT = 7
"""An operation this wide is left alone: it can learn a low-pass (the 7×7 stem of ResNets)."""


@dataclass(frozen=True)
class Wish:
    """A step that gets a filter.

    Attributes:
        before: the step's input is filtered, and its stride stays.
        after: its result is filtered and then sub-sampled (a shortcut's 1×1 projection: before
            it, which is the same).
    """

    step: Step
    before: bool
    after: bool


def parse_placement(placement: str | Sequence[str]) -> tuple[str, ...]:
    """Names of placements, in the order of the table, each once.

    Args:
        placement: names, or one text with commas between them.

    Raises:
        InputError: there is no such placement, or none is named.
    """
    names = placement.split(",") if isinstance(placement, str) else list(placement)
    for name in names:
        if name not in PLACEMENTS:
            raise unknown_name("placement", name, PLACEMENTS)
    if not names:
        raise InputError("no placement is named.", remedy=f"Known: {', '.join(PLACEMENTS)}.")
    return tuple(name for name in PLACEMENTS if name in names)


def choose(steps: Sequence[Step], placement: Sequence[str], where: str) -> list[Wish]:
    """The steps that a placement filters.

    Args:
        steps: of a network.
        placement: from `parse_placement`.
        where: the network's name, for errors.

    Raises:
        InputError: there is nothing to filter.
    """
    if not steps:
        raise InputError("has no sub-sampling step.", where, "There is nothing to anti-alias.")
    for name in placement:
        if not any(_covers(name, step) for step in steps):
            there = ", ".join(dict.fromkeys(step.place for step in steps))
            what = f"has no sub-sampling step that '{name}' stands for (it has: {there})."
            if name == DEFAULT:
                what = "has no aliased step with little support: nothing is critical."
            raise InputError(what, where, "Choose another placement.")
    wishes = []
    for step in steps:
        names = [name for name in placement if _covers(name, step)]
        if names and (step.filter is None or step.filter.startswith("box")):
            wishes.append(Wish(step, "preconv" in names, names != ["preconv"]))
    if not wishes:
        raise InputError("is filtered there already.", where, "There is nothing to anti-alias.")
    return wishes


def _covers(name: str, step: Step) -> bool:
    if name == "critical":
        return not step.filtered and step.support < ENOUGH_SUPPORT
    if name == "se":
        return step.squeezed and step.kind == CONV
    if name == "preconv":
        return step.place == MAIN and step.kind == CONV
    return name in ("all", step.place)
