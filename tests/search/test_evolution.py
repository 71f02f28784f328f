"""Laws of RandomSearch, NSGA2 and RegularizedEvolution on a made-up problem whose costs are sums of tables."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.search import (
    NSGA2,
    Algorithm,
    Codes,
    Domain,
    FreeCosts,
    RandomSearch,
    RegularizedEvolution,
    constrained_ranks,
    hypervolume,
)
from chipfit.search.evolution import select

Floats = NDArray[np.float64]
Make = Callable[[Domain, int], Algorithm]

DECISIONS, OPTIONS = 16, 5
EVOLUTION: dict[str, Make] = {
    "nsga2": lambda domain, seed: NSGA2(domain, seed, population=40),
    "regularized": lambda domain, seed: RegularizedEvolution(domain, seed, population=40, sample=8),
}
ALGORITHMS: dict[str, Make] = {"random": RandomSearch, **EVOLUTION}


class Additive:
    """Latency is free, rises with the options; error is paid for, falls with them, by other amounts."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self._latency = np.sort(generator.random((DECISIONS, OPTIONS)), axis=1)
        self._error = np.sort(generator.random((DECISIONS, OPTIONS)), axis=1)[:, ::-1]
        self.domain = Domain(
            (OPTIONS,) * DECISIONS,
            free=lambda codes: FreeCosts(self.latency(codes)[:, None], np.zeros(len(codes))),
        )

    def latency(self, codes: Codes) -> Floats:
        return self._latency[np.arange(DECISIONS), codes].sum(axis=1)

    def error(self, codes: Codes) -> Floats:
        return self._error[np.arange(DECISIONS), codes].sum(axis=1)

    def both(self, codes: Codes) -> Floats:
        return np.stack([self.latency(codes), self.error(codes)], axis=1)


