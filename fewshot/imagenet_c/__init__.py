"""Robustness to common corruptions: ImageNet-C, as released or made in memory.

Source: Hendrycks & Dietterich, *Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations*, ICLR 2019.
"""
