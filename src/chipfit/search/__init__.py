"""Algorithms on integer codes, exact minima and fronts of additive costs, Pareto mathematics."""

from chipfit.search.algorithm import Algorithm, Codes, Domain, FreeCosts
from chipfit.search.constrained import cheapest
from chipfit.search.evolution import NSGA2, RegularizedEvolution
from chipfit.search.exact import Minimum, Table, extremes, minimum, total
from chipfit.search.front import Front, front
from chipfit.search.halving import Halving
from chipfit.search.history import History
from chipfit.search.local import LocalSearch
from chipfit.search.pareto import (
    constrained_ranks,
    crowding_distance,
    dominates,
    front_mask,
    hypervolume,
    ties,
)
from chipfit.search.proposals import Proposals
from chipfit.search.reinforce import AbsoluteTarget, Reinforce, Weighted
from chipfit.search.simple import RandomSearch

__all__ = [
    "NSGA2",
    "AbsoluteTarget",
    "Algorithm",
    "Codes",
    "Domain",
    "FreeCosts",
    "Front",
    "Halving",
    "History",
    "LocalSearch",
    "Minimum",
    "Proposals",
    "RandomSearch",
    "RegularizedEvolution",
    "Reinforce",
    "Table",
    "Weighted",
    "cheapest",
    "constrained_ranks",
    "crowding_distance",
    "dominates",
    "extremes",
    "front",
    "front_mask",
    "hypervolume",
    "minimum",
    "ties",
    "total",
]
