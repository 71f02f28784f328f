"""Evolutionary search over integer codes: NSGA-II and regularised evolution."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.search.algorithm import Codes, Domain
from chipfit.search.history import History
from chipfit.search.pareto import constrained_ranks, crowding_distance
from chipfit.search.proposals import Proposals, mutate

_POOL_PER_CODE, _MOST_SPARE = 4, 64
_CROSSOVER_SHARE = 0.9
_MUTATED_SHARE = 0.5


def uniform_crossover(first: Codes, second: Codes, generator: np.random.Generator) -> Codes:
    """Each decision from either parent with equal chance: (n, d), (n, d) -> (n, d)."""
    return np.where(generator.integers(0, 2, first.shape, dtype=np.bool_), first, second)


def select(objectives: NDArray[np.float64], violation: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Indices of the count best of n points, best first: by rank, then crowding distance, then age.

    objectives (n, m), violation (n,). Source: Deb et al. 2002, section III-C.
    """
    ranks = constrained_ranks(objectives, violation)
    return np.lexsort((-crowding_distance(objectives, ranks), ranks))[:count]


def _pool(count: int) -> int:
    """So many fresh codes are drawn for count of them, to choose from by their free objectives."""
    return min(_POOL_PER_CODE * count, count + _MOST_SPARE)


class NSGA2:
    """NSGA-II (Deb et al. 2002) with constraint domination, for asks and tells of any size.

    The population is the best of itself and of everything told since the last ask; asking one code at a
    time is the steady-state variant. Raises InvalidInput for a population below 2.
    """

    def __init__(self, domain: Domain, seed: int, population: int = 64) -> None:
        if population < 2:
            raise InvalidInput(f"population of {population}: NSGA-II needs at least 2")
        self._generator = np.random.default_rng(seed)
        self._proposals = Proposals(domain, self._generator)
        self._capacity = population
        self._population: list[int] = []
        self._stale = False
        self._parents: Codes = np.empty((0, len(domain.cardinalities)), dtype=np.int64)

    def ask(self, n: int) -> Codes:
        """At most n fresh codes, see `Algorithm.ask`: first a diverse sample, then offspring."""
        self._renew()
        if self._proposals.seen < self._capacity or not len(self._parents):
            return self._proposals.initial(n)
        return self._proposals.draw(
            n, self._offspring, pool=_pool(n), anchors=self._proposals.pending[-self._capacity :]
        )

    def tell(self, codes: Codes, objectives: NDArray[np.float64], violation: NDArray[np.float64] | None = None) -> None:
        """Values of codes, see `Algorithm.tell`."""
        told = self._proposals.tell(codes, objectives, violation)
        self._population = list(dict.fromkeys(self._population + told))
        self._stale = True

    def _renew(self) -> None:
        if not self._stale:
            return
        history = self._proposals.history
        alive = history.succeeded(self._population)
        best = select(history.objectives(alive), history.violation(alive), self._capacity)
        self._population = [alive[index] for index in best]
        self._parents = history.codes(self._population)
        self._stale = False

    def _offspring(self, count: int) -> Codes:
        # `select` sorts best first, so the smaller index wins a binary tournament by rank and crowding.
        entrants = self._generator.integers(0, len(self._parents), (2, count, 2))
        first, second = self._parents[entrants.min(axis=2)]
        chance = self._generator.random((2, count))
        children = np.where(chance[:1].T < _CROSSOVER_SHARE, uniform_crossover(first, second, self._generator), first)
        # What equals a parent is known already; of the others, most good ones come of crossover alone.
        mutated = (chance[1] < _MUTATED_SHARE) | (children == first).all(axis=1) | (children == second).all(axis=1)
        children[mutated] = mutate(children[mutated], self._proposals.domain.cardinalities, 0.0, self._generator)
        return children


class RegularizedEvolution:
    """Regularised (aging) evolution (Real et al. 2019, algorithm 1): the oldest dies, whatever its merit.

    The population is the latest codes that did not fail. A parent is the winner of a tournament among
    `sample` of them, a child differs from it in one decision. In a tournament a feasible code beats an
    infeasible one and a smaller violation a larger one. Among feasible ones the smallest augmented
    Chebyshev value wins (Knowles 2006, section III, ParEGO), of objectives scaled to the range of the
    population's feasible codes, with weights drawn anew from the simplex for each tournament: the winner is
    never dominated in its tournament, and parents come from all along the front. With one objective this is
    the smallest.
    Raises InvalidInput unless 1 <= sample <= population.
    """

    def __init__(self, domain: Domain, seed: int, population: int = 64, sample: int = 16) -> None:
        if not 1 <= sample <= population:
            raise InvalidInput(
                f"tournaments of {sample} in a population of {population}: "
                "the sample must be between 1 and the population"
            )
        self._generator = np.random.default_rng(seed)
        self._proposals = Proposals(domain, self._generator)
        self._capacity = population
        self._sample = sample
        self._population: list[int] = []

    def ask(self, n: int) -> Codes:
        """At most n fresh codes, see `Algorithm.ask`: first a diverse sample, then mutated winners."""
        proposals = self._proposals
        self._population = proposals.history.succeeded(self._population)[-self._capacity :]
        if proposals.seen < self._capacity or not self._population:
            return proposals.initial(n)
        codes = proposals.history.codes(self._population)
        objectives, violation = _scaled(proposals.history, self._population)

        def offspring(count: int) -> Codes:
            parents = codes[self._tournaments(objectives, violation, count)]
            return mutate(parents, proposals.domain.cardinalities, 0.0, self._generator)

        return proposals.draw(n, offspring, pool=_pool(n), anchors=proposals.pending[-self._capacity :])

    def tell(self, codes: Codes, objectives: NDArray[np.float64], violation: NDArray[np.float64] | None = None) -> None:
        """Values of codes, see `Algorithm.tell`."""
        told = self._proposals.tell(codes, objectives, violation)
        self._population = list(dict.fromkeys(self._population + told))

    def _tournaments(
        self, objectives: NDArray[np.float64], violation: NDArray[np.float64], count: int
    ) -> NDArray[np.int64]:
        entrants = self._generator.integers(0, len(objectives), (count, self._sample))
        weights = self._generator.dirichlet(np.ones(objectives.shape[1]), (count, 1))
        weighted = weights * objectives[entrants]
        scalarised = weighted.max(axis=2) + 0.05 * weighted.sum(axis=2)
        excess = violation[entrants]
        best = np.lexsort((scalarised, excess), axis=1)[:, 0]
        return entrants[np.arange(count), best]


def _scaled(history: History, population: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    objectives, violation = history.objectives(population), history.violation(population)
    reference = objectives[violation <= 0] if (violation <= 0).any() else objectives
    low = reference.min(axis=0)
    extent = reference.max(axis=0) - low
    return (objectives - low) / np.where(extent > 0, extent, 1.0), violation
