"""A training without batch norm, run by torchrun in tests: argument 1 is where weights go."""

import sys
from pathlib import Path

import torch
from torch import nn

PROJECT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(PROJECT))

from episodes.loader import LabelledImages  # noqa: E402
from fewshot.backbones import build_backbone  # noqa: E402
from fewshot.checkpoint import save_tensors  # noqa: E402
from fewshot.training.loop import Training, train  # noqa: E402
from fewshot.training.objective import CrossEntropy  # noqa: E402
from fewshot.training.processes import joined  # noqa: E402
from fewshot.training.recipe import Recipe  # noqa: E402
from fewshot.training.snapshots import Snapshots  # noqa: E402
from fewshot.training.supervised import open_lessons  # noqa: E402

RECIPE = Recipe(steps=4, batch_size=16, learning_rate=0.02, augment="crop", ema=0.9, clip=1.0)


def group_norms(module):
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(8, child.num_features))
        group_norms(child)


def main(path, miniature, accumulate):
    torch.set_num_threads(1)
    recipe = Recipe(**RECIPE.__dict__ | {"accumulate": accumulate})
    images = [LabelledImages(miniature, name, "train", 32) for name in ("cu_birds", "dtd")]
    with joined("cpu") as place:
        sizes = [len(one.class_names) for one in images]
        backbone = build_backbone("resnet18", sum(sizes), seed=1)
        group_norms(backbone.network)
        objective = CrossEntropy(backbone, sizes)
        training = Training(objective, open_lessons(images, recipe, place), recipe, place)
        trained = train(training, Snapshots(path.with_suffix(".state")))
        if place.first:
            save_tensors(path, trained.network.state_dict(), {})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
