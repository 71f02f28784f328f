"""Before a search: what networks of a space cost, and which limits can be met at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chipfit.spaces.influence import Table, exact_influence, sampled_influence

Codes = NDArray[np.int64]
Evaluate = Callable[[Codes], Mapping[str, NDArray[np.float64]]]
"""Costs (n,) by name of codes (n, d), vectorised."""

SAMPLE = 100_000
ENUMERATED = 1 << 20


@dataclass(frozen=True, slots=True)
class CostRange:
    """What a cost is over a space. `exact` says that `minimum` is that of all networks, not of a sample."""

    baseline: float
    minimum: float
    median: float
    maximum: float
    cheapest: tuple[int, ...]
    exact: bool


@dataclass(frozen=True, slots=True)
class Preflight:
    """A space and the limits on it: `shares` of networks that meet each limit, and `share` that meet all at once.

    `influence` is for every cost the share of its variance that each decision explains by itself, `known` the costs
    whose shares are those of all networks, not of a sample. `feasible` is a code that meets all limits, or None where
    none was found; `nearest` then comes closest, and `excess` is how far it is above each limit that it breaks, as a
    fraction of the limit.
    """

    size: int
    sampled: int
    ranges: Mapping[str, CostRange]
    shares: Mapping[str, float]
    share: float
    feasible: tuple[int, ...] | None
    nearest: tuple[int, ...]
    excess: Mapping[str, float]
    influence: Mapping[str, tuple[float, ...]]
    known: frozenset[str]

    def recoded(self, code: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Preflight:
        """The same with every code written as `code` says."""
        ranges = {name: replace(item, cheapest=code(item.cheapest)) for name, item in self.ranges.items()}
        feasible = None if self.feasible is None else code(self.feasible)
        return replace(self, ranges=ranges, feasible=feasible, nearest=code(self.nearest))


def violation(costs: Mapping[str, NDArray[np.float64]], limits: Mapping[str, float]) -> NDArray[np.float64]:
    """How far codes are above their limits, (n,): the sum of excesses as fractions of each limit, 0 where all hold."""
    total = np.zeros(len(next(iter(costs.values()))))
    for name, limit in limits.items():
        total += np.maximum(costs[name] / limit - 1.0, 0.0)
    return total


def preflight(
    cardinalities: Sequence[int],
    evaluate: Evaluate,
    limits: Mapping[str, float],
    generator: np.random.Generator,
    cheapest: Mapping[str, Codes] | None = None,
    tables: Mapping[str, Sequence[Table]] | None = None,
) -> Preflight:
    """Costs and limits over a space, from all codes where there are few, else from a sample.

    `cheapest` gives for some costs a code that is known to be the exact minimum, `tables` those that add up to it.
    Where a sample meets not all limits, the best of it are improved decision by decision, so that a small feasible
    part is found if it can be reached.
    """
    codes, complete = _codes(cardinalities, generator)
    exact = cheapest or {}
    known = np.array(list(exact.values()), dtype=np.int64).reshape(len(exact), len(cardinalities))
    everything = np.concatenate([np.zeros((1, len(cardinalities)), np.int64), known, codes])
    costs = evaluate(everything)
    first = 1 + len(known)
    ranges = {
        name: CostRange(
            float(values[0]),
            float(values.min()),
            float(np.median(values[first:])),
            float(values.max()),
            tuple(int(option) for option in everything[values.argmin()]),
            complete or name in exact,
        )
        for name, values in costs.items()
    }
    excess = violation(costs, limits)
    best = everything[excess.argmin()]
    if excess.min() > 0 and not complete:
        starts = everything[np.argsort(excess, kind="stable")[:32]]
        best = min((_descend(start, cardinalities, evaluate, limits) for start in starts), key=lambda pair: pair[1])[0]
    at_best = evaluate(best[None])
    summed = tables or {}
    influence = {
        name: exact_influence(summed[name], len(cardinalities))
        if name in summed
        else sampled_influence(codes, values[first:], cardinalities, complete)
        for name, values in costs.items()
    }
    left = {name: float(at_best[name][0] / limit - 1.0) for name, limit in limits.items() if at_best[name][0] > limit}
    return Preflight(
        math.prod(cardinalities),
        len(codes),
        ranges,
        {name: float((costs[name][first:] <= limit).mean()) for name, limit in limits.items()},
        float((excess[first:] == 0).mean()),
        None if left else tuple(int(option) for option in best),
        tuple(int(option) for option in best),
        left,
        {name: tuple(shares.tolist()) for name, shares in influence.items()},
        frozenset(costs) if complete else frozenset(summed),
    )


def _codes(cardinalities: Sequence[int], generator: np.random.Generator) -> tuple[Codes, bool]:
    """All codes where there are at most `ENUMERATED`, else a uniform sample; and whether they are all."""
    size = math.prod(cardinalities)
    if size <= ENUMERATED:
        grid = np.indices(tuple(cardinalities), dtype=np.int64).reshape(len(cardinalities), size)
        return np.ascontiguousarray(grid.T), True
    return generator.integers(0, np.asarray(cardinalities), size=(SAMPLE, len(cardinalities))), False


def _descend(
    code: Codes, cardinalities: Sequence[int], evaluate: Evaluate, limits: Mapping[str, float]
) -> tuple[Codes, float]:
    """Changes one decision at a time to what lowers the violation most, until nothing does."""
    excess = float(violation(evaluate(code[None]), limits)[0])
    while excess > 0:
        neighbours = np.repeat(code[None], sum(cardinalities), axis=0)
        row = 0
        for decision, count in enumerate(cardinalities):
            neighbours[row : row + count, decision] = np.arange(count)
            row += count
        found = violation(evaluate(neighbours), limits)
        if found.min() >= excess:
            break
        code, excess = neighbours[found.argmin()], float(found.min())
    return code, excess
