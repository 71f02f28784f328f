"""Expected hypervolume improvement is what a hypervolume gains, on average over what is predicted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from chipfit.search.acquisition import expected_improvement, free_boxes
from chipfit.search.pareto import hypervolume

Floats = NDArray[np.float64]


def drawn(seed: int, count: int, objectives: int) -> Floats:
    """Points with ties, some beyond the reference (1, …, 1)."""
    return np.random.default_rng(seed).integers(0, 12, (count, objectives)) / 10.0


@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(1, 4))
@settings(max_examples=60)
def test_known_objectives_gain_exactly_what_the_hypervolume_does(seed: int, count: int, objectives: int) -> None:
    front, candidates = drawn(seed, count, objectives), drawn(seed + 1, 7, objectives)
    reference = np.ones(objectives)
    gains = expected_improvement(front, reference, candidates, np.zeros_like(candidates))
    before = hypervolume(front, reference)
    for gain, candidate in zip(gains, candidates, strict=True):
        after = hypervolume(np.concatenate([front, candidate[None]]), reference)
        assert gain == pytest.approx(after - before, abs=1e-9)


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_predictions_gain_the_mean_over_draws(objectives: int) -> None:
    generator = np.random.default_rng(3)
    front, reference = drawn(5, 6, objectives) + 0.3, np.ones(objectives)
    mean, spread = np.full((1, objectives), 0.4), np.full((1, objectives), 0.2)
    spread[0, :-1] = spread[0, :-1] * (objectives < 3)  # with three, two of them are known
    draws = generator.normal(mean, spread, (4000, objectives))
    before = hypervolume(front, reference)
    gains = [hypervolume(np.concatenate([front, draw[None]]), reference) - before for draw in draws]
    error = np.std(gains) / np.sqrt(len(gains))
    assert expected_improvement(front, reference, mean, spread)[0] == pytest.approx(np.mean(gains), abs=4 * error)


def test_one_objective_is_the_expected_improvement() -> None:
    mean, spread = np.array([[0.2], [0.5], [0.9]]), np.array([[0.1], [0.3], [0.2]])
    z = (0.4 - mean) / spread
    expected = (0.4 - mean) * norm.cdf(z) + spread * norm.pdf(z)
    found = expected_improvement(np.array([[0.4], [0.7]]), np.ones(1), mean, spread)
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-12)


@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(1, 4))
@settings(max_examples=60)
def test_every_point_lies_in_one_free_box_or_is_dominated(seed: int, count: int, objectives: int) -> None:
    front, reference = drawn(seed, count, objectives), np.ones(objectives)
    lower, upper = free_boxes(front, reference)
    for point in np.random.default_rng(seed).random((20, objectives)):
        boxes = int(((point > lower) & (point <= upper)).all(axis=1).sum())
        dominated = bool((front <= point).all(axis=1).any())
        assert boxes == (0 if dominated else 1)
