"""Local search over integer codes: neighbours of the best, restarts where none is better."""

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.search.algorithm import Codes, Domain
from chipfit.search.pareto import constrained_ranks
from chipfit.search.proposals import Proposals


def neighbours(code: Codes, cardinalities: tuple[int, ...]) -> Codes:
    """All codes that differ from one, (d,), in one decision: (n, d)."""
    options = np.asarray(cardinalities, dtype=np.int64)
    decisions = np.repeat(np.arange(len(options)), np.maximum(options - 1, 0))
    steps = np.concatenate([np.zeros(0, np.int64), *(np.arange(1, count) for count in cardinalities)])
    result = np.repeat(code[None], len(decisions), axis=0)
    rows = np.arange(len(decisions))
    result[rows, decisions] = (result[rows, decisions] + steps) % options[decisions]
    return result


class LocalSearch:
    """Evaluates codes that differ in one decision from the best of a descent (White et al. 2021), in random order.

    With several objectives the best are the descent's front, of which those come first whose neighbourhoods are least
    explored (Pareto local search, Paquete et al. 2004). A better code becomes the centre as soon as it is told. Once
    all neighbours of the best were asked, a new descent begins from `start` fresh codes that cover the free objectives.
    Raises InvalidInput for a start below 1.
    """

    def __init__(self, domain: Domain, seed: int, start: int = 10) -> None:
        if start < 1:
            raise InvalidInput(f"descents from {start} codes: local search starts from at least one")
        self._generator = np.random.default_rng(seed)
        self._proposals = Proposals(domain, self._generator)
        self._start = start
        self._left = start
        self._told: list[int] = []
        self._front: list[int] = []
        self._explored: dict[int, int] = {}
        self._exhausted: set[int] = set()

    def ask(self, n: int) -> Codes:
        """At most n fresh codes, see `Algorithm.ask`: the start of a descent, or neighbours of its best."""
        first = self._begin(min(n, self._left))
        asked = [first, *self._around(n - len(first))]
        missing = n - sum(map(len, asked))
        if missing > 0:
            self._front, self._told, self._left = [], [], self._start
            asked.append(self._begin(missing))
        return np.concatenate(asked)

    def tell(self, codes: Codes, objectives: NDArray[np.float64], violation: NDArray[np.float64] | None = None) -> None:
        """Values of codes, see `Algorithm.tell`."""
        self._told += self._proposals.tell(codes, objectives, violation)

    def _begin(self, count: int) -> Codes:
        codes = self._proposals.initial(count)
        self._left = max(0, self._left - len(codes))
        return codes

    def _around(self, count: int) -> list[Codes]:
        """Fresh neighbours of the front's members, in equal parts, until there are count or no more."""
        self._renew()
        asked: list[Codes] = []
        while count > 0 and (centres := [each for each in self._front if each not in self._exhausted]):
            part = -(-count // len(centres))
            for position, (code,) in zip(centres, self._proposals.history.codes(centres)[:, None], strict=True):
                size = min(part, count)
                if size == 0:
                    break
                around = neighbours(code, self._proposals.domain.cardinalities)
                found = self._proposals.take(self._generator.permutation(around), size)
                asked.append(found)
                count -= len(found)
                self._explored[position] = self._explored.get(position, 0) + len(found)
                if len(found) < size:
                    self._exhausted.add(position)
        return asked

    def _renew(self) -> None:
        history = self._proposals.history
        known = history.succeeded(list(dict.fromkeys(self._front + self._told)))
        best = np.flatnonzero(constrained_ranks(history.objectives(known), history.violation(known)) == 0)
        front = [known[index] for index in best]
        self._front = sorted(front, key=lambda position: self._explored.get(position, 0))
        self._told = []