def front_volume(make: Make, seed: int, budget: int = 300, batch: int = 20) -> float:
    problem = Additive(seed)
    algorithm = make(problem.domain, seed)
    told: list[Floats] = []
    for _ in range(budget // batch):
        codes = algorithm.ask(batch)
        assert len(codes) == batch
        told.append(problem.both(codes))
        algorithm.tell(codes, told[-1])
    return hypervolume(np.concatenate(told), np.full(2, float(DECISIONS)))


def fastest_within_error(make: Make, seed: int, budget: int = 200, batch: int = 10) -> float:
    """The error enters as a limit alone, so that latency is the only objective."""
    problem = Additive(seed)
    algorithm = make(problem.domain, seed)
    best = np.inf
    for _ in range(budget // batch):
        codes = algorithm.ask(batch)
        latency, excess = problem.latency(codes), np.maximum(problem.error(codes) - 6.5, 0.0)
        assert (latency < best).all()
        algorithm.tell(codes, latency[:, None], excess)
        best = min(best, *latency[excess <= 0], np.inf)
    return best


@pytest.mark.parametrize("name", EVOLUTION)
def test_evolution_finds_a_better_front_than_random_search_with_the_same_budget(name: str) -> None:
    for seed in range(4):
        assert front_volume(EVOLUTION[name], seed) > front_volume(RandomSearch, seed)


@pytest.mark.parametrize("name", EVOLUTION)
def test_evolution_finds_faster_networks_within_a_paid_limit_than_random_search(name: str) -> None:
    evolved = [fastest_within_error(EVOLUTION[name], seed) for seed in range(4)]
    drawn = [fastest_within_error(RandomSearch, seed) for seed in range(4)]
    assert np.isfinite(evolved).all()
    assert np.median(evolved) < np.median(drawn)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_telling_at_once_or_one_by_one_makes_no_difference(name: str) -> None:
    problem = Additive(0)
    whole, parts = (ALGORITHMS[name](problem.domain, 1) for _ in range(2))
    for size in (10, 50, 30, 7, 30):
        codes = whole.ask(size)
        assert (parts.ask(size) == codes).all()
        whole.tell(codes, problem.both(codes))
        for code in codes:
            parts.tell(code[None], problem.both(code[None]))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_resumed_run_equals_the_uninterrupted_one(name: str) -> None:
    problem = Additive(0)
    algorithm = ALGORITHMS[name](problem.domain, 1)
    journal: list[Codes] = []
    for _ in range(6):
        journal.append(algorithm.ask(20))
        algorithm.tell(journal[-1], problem.both(journal[-1]))
    resumed = ALGORITHMS[name](problem.domain, 1)
    for codes in journal:
        resumed.ask(20)
        resumed.tell(codes, problem.both(codes))
    assert (resumed.ask(20) == algorithm.ask(20)).all()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_nothing_is_left_to_ask_once_the_best_of_free_objectives_is_feasible(name: str) -> None:
    problem = Additive(0)
    algorithm = ALGORITHMS[name](problem.domain, 0)
    fastest = np.zeros((1, DECISIONS), dtype=np.int64)
    algorithm.tell(fastest, problem.latency(fastest)[:, None])
    assert len(algorithm.ask(5)) == 0


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_code_in_the_shadow_is_asked_where_an_objective_is_paid_for(name: str) -> None:
    problem = Additive(0)
    algorithm = ALGORITHMS[name](problem.domain, 0)
    fastest = np.zeros((1, DECISIONS), dtype=np.int64)
    algorithm.tell(fastest, problem.both(fastest))
    assert len(algorithm.ask(5)) == 5


@pytest.mark.parametrize("name", EVOLUTION)
def test_evolution_leaves_an_infeasible_region(name: str) -> None:
    """Nothing in the first sample meets the limit that is paid for; violation alone must lead to it."""
    hidden = np.random.default_rng(0).integers(0, OPTIONS, DECISIONS)
    algorithm = EVOLUTION[name](Domain((OPTIONS,) * DECISIONS), 0)
    excess: list[Floats] = []
    for _ in range(20):
        codes = algorithm.ask(20)
        excess.append(np.maximum((codes != hidden).sum(axis=1) - DECISIONS / 4, 0.0))
        algorithm.tell(codes, np.zeros((20, 1)), excess[-1])
    assert np.concatenate(excess[:2]).min() > 0
    assert np.concatenate(excess).min() == 0


def test_selection_takes_whole_ranks_first_then_the_ends_of_the_cut_one() -> None:
    generator = np.random.default_rng(0)
    objectives = generator.random((60, 2))
    violation = np.maximum(generator.random(60) - 0.7, 0.0)
    ranks = constrained_ranks(objectives, violation)
    for count in (1, 10, 30, 60):
        chosen = select(objectives, violation, count)
        assert len(set(chosen)) == count
        assert ranks[chosen].max() == np.sort(ranks)[count - 1]
        assert (ranks[chosen] == np.sort(ranks)[:count]).all()
    cut = np.flatnonzero(ranks == 0)
    ends = {int(cut[objectives[cut, 0].argmin()]), int(cut[objectives[cut, 1].argmin()])}
    assert set(select(objectives, violation, 2).tolist()) == ends


@pytest.mark.parametrize("name", EVOLUTION)
def test_a_failed_code_that_is_told_again_may_become_a_parent(name: str) -> None:
    problem = Additive(0)
    algorithm = EVOLUTION[name](problem.domain, 0)
    codes = algorithm.ask(40)
    failed = np.full((40, 2), np.nan)
    algorithm.tell(codes, failed)
    algorithm.tell(codes[:1], problem.both(codes[:1]))
    if name == "regularized":
        assert ((algorithm.ask(5) != codes[0]).sum(axis=1) == 1).all()
    else:
        assert ((algorithm.ask(5) != codes[0]).sum(axis=1) < DECISIONS / 2).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda domain: NSGA2(domain, 0, population=1),
        lambda domain: RegularizedEvolution(domain, 0, population=4, sample=5),
        lambda domain: RegularizedEvolution(domain, 0, population=4, sample=0),
    ],
)
def test_sizes_that_make_no_sense_are_refused(make: Callable[[Domain], Algorithm]) -> None:
    with pytest.raises(InvalidInput):
        make(Domain((2,)))
