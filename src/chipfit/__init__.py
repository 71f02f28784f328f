"""Fit neural networks to special-purpose chips."""

__version__ = "0.1.0"
