"""The code that minimises one sum of small tables within limits on others, exact or with a rigorous bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput, LimitImpossible
from chipfit.search.algorithm import Codes
from chipfit.search.exact import Minimum, Table, total
from chipfit.search.front import rounding_unit, undominated
from chipfit.search.trellis import MAX_LAYER_ENTRIES, Trellis, trellis

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Limit = tuple[Sequence[Table], float]
"""Tables and what their sum must not exceed."""

MAX_PARTIAL = 2**16
"""Most partial codes that are carried along by default."""

_FIRST_WIDTH, _GROWTH = 64, 8
_CUTS, _SWEEPS = 24, 3
_ROUNDING = 1e-9


def cheapest(
    costs: Sequence[Table],
    limits: Sequence[Limit],
    cardinalities: Sequence[int],
    max_partial: int = MAX_PARTIAL,
    max_layer_entries: int = MAX_LAYER_ENTRIES,
) -> Minimum:
    """The smallest sum of costs over all codes whose sums of tables do not exceed their bounds.

    A Lagrangian relaxation of the limits gives lower bounds for every partial code (Handler and Zang 1980), and label
    setting over the trellis of the tables the code: partial codes are dropped that another one dominates in cost and
    all limits, that can no longer meet a limit, or whose bound is no less than a code found. Where more than
    max_partial are left those of the lowest bounds stay; the result is then exact only if none that was dropped could
    be better. A sum may exceed its bound by rounding (1e-9 of the largest sum). Raises InvalidInput for tables that do
    not fit and where more decisions meet than max_layer_entries allows, LimitImpossible where no code within the limits
    was found; the message says whether there is none.
    """
    if max_partial < 1 or not np.isfinite([bound for _, bound in limits]).all():
        raise InvalidInput("give finite bounds of limits, and room for at least one partial code")
    paths = trellis([costs, *(tables for tables, _ in limits)], cardinalities, max_layer_entries)
    problem = _Problem.of(paths, np.array([bound for _, bound in limits], dtype=np.float64))
    multipliers, best = problem.relaxed()
    width, bound = min(_FIRST_WIDTH, max_partial), -np.inf
    while True:
        best, bound = problem.labelled(multipliers, best, width)
        if bound >= problem.value(best) or width == max_partial:
            break
        width = min(_GROWTH * width, max_partial)
    if best is None:
        raise LimitImpossible(_nothing_found(problem, proven=bound == np.inf))
    value, exact = float(total(costs, best[None])[0]), bound >= problem.value(best)
    return Minimum(value=value, code=best, exact=exact, bound=value if exact else min(value, bound))


def _nothing_found(problem: _Problem, proven: bool) -> str:
    for number, (least, bound) in enumerate(zip(problem.least[1:], problem.bounds, strict=True)):
        if least > bound + problem.slack[number]:
            return f"no code meets limit {number}: its sum is at least {least:.6g}, the bound {bound:.6g}; raise it"
    if proven:
        return "no code meets all limits at once, though each alone can be met; raise one of them"
    return "found no code that meets all limits at once, and could not prove that there is none; raise a limit"


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """Column 0 is the cost, the others have bounds (l,), which may be exceeded by the slack (l,).

    rest[t] (s, m) is what each state before layer t adds at least, column by column; sums (m,) are the same within
    the unit.
    """

    paths: Trellis
    bounds: Floats
    slack: Floats
    unit: Floats
    rest: tuple[Floats, ...]

    @staticmethod
    def of(paths: Trellis, bounds: Floats) -> _Problem:
        rest, most = [np.zeros((1, paths.columns))], np.zeros((1, paths.columns))
        for layer in reversed(paths.layers):
            rest.append((layer.values + rest[-1][layer.following]).min(axis=1))
            most = (np.abs(layer.values) + most[layer.following]).max(axis=1)
        slack = _ROUNDING * np.maximum(most[0, 1:], np.abs(bounds))
        return _Problem(paths, bounds, slack, rounding_unit(most[0]), tuple(reversed(rest)))

    @property
    def least(self) -> Floats:
        """The least of each column over all codes."""
        return self.rest[0][0] + self.paths.constant

    def value(self, code: Codes | None) -> float:
        """The cost of a code, infinite for none."""
        return np.inf if code is None else float(self.sums(code)[0])

    def sums(self, code: Codes) -> Floats:
        """All columns (m,) of one code."""
        result, state = self.paths.constant.copy(), 0
        for layer in self.paths.layers:
            option = code[layer.decision]
            result += layer.values[state, option]
            state = int(layer.following[state, option])
        return result

    def to_come(self, weights: Floats) -> list[Floats]:
        """By layer, the least weighted sum from each state to the end."""
        rest = [np.zeros(1)]
        for layer in reversed(self.paths.layers):
            rest.append((layer.values @ weights + rest[-1][layer.following]).min(axis=1))
        return rest[::-1]

    def dual(self, multipliers: Floats) -> tuple[float, Codes, Floats]:
        """A lower bound of the cost within the limits, the code that attains it, and its excess (l,) of each limit."""
        weights = np.concatenate([[1.0], multipliers])
        rest = self.to_come(weights)
        code, state = np.zeros(self.paths.decisions, dtype=np.int64), 0
        for layer, after in zip(self.paths.layers, rest[1:], strict=True):
            option = int((layer.values[state] @ weights + after[layer.following[state]]).argmin())
            code[layer.decision], state = option, int(layer.following[state, option])
        bound = float(rest[0][0] + weights @ self.paths.constant - multipliers @ (self.bounds + self.slack))
        return bound, code, self.sums(code)[1:] - self.bounds

    def relaxed(self) -> tuple[Floats, Codes | None]:
        """Multipliers (l,) of the limits that bound the cost well, and the cheapest code within the limits on the way.

        The dual is concave: along each multiplier in turn, the sign of the excess says on which side its top is.
        """
        multipliers = np.zeros(len(self.bounds))
        best: Codes | None = None
        for _ in range(_SWEEPS if len(self.bounds) > 1 else 1):
            for number in range(len(self.bounds)):
                low, high = 0.0, np.inf
                trial = multipliers.copy()
                for _ in range(_CUTS):
                    _, code, excess = self.dual(trial)
                    if (excess <= self.slack).all() and self.value(code) < self.value(best):
                        best = code
                    if excess[number] > self.slack[number]:
                        low = trial[number]
                    else:
                        high = trial[number]
                    if high == 0.0:
                        break
                    trial[number] = self._first_multiplier(number, low) if np.isinf(high) else (low + high) / 2
                multipliers[number] = trial[number]
        return multipliers, best

    def _first_multiplier(self, number: int, low: float) -> float:
        extent = self.slack[number] / _ROUNDING
        return 4.0 * low if low > 0 else (float(np.abs(self.least[0])) + 1e-300) / extent if extent > 0 else 1.0

    def labelled(self, multipliers: Floats, best: Codes | None, width: int) -> tuple[Codes | None, float]:
        """The best code by label setting with so many labels at most, and a bound that no code is below.

        The bound is infinite where it is proven that no code meets the limits.
        """
        weights = np.concatenate([[1.0], multipliers])
        to_come, offset = self.to_come(weights), float(multipliers @ (self.bounds + self.slack))
        known, dropped = self.value(best), np.inf
        values, states = self.paths.constant[None], np.zeros(1, dtype=np.int64)
        steps: list[tuple[Ints, Ints]] = []
        for layer, after, rest in zip(self.paths.layers, to_come[1:], self.rest[1:], strict=True):
            options = layer.values.shape[1]
            values = (values[:, None] + layer.values[states]).reshape(-1, self.paths.columns)
            states = layer.following[states].reshape(-1)
            least = values + rest[states]
            lower = np.maximum(least[:, 0], values @ weights + after[states] - offset)
            kept = np.flatnonzero((least[:, 1:] <= self.bounds + self.slack).all(axis=1) & (lower < known))
            kept = kept[undominated(np.rint(values[kept] / self.unit), states[kept], layer.states_after)]
            if len(kept) > width:
                split = np.argpartition(lower[kept], width)
                dropped = min(dropped, float(lower[kept[split[width:]]].min()))
                kept = kept[split[:width]]
            values, states = values[kept], states[kept]
            steps.append((kept // options, kept % options))
        if len(values):
            best = self._traced(int(values[:, 0].argmin()), steps)
        return best, min(self.value(best), dropped)

    def _traced(self, row: int, steps: Sequence[tuple[Ints, Ints]]) -> Codes:
        code = np.empty(self.paths.decisions, dtype=np.int64)
        for layer, (parents, chosen) in zip(reversed(self.paths.layers), reversed(steps), strict=True):
            code[layer.decision], row = chosen[row], int(parents[row])
        return code
