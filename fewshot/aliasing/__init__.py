"""Measuring aliasing: energy that folds, views under shifts, the gain of filters."""
