import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.search import AbsoluteTarget, Codes, Domain, FreeCosts, RandomSearch, Reinforce, Weighted

DECISIONS, OPTIONS = 16, 5


class Additive:
    """Latency is free and rises with the options; error is paid for and falls with them, by other amounts."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self._latency = np.sort(generator.random((DECISIONS, OPTIONS)), axis=1)
        self._error = np.sort(generator.random((DECISIONS, OPTIONS)), axis=1)[:, ::-1]
        self.least = float((self._latency + self._error).min(axis=1).sum())
        self.domain = Domain(
            (OPTIONS,) * DECISIONS, free=lambda codes: FreeCosts(self.both(codes)[:, :1], np.zeros(len(codes)))
        )

    def both(self, codes: Codes) -> np.ndarray:
        rows = np.arange(DECISIONS)
        return np.stack([self._latency[rows, codes].sum(axis=1), self._error[rows, codes].sum(axis=1)], axis=1)


def summed(objectives: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return -objectives.sum(axis=1)


def run(algorithm: Reinforce | RandomSearch, problem: Additive, asks: int) -> np.ndarray:
    told = []
    for _ in range(asks):
        codes = algorithm.ask(10)
        told.append(problem.both(codes))
        algorithm.tell(codes, told[-1])
    return np.concatenate(told)


@pytest.mark.parametrize("free", [True, False])
def test_it_comes_nearer_to_the_least_sum_than_random_search(free: bool) -> None:
    left = []
    for seed in range(4):
        problem = Additive(seed)
        domain = problem.domain if free else Domain(problem.domain.cardinalities)
        learned = run(Reinforce(domain, seed, summed), problem, 30).sum(axis=1).min() - problem.least
        drawn = run(RandomSearch(domain, seed), problem, 30).sum(axis=1).min() - problem.least
        left.append(learned / drawn)
    assert max(left) < 1.0
    assert np.median(left) < 0.5


@pytest.mark.parametrize("target", [5.0, 8.0, 11.0])
def test_a_target_is_landed_on_from_either_side(target: float) -> None:
    """Error pulls the latency up everywhere, the strength holds it down: it must come to rest at the target."""
    problem = Additive(0)
    told = run(Reinforce(problem.domain, 0, AbsoluteTarget(target, strength=60.0)), problem, 150)
    assert np.median(told[-300:, 0]) == pytest.approx(target, rel=0.05)


def test_the_policy_prefers_what_is_within_the_limits() -> None:
    def free(codes: Codes) -> FreeCosts:
        return FreeCosts(np.empty((len(codes), 0)), np.maximum(codes.sum(axis=1) - 12.0, 0.0))

    search = Reinforce(Domain((4,) * 10), 0)
    for _ in range(40):
        codes = search.ask(10)
        search.tell(codes, np.zeros((10, 1)), free(codes).violation)
    expected = sum(float(p @ np.arange(4)) for p in search.probabilities)
    assert expected < 12.5


def test_probabilities_are_distributions_over_the_options() -> None:
    search = Reinforce(Domain((3, 1, 5)), 0)
    search.tell(np.array([[1, 0, 2], [2, 0, 4]]), np.array([[1.0], [np.nan]]))
    search.ask(1)
    assert [len(each) for each in search.probabilities] == [3, 1, 5]
    assert all(each.sum() == pytest.approx(1.0) and (each > 0).all() for each in search.probabilities)


def test_an_option_that_is_always_better_takes_over() -> None:
    search = Reinforce(Domain((2,) * 12), 0)
    for _ in range(20):
        codes = search.ask(10)
        search.tell(codes, (1.0 - codes[:, :1]) + 0.01 * codes[:, 1:2])
    assert search.probabilities[0][1] > 0.9


def test_weights_count_spreads_and_targets_count_distances() -> None:
    objectives = np.array([[4.0, 1.0], [2.0, 3.0]])
    assert Weighted((1.0, 2.0))(objectives, np.array([2.0, 1.0])).tolist() == [-4.0, -7.0]
    assert Weighted()(objectives, np.array([2.0, 1.0])).tolist() == [-3.0, -4.0]
    assert AbsoluteTarget(2.0, 0.5)(objectives, np.ones(2)).tolist() == [-1.5, -3.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: AbsoluteTarget(0.0),
        lambda: AbsoluteTarget(1.0, 0.0),
        lambda: Reinforce(Domain((2,)), 0, learning_rate=0.0),
        lambda: Reinforce(Domain((2,)), 0, start=0),
        lambda: Weighted((1.0,))(np.zeros((1, 2)), np.ones(2)),
    ],
)
def test_settings_that_make_no_sense_are_refused(make) -> None:
    with pytest.raises(InvalidInput):
        make()
