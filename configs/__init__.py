"""Experiments: one YAML file each. A package, so that installed copies find their files."""
