"""Training of backbones: one loop, a recipe, and an objective per method."""
