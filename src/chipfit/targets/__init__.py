"""Accelerators as data: one TOML file each."""

from chipfit.targets.target import (
    Depthwise,
    Energy,
    Lanes,
    Memory,
    Overhead,
    Precision,
    Target,
    Vector,
    load_target,
    shipped_targets,
    variant,
)

__all__ = [
    "Depthwise",
    "Energy",
    "Lanes",
    "Memory",
    "Overhead",
    "Precision",
    "Target",
    "Vector",
    "load_target",
    "shipped_targets",
    "variant",
]
