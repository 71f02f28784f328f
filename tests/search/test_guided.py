"""Guided search finds what a surrogate can learn, sooner than chance, and is not led astray by hints."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from chipfit.accuracy.surrogate import fit
from chipfit.search import Algorithm, Codes, Domain, FreeCosts, RandomSearch, hypervolume
from chipfit.search.features import Features, Hints
from chipfit.search.guided import Guided, Predict, compressed
from chipfit.testing.algorithms import check_algorithm

Floats = NDArray[np.float64]

CARDINALITIES = (4,) * 6
WEIGHTS = np.random.default_rng(7).normal(size=(6, 4))
PAIRS = np.random.default_rng(8).normal(size=(4, 4))


def loss(codes: Codes) -> Floats:
    return WEIGHTS[np.arange(6), codes].sum(axis=1) + PAIRS[codes[:, 0], codes[:, 5]]


ALL = np.indices(CARDINALITIES).reshape(6, -1).T
BEST = float(loss(ALL).min())


def trainings(algorithm: Algorithm, budget: int, batch: int = 1) -> int:
    """How many codes were asked for until the best was among them; more than the budget where it never was."""
    for done in range(0, budget, batch):
        codes = algorithm.ask(batch)
        if (hit := np.flatnonzero(loss(codes) <= BEST)).size:
            return done + int(hit[0]) + 1
        algorithm.tell(codes, loss(codes)[:, None])
    return budget + 1


def nearest(features: Features, values: Floats) -> Predict:
    """A surrogate of few lines: the value of the nearest that is known, the less sure the farther."""

    def predict(asked: Features) -> tuple[Floats, Floats]:
        squared = ((asked.options[:, None] - features.options[None]) ** 2).sum(axis=2)
        return values[squared.argmin(axis=1)], np.sqrt(squared.min(axis=1) + 1e-6)

    return predict


def first_two(codes: Codes) -> Floats:
    return codes[:, :2].astype(np.float64)


def test_it_conforms_with_any_surrogate() -> None:
    check_algorithm(lambda domain, seed: Guided(domain, seed, nearest, first_two))


@pytest.mark.slow
@pytest.mark.parametrize("hints", [None, first_two], ids=["no hints", "hints"])
def test_it_conforms_with_the_surrogate_of_the_house(hints: Hints | None) -> None:
    check_algorithm(lambda domain, seed: Guided(domain, seed, fit, hints))


def test_the_best_of_4096_is_found_within_60_trainings() -> None:
    found = [trainings(Guided(Domain(CARDINALITIES), seed, fit), 60) for seed in range(3)]
    assert max(found) <= 60


def test_a_true_hint_helps_and_a_false_one_is_unlearned() -> None:
    def median(hints: Hints | None) -> float:
        return float(np.median([trainings(Guided(Domain(CARDINALITIES), s, fit, hints), 80) for s in range(3)]))

    def true(codes: Codes) -> Floats:
        return -loss(codes)[:, None]

    assert median(true) <= 2
    assert median(lambda codes: -true(codes)) <= 80


def test_limits_that_are_free_are_never_broken_and_the_front_is_found() -> None:
    def free(codes: Codes) -> FreeCosts:
        cost = codes.sum(axis=1, dtype=np.float64)
        return FreeCosts(cost[:, None], np.maximum(cost - 12.0, 0.0))

    def volume(make: Callable[[Domain, int], Algorithm], seed: int) -> float:
        algorithm = make(Domain(CARDINALITIES, free=free), seed)
        points: list[Floats] = []
        for _ in range(8):
            codes = algorithm.ask(5)
            costs = free(codes)
            assert not costs.violation.any()
            points.append(np.stack([costs.objectives[:, 0], loss(codes)], axis=1))
            algorithm.tell(codes, points[-1])
        return hypervolume(np.concatenate(points), np.array([13.0, float(loss(ALL).max())]))

    guided = [volume(lambda domain, seed: Guided(domain, seed, fit), seed) for seed in range(3)]
    random = [volume(RandomSearch, seed) for seed in range(3)]
    assert min(guided) > max(random)


def test_a_limit_that_is_paid_for_is_learned() -> None:
    """Half of the space breaks a limit, half of it fails: the best of the quarter left is found all the same."""
    allowed = (ALL[:, 1] >= 2) & (ALL[:, 2] >= 2)
    best = loss(ALL[allowed]).min()
    for seed in range(2):
        algorithm = Guided(Domain(CARDINALITIES), seed, fit)
        good: list[float] = []
        for _ in range(10):
            codes = algorithm.ask(5)
            broken, failed = codes[:, 1] < 2, codes[:, 2] < 2
            objectives = np.where(failed, np.nan, loss(codes))[:, None]
            algorithm.tell(codes, objectives, np.where(broken & ~failed, 0.5, 0.0))
            good += loss(codes[~broken & ~failed]).tolist()
        assert min(good) == best


def test_compression_keeps_the_order_and_the_better_half() -> None:
    values = np.array([0.1, 0.2, 0.3, 5.0, 0.9])
    found = compressed(values)
    assert np.array_equal(np.argsort(found), np.argsort(values))
    np.testing.assert_array_equal(found[:3], values[:3])
    assert found[3] < 1.2
    np.testing.assert_array_equal(compressed(np.ones(3)), np.ones(3))


@pytest.mark.parametrize("seed", range(3))
def test_in_a_space_too_large_to_list_it_climbs_to_what_costs_least(seed: int) -> None:
    """The surrogate knows nothing, so that only the free objective says what is worth an evaluation."""
    generator = np.random.default_rng(seed)
    price, least = generator.uniform(0.5, 1.5, 40), generator.integers(0, 2, 40)

    def cost(codes: Codes) -> Floats:
        return np.abs(codes - least) @ price

    domain = Domain((2,) * 40, free=lambda codes: FreeCosts(cost(codes)[:, None], np.zeros(len(codes))))
    search = Guided(domain, seed, nearest)
    known, drawn = generator.integers(0, 2, (8, 40)), generator.integers(0, 2, (20_000, 40))
    search.tell(known, cost(known)[:, None])
    assert cost(search.ask(1))[0] < np.quantile(cost(drawn), 0.001)
