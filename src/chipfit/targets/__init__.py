"""Accelerators as data: one TOML file each."""

from chipfit.targets.read import load_target, shipped_targets, variant
from chipfit.targets.target import (
    Board,
    Depthwise,
    Energy,
    Lanes,
    Layout,
    Memory,
    Overhead,
    Precision,
    Runtime,
    Target,
    Tiles,
    Vector,
    Vela,
)

__all__ = [
    "Board",
    "Depthwise",
    "Energy",
    "Lanes",
    "Layout",
    "Memory",
    "Overhead",
    "Precision",
    "Runtime",
    "Target",
    "Tiles",
    "Vector",
    "Vela",
    "load_target",
    "shipped_targets",
    "variant",
]
