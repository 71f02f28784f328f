"""The fastest set of changes, where each has a price that it must save."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chipfit.estimate.estimator import Estimator, SpaceCosts
from chipfit.expert.changes import Changes
from chipfit.graph.graph import Graph
from chipfit.graph.rewrite import restrict
from chipfit.search.exact import Table, minimum

ROUNDING = 1e-9
"""Share of a latency that is no difference."""

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]


class Sets:
    """All sets of changes that are no sacrifices, ready to be searched at several prices."""

    def __init__(self, estimator: Estimator, changes: Changes, prepared: SpaceCosts) -> None:
        self.changes = changes
        self.options = [[0] for _ in changes.space.decisions]
        for change in changes.known:
            if not change.sacrifice:
                self.options[change.decision].append(change.option)
        tables = prepared.tables
        if tables is None:
            # Without sacrifices tables are small enough on more chips.
            prepared = estimator.prepare(restricted(changes, self.options))
            found = None if prepared.tables is None else prepared.tables.tables("latency_s")
        else:
            found = [(axes, self._kept(axes, values)) for axes, values in tables.tables("latency_s")]
        self.prepared = prepared
        self.tables = None if found is None else [Table(axes, values) for axes, values in found]

    def _kept(self, axes: Sequence[int], values: Floats) -> Floats:
        return values[np.ix_(*(self.options[axis] for axis in axes))] if axes else values

    def fastest(self, prices_s: Sequence[float]) -> tuple[int, ...]:
        """The code of the set with the lowest latency, where each of the known changes costs its price as well: exact
        where there are tables, else one that no single change improves."""
        paid = [np.zeros(len(kept)) for kept in self.options]
        for change, price in zip(self.changes.known, prices_s, strict=True):
            if not change.sacrifice:
                paid[change.decision][self.options[change.decision].index(change.option)] = price
        if self.tables is None:
            code = _walked(self.prepared, paid)
        else:
            tables = [Table((place,), price) for place, price in enumerate(paid)]
            code = minimum([*tables, *self.tables], [len(kept) for kept in self.options]).code
        return tuple(int(kept[option]) for kept, option in zip(self.options, code, strict=True))


def restricted(changes: Changes, options: Sequence[Sequence[int]]) -> Graph:
    """The space of changes with some options of every decision, given by index, 0 first."""
    names = (decision.name for decision in changes.space.decisions)
    return restrict(changes.space, dict(zip(names, options, strict=True)))


def _walked(prepared: SpaceCosts, prices: Sequence[Floats]) -> Codes:
    """A set that no single change improves, for spaces without tables, where many sets at a time cost little more.

    All single changes are tried; then those that improve are made together, as many of them, the best first, as pay.
    """

    def cost(codes: Codes) -> Floats:
        paid = [price[codes[:, place]] for place, price in enumerate(prices)]
        return prepared.latency_s(codes) + np.sum(paid, axis=0)

    code = np.zeros(len(prices), np.int64)
    lowest = float(cost(code[None])[0])
    while True:
        moves = [(place, o) for place, price in enumerate(prices) for o in range(len(price)) if o != code[place]]
        tried = np.repeat(code[None], len(moves), axis=0)
        for row, (place, option) in zip(tried, moves, strict=True):
            row[place] = option
        found = cost(tried) if moves else np.zeros(0)
        best: dict[int, int] = {}
        for index in np.argsort(found, kind="stable"):
            if found[index] < lowest * (1 - ROUNDING):
                best.setdefault(*moves[index])
        if not best:
            return code
        together = np.repeat(code[None], len(best), axis=0)
        for row, (place, option) in enumerate(best.items()):
            together[row:, place] = option
        sums = cost(together)
        code, lowest = together[int(sums.argmin())], float(sums.min())
