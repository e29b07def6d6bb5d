"""What a run will cost, told before anything heavy is imported."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from episodes import InputError, Split
from episodes.miniature.table import TABLE
from episodes.remote import find_url
from episodes.source import find_spec
from fewshot.backbone_name import BackboneName

if TYPE_CHECKING:
    from fewshot.experiment import Experiment

CORE_SECONDS: dict[str, tuple[float, float]] = {
    "four_layer_convnet": (15.1, 5.7),
    "aa_four_layer_convnet": (18.3, 7.3),
    "resnet18": (22.0, 6.6),
    "aa_resnet18": (27.5, 8.3),
    "resnet18_sur": (70.0, 20.6),
    "aa_resnet18_sur": (93.0, 28.3),
    "efficientnet_b0": (15.0, 3.6),
    "aa_efficientnet_b0": (24.5, 4.8),
    "resnet34": (44.7, 14.8),
    "aa_resnet34": (52.0, 16.7),
    "resnet50": (68.3, 21.8),
    "aa_resnet50": (75.4, 24.4),
    "wide_resnet50_2": (222.0, 65.0),
    "aa_wide_resnet50_2": (212.0, 64.8),
    "resnext50_32x4d": (68.0, 22.9),
    "aa_resnext50_32x4d": (79.0, 24.5),
    "efficientnet_b1": (23.1, 5.8),
    "aa_efficientnet_b1": (29.2, 7.9),
    "efficientnet_b2": (30.1, 7.1),
    "aa_efficientnet_b2": (35.4, 8.3),
    "efficientnet_b3": (46.4, 10.4),
    "aa_efficientnet_b3": (44.1, 10.8),
    "efficientnet_b4": (58.5, 14.2),
    "aa_efficientnet_b4": (66.5, 16.9),
    "mobilenet_v2": (10.9, 2.8),
    "aa_mobilenet_v2": (18.2, 5.8),
    "mobilenet_v3_large": (10.6, 2.7),
    "aa_mobilenet_v3_large": (13.4, 3.6),
    "regnet_y_400mf": (15.0, 4.0),
    "aa_regnet_y_400mf": (16.4, 5.2),
    "regnet_y_1_6gf": (40.5, 12.8),
    "aa_regnet_y_1_6gf": (43.8, 14.4),
    "convnext_tiny": (61.8, 15.6),
    "aa_convnext_tiny": (65.5, 17.5),
}
"""Seconds of one CPU core to train on, and to embed, 1000 images of 84 × 84 pixels.

Measured with PyTorch 2.14 on an AMD EPYC, batches of 8 to 64; another processor differs by some
tens of percent, which is good enough for "about".
"""
HEAD_CORE_SECONDS: dict[str, float] = {
    "tim": 0.150,
    "url": 0.075,
    "transductive_cnaps": 0.047,
    "logistic": 0.013,
    "finetune_cosine": 0.012,
    "pt_map": 0.012,
    "finetune_linear": 0.011,
    "finetune": 0.010,
}
"""Seconds of one core that the slower heads take on the features of one episode.

Means over 60 episodes of the miniature (8 ways, 54 support images, 70 queries, 512 dimensions) on
an Intel Xeon with PyTorch 2.14 and one thread, other work stopped.
"""
LIGHT_HEAD = 0.006
"""The same of any other head on features, the slowest of which takes this."""

TUNED_IMAGES = 100 * 250
"""Images that pass through a backbone tuned on one episode: steps times support images."""


def core_seconds(name: str) -> tuple[float, float] | None:
    """Of a backbone; any anti-aliasing counts as the default one. None where nothing is known."""
    parsed = BackboneName.parse(name)
    return CORE_SECONDS.get(f"aa_{parsed.plain}" if parsed.antialiased else parsed.plain)


TUNING = ("tsa", "pmf", "flute", "proto_maml")
"""Heads that tune the backbone whatever their settings."""


def tunes_backbone(head: str) -> bool:
    """Whether a head, as text, tunes the backbone on every episode."""
    return "layers=all" in head or head.partition(":")[0] in TUNING


def head_core_seconds(head: str) -> float:
    """Of a head, as text, on the features of one episode, at its published settings."""
    return HEAD_CORE_SECONDS.get(head.partition(":")[0], LIGHT_HEAD)


def minutes_on_cpu(experiment: "Experiment", cores: int) -> float | None:
    """About how many minutes the experiment takes on so many CPU cores; None if nothing is known.

    Raises:
        InputError: the specification of a source is broken.
    """
    scale = (experiment.image_size / 84) ** 2
    seconds = 0.0
    for name in experiment.backbone:
        if (known := core_seconds(name)) is None:
            return None
        train, embed = known
        if not experiment.checkpoint:
            images = sum(_class_sizes(experiment, experiment.source, Split.TRAIN))
            seconds += train * scale * images / 1000 * experiment.epochs
        for source in experiment.source_names():
            there = sum(_class_sizes(experiment, source, Split.parse(experiment.split)))
            # An episode has a few hundred images; small sources are embedded whole.
            seconds += embed * scale * min(there, 400 * experiment.episodes) / 1000
            seconds += experiment.episodes * sum(map(head_core_seconds, experiment.heads))
            tuned = sum(tunes_backbone(head) for head in experiment.heads)
            seconds += tuned * experiment.episodes * train * scale * TUNED_IMAGES / 1000
    return seconds / cores / 60


def announcement(experiment: "Experiment") -> str:
    """One sentence: what will happen and how long it takes.

    Raises:
        InputError: the specification of a source is broken.
    """
    backbones = ", ".join(experiment.backbone)
    first = (
        f"Load {backbones}"
        if experiment.checkpoint
        else f"Train {backbones} on {experiment.source}"
    )
    place = experiment.records and (find_url(experiment.records) or experiment.records)
    where = f"records in {place}" if place else "the bundled miniature"
    sources = len(experiment.source_names())
    then = (
        f"evaluate {', '.join(experiment.heads)} on {experiment.episodes} {experiment.split} "
        f"episodes of each of {sources} source{'s' if sources != 1 else ''} ({where})"
    )
    has_gpu = experiment.device != "cpu" and Path("/dev/nvidia0").exists()
    if has_gpu or experiment.device == "cuda":
        return f"{first}, then {then}. On the GPU; the bars tell how long once they move."
    cores = os.cpu_count() or 1
    minutes = minutes_on_cpu(experiment, cores)
    if minutes is None:
        return f"{first}, then {then}. Nobody knows how long; the bars tell once they move."
    duration = f"{minutes / 60:.0f} hours" if minutes > 180 else f"{max(1, round(minutes))} min"
    return f"{first}, then {then}. About {duration} on {cores} CPU cores, unless already done."


def _class_sizes(experiment: "Experiment", source: str, split: Split) -> tuple[int, ...]:
    """Images per class; nothing for a source that is not there, which is reported later."""
    if experiment.records is None and source in TABLE:
        return tuple(one.images for one in TABLE[source].classes[split])
    try:
        return find_spec(experiment.records or "", source).images_in_split(split)
    except InputError:
        return ()
