"""Successive halving: many codes with little training, the better ones with more."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.search.algorithm import Algorithm, Codes, Domain
from chipfit.search.evolution import select
from chipfit.search.history import History, keys

Floats = NDArray[np.float64]

ETA = 3
"""Of each budget's codes one in so many goes on."""


def rungs(highest: int) -> tuple[int, ...]:
    """Whole budgets that ascend to the highest, each about `ETA` times the one before, the lowest 1 or more."""
    below = highest // ETA
    return (*rungs(below), highest) if below else (highest,)


def least(budgets: Sequence[int]) -> int:
    """What takes one code to the highest budget when one in `ETA` goes on; who does is charged what is added."""
    total = 0
    for below, budget in zip((0, *budgets), budgets, strict=False):
        total = ETA * total + budget - below
    return total


def starters(budgets: Sequence[int], total: int) -> int:
    """How many codes can start at the lowest budget so that `total` suffices for those that go on."""
    return total * ETA ** (len(budgets) - 1) // least(budgets)


def trainings(budgets: Sequence[int], total: int, codes: int) -> list[tuple[int, int]]:
    """Fewest and most trainings up to each budget in a search over so many codes: where who is the best once is so to
    the end, and where as many others follow as `total` allows."""
    starting = min(starters(budgets, total), codes)
    found: list[tuple[int, int]] = []
    for rung, (below, budget) in enumerate(zip((0, *budgets), budgets, strict=False)):
        most = min(codes if rung else starting, total // (budget - below))
        total -= most * (budget - below)
        found.append((starting // ETA**rung, most))
    return found


class Halving:
    """Asynchronous successive halving (Li et al. 2020, ASHA) around any algorithm: asks pairs of a code and a budget.

    budgets ascend, in any unit (epochs). A code that is among the best 1/eta of those told at its budget is asked again
    at the next one, before any new code is, unless it was told there already; new codes come from the algorithm, at the
    lowest budget. The algorithm is told the values at the lowest budget only, so that it compares like with like. What
    was told at the highest budget is the result: `finished`.

    A run drives it as it does an algorithm, with budgets beside the codes: it asks, trains each code up to its budget
    (going on from where a smaller one ended), and tells codes, budgets and values. It stops when the sum of budgets is
    spent, or ask gives no rows while nothing is being trained. Deterministic as algorithms are, so that a run is
    resumed by repeating asks and tells.
    Raises InvalidInput for fewer than two budgets, budgets that do not ascend from above 0, and an eta below 2.
    """

    def __init__(self, domain: Domain, algorithm: Algorithm, budgets: Sequence[float], eta: int = ETA) -> None:
        steps = np.asarray(budgets, dtype=np.float64)
        if steps.ndim != 1 or len(steps) < 2 or not steps[0] > 0 or not (np.diff(steps) > 0).all():
            raise InvalidInput(f"budgets {list(budgets)}: give at least two, ascending from above 0")
        if eta < 2:
            raise InvalidInput(f"eta of {eta}: of each budget's codes at most one in 2 can go on; give 2 or more")
        self._domain = domain
        self._algorithm = algorithm
        self._budgets = steps
        self._eta = eta
        self._rungs = [History(domain) for _ in steps]
        self._promoted: list[set[bytes]] = [set() for _ in steps]

    def ask(self, n: int) -> tuple[Codes, Floats]:
        """At most n codes (n, d) and the budget (n,) of each: first those that go on, the highest budgets first."""
        if n < 0:
            raise InvalidInput(f"{n} codes were asked for: the number must not be negative")
        codes, budgets = self._next(n, 0)
        fresh = self._algorithm.ask(n - len(codes))
        return np.concatenate([codes, fresh]), np.concatenate([budgets, np.full(len(fresh), self._budgets[0])])

    def ask_best(self, n: int, kept: int) -> tuple[Codes, Floats]:
        """The same without new codes; the best `kept` of each budget go on even where they are more than one in eta.

        For the end of a search, so that some reach the highest budget where few were told, or most of them failed.
        """
        return self._next(n, kept)

    def tell(self, codes: Codes, budgets: Floats, objectives: Floats, violation: Floats | None = None) -> None:
        """Values of codes (n, d) trained with budgets (n,), as in `Algorithm.tell`.

        Raises InvalidInput for a budget that is none of those given.
        """
        budgets = np.asarray(budgets, dtype=np.float64)
        if budgets.shape != (len(codes),) or not np.isin(budgets, self._budgets).all():
            raise InvalidInput(f"budgets {budgets.tolist()} were told: give one of {self._budgets.tolist()} per code")
        for rung, budget in enumerate(self._budgets):
            chosen = budgets == budget
            if not chosen.any():
                continue
            part = None if violation is None else violation[chosen]
            self._rungs[rung].add(codes[chosen], objectives[chosen], part)
            if rung == 0:
                self._algorithm.tell(codes[chosen], objectives[chosen], part)

    @property
    def finished(self) -> tuple[Codes, Floats, Floats]:
        """Codes (n, d), objectives (n, m) and violation (n,) told at the highest budget, failed ones included."""
        last = self._rungs[-1]
        everything = range(len(last))
        return last.codes(everything), last.objectives(everything), last.violation(everything)

    def _next(self, n: int, kept: int) -> tuple[Codes, Floats]:
        """At most n codes that go on, and the budget of each, the highest budgets first."""
        codes: list[Codes] = []
        budgets: list[Floats] = []
        for rung in reversed(range(len(self._budgets) - 1)):
            going_on = self._going_on(rung, n - sum(map(len, codes)), kept)
            codes.append(going_on)
            budgets.append(np.full(len(going_on), self._budgets[rung + 1]))
        return np.concatenate(codes), np.concatenate(budgets)

    def _going_on(self, rung: int, most: int, kept: int) -> Codes:
        """Codes that have earned the next budget and were not asked with it yet, the best first."""
        history = self._rungs[rung]
        alive = history.succeeded(range(len(history)))
        best = select(history.objectives(alive), history.violation(alive), max(kept, len(history) // self._eta))
        codes = history.codes([alive[index] for index in best])
        names = keys(codes)
        begun = self._promoted[rung], self._rungs[rung + 1]
        taken = [index for index, name in enumerate(names) if not any(name in each for each in begun)][: max(0, most)]
        self._promoted[rung].update(names[index] for index in taken)
        return codes[taken]
