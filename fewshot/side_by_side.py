"""Networks that are measured side by side: each with its name in tables and the file of results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewshot.backbone_name import BackboneName
from fewshot.backbones import Backbone
from fewshot.checkpoint import Card
from fewshot.evaluation import distinct_names
from fewshot.experiment import short_hash
from fewshot.kept import KeptResults


@dataclass(frozen=True)
class Network:
    """One of them.

    Attributes:
        name: in tables and figures; no two have the same.
        backbone: in evaluation mode, on the device.
        card: of its checkpoint.
        kept: its results, finished ones and those to come.
    """

    name: str
    backbone: Backbone
    card: Card
    kept: KeptResults


def set_side_by_side(
    given: Sequence[tuple[Backbone, Card]],
    work: str,
    facts: Mapping[str, Any],
    size: int,
    device: torch.device,
    output: Path | None = None,
) -> tuple[Path, list[Network]]:
    """Networks ready to be measured, and the folder of what is measured.

    Args:
        given: from `load_checkpoints`.
        work: what is done; the name of the folder begins so.
        facts: JSON values that decide the results, beside the networks themselves.
        size: of the images that they will see, in pixels.
        device: where they compute.
        output: the folder; by default a name in runs/ that depends on all that decides results.

    Raises:
        InputError: a network cannot be run at this size.
    """
    for backbone, _ in given:
        backbone.check_size(size)
    cards = [card for _, card in given]
    identities = [
        {**facts, "backbone": c.backbone, "weights": c.weights, "classes": c.classes_hash}
        for c in cards
    ]
    stems = [BackboneName.parse(card.backbone).file for card in cards]
    label = "+".join(dict.fromkeys(stems))
    folder = output or Path("runs") / f"{work}-{label}-{short_hash(identities)}"
    names, files = distinct_names([card.backbone for card in cards]), distinct_names(stems)
    return folder, [
        Network(
            name,
            backbone.to(device).to(memory_format=torch.channels_last).eval(),
            card,
            KeptResults(folder / f"{file}.json", identity),
        )
        for name, file, (backbone, card), identity in zip(
            names, files, given, identities, strict=True
        )
    ]
