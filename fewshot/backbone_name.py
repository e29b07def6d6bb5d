"""The name of a backbone says how to build it: network, placement, filter, activation.

    resnet50                                  a network of the table
    timm/resnet50d, torchvision/densenet121   a network of these libraries
    aa_resnet50                               anti-aliased by default: critical, binomial3
    aa[skip,conv;binomial5]_resnet50          placement and filter named
    aa[critical;binomial3;silu]_resnet50      and a smooth activation

Imports no torch.
"""

import re
from dataclasses import dataclass

from episodes.faults import InputError, unknown_name

PLAIN = (
    "four_layer_convnet",
    *("resnet18", "resnet18_sur", "resnet34", "resnet50", "wide_resnet50_2", "resnext50_32x4d"),
    *(f"efficientnet_b{size}" for size in range(5)),
    *("mobilenet_v2", "mobilenet_v3_large", "regnet_y_400mf", "regnet_y_1_6gf", "convnext_tiny"),
)
"""Networks of the table."""
LIBRARIES = ("timm", "torchvision")

PLACEMENTS = ("pool", "conv", "preconv", "skip", "stem", "se", "critical", "all")
FILTER = re.compile(r"binomial[2-7]|gaussian(?:[\d.]+x\d+)?|sinc\d+|taps[-+.:e\d]+")
ACTIVATIONS = ("silu", "gelu")
DEFAULT_PLACEMENT, DEFAULT_FILTER = ("critical",), "binomial3"


@dataclass(frozen=True)
class BackboneName:
    """A parsed name.

    Attributes:
        plain: the network, anti-aliased or not.
        placement: which steps are filtered; empty for a plain network.
        filter: the name of the filter.
        activation: in the place of ReLU, if another.
    """

    plain: str
    placement: tuple[str, ...] = ()
    filter: str = DEFAULT_FILTER
    activation: str | None = None

    @property
    def antialiased(self) -> bool:
        return bool(self.placement)

    def __str__(self) -> str:
        """The one spelling of this name; `parse` reads it back."""
        if not self.antialiased:
            return self.plain
        parts = [",".join(self.placement), self.filter, *filter(None, [self.activation])]
        default = parts == [",".join(DEFAULT_PLACEMENT), DEFAULT_FILTER]
        return f"aa_{self.plain}" if default else f"aa[{';'.join(parts)}]_{self.plain}"

    @property
    def file(self) -> str:
        """The name as part of a file's name."""
        return str(self).replace("/", "-")

    @classmethod
    def parse(cls, text: str) -> "BackboneName":
        """The name that a text spells.

        Raises:
            InputError: there is no such network, placement, filter or activation.
        """
        found = re.fullmatch(r"aa(?:\[([^\]]*)\])?_(.+)", text)
        plain, inner = (found[2], found[1]) if found else (text, None)
        library, slash, rest = plain.partition("/")
        if not (slash and library in LIBRARIES and rest) and plain not in PLAIN:
            known = [name for one in PLAIN for name in (one, f"aa_{one}")]
            raise unknown_name("backbone", text, [*known, "timm/<name>", "torchvision/<name>"])
        if not found:
            return cls(plain)
        settings: dict[str, str] = {}
        for part in (inner or "").split(";") if inner is not None else ():
            kind = _kind_of(part, text)
            if kind in settings:
                raise InputError(f"names two of '{part}' and '{settings[kind]}'.", text)
            settings[kind] = part
        names = settings.get("placement", ",".join(DEFAULT_PLACEMENT)).split(",")
        placement = tuple(name for name in PLACEMENTS if name in names)
        return cls(
            plain, placement, settings.get("filter", DEFAULT_FILTER), settings.get("activation")
        )


def _kind_of(part: str, text: str) -> str:
    """What a part between brackets sets: placement, filter or activation."""
    if part and all(name in PLACEMENTS for name in part.split(",")):
        return "placement"
    if FILTER.fullmatch(part):
        return "filter"
    if part in ACTIVATIONS:
        return "activation"
    fault = unknown_name("setting", part, [*PLACEMENTS, *ACTIVATIONS, "binomial3", "gaussian"])
    raise InputError(fault.what, text, f"{fault.remedy} Write aa[skip,conv;binomial5]_resnet50.")
