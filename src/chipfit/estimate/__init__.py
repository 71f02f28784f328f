"""Latency, energy and memory of networks from measurements of single subgraphs: no hardware, no compiler, no run."""

from chipfit.estimate.accumulate import Costs, CostTables
from chipfit.estimate.estimator import Errors, Estimator, LayerCost, Provenance, SpaceCosts, Unsupported
from chipfit.estimate.store import default_estimator, load_estimator, save_estimator

__all__ = [
    "CostTables",
    "Costs",
    "Errors",
    "Estimator",
    "LayerCost",
    "Provenance",
    "SpaceCosts",
    "Unsupported",
    "default_estimator",
    "load_estimator",
    "save_estimator",
]
