"""Training of backbones."""

from fewshot.training.supervised import Recipe, train

__all__ = ["Recipe", "train"]
