"""The surrogate predicts, says how surely, and finds out which hints to believe."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from chipfit.accuracy.surrogate import MOST_LEARNED, fit
from chipfit.errors import InvalidInput
from chipfit.search import Domain
from chipfit.search.features import Describe, Features

DOMAIN = Domain((4,) * 8)
WEIGHTS = np.random.default_rng(1).normal(size=(8, 4))


def drawn(seed: int, count: int, hint: str | None = None) -> tuple[Features, NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 4, (count, 8))
    values = WEIGHTS[np.arange(8), codes].sum(axis=1)
    hints = {"true": -values, "noise": generator.normal(size=count)}
    known = Describe(DOMAIN, None, codes)(codes)
    column = hints[hint][:, None] if hint else np.zeros((count, 0))
    return Features(known.options, (column - column.mean(axis=0)) / (column.std(axis=0) if hint else 1.0)), values


def correlation(hint: str | None, count: int) -> float:
    features, values = drawn(2, count + 300, hint)
    rows = np.arange(count + 300)
    mean, _ = fit(features.at(rows[:count]), values[:count])(features.at(rows[count:]))
    return float(np.corrcoef(mean, values[count:])[0, 1])


def test_more_networks_teach_more() -> None:
    assert correlation(None, 10) < correlation(None, 40) < correlation(None, 160)
    assert correlation(None, 160) > 0.97


def test_a_hint_is_believed_when_it_helps_only() -> None:
    assert correlation("true", 12) > 0.95 > correlation(None, 12) + 0.2
    assert correlation("noise", 100) > correlation(None, 100) - 0.05


def test_the_spread_covers_the_truth() -> None:
    features, values = drawn(3, 360)
    rows = np.arange(360)
    mean, spread = fit(features.at(rows[:60]), values[:60])(features.at(rows[60:]))
    covered = np.abs(mean - values[60:]) < 2 * spread
    assert 0.85 < covered.mean() <= 1.0
    at_known, sure = fit(features.at(rows[:60]), values[:60])(features.at(rows[:60]))
    np.testing.assert_allclose(at_known, values[:60], atol=0.5)
    assert np.median(sure) < np.median(spread)


def test_units_do_not_matter() -> None:
    features, values = drawn(4, 50)
    mean, spread = fit(features, values)(features)
    far, wide = fit(features, 1e-3 * values + 70.0)(features)
    np.testing.assert_allclose(far, 1e-3 * mean + 70.0, rtol=1e-9)
    np.testing.assert_allclose(wide, 1e-3 * spread, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_or_constant_values_give_finite_predictions(count: int) -> None:
    features, values = drawn(5, count, "true" if count > 1 else None)
    for given in (values, np.zeros(count)):
        mean, spread = fit(features, given)(features)
        assert np.isfinite(mean).all()
        assert (spread > 0).all()


def test_two_thousand_networks_take_no_longer_than_the_most_that_are_learned() -> None:
    features, values = drawn(6, 2000)
    few = np.arange(MOST_LEARNED)

    def seconds(rows: NDArray[np.int64]) -> float:
        begin = time.process_time()
        fit(features.at(rows), values[rows])(features.at(few))
        return time.process_time() - begin

    assert min(seconds(np.arange(2000)) for _ in range(3)) < 3 * min(seconds(few) for _ in range(3))
    mean, _ = fit(features, values)(features)
    assert np.corrcoef(mean, values)[0, 1] > 0.98


def test_what_is_not_finite_is_refused() -> None:
    features, values = drawn(7, 4)
    with pytest.raises(InvalidInput, match="finite value"):
        fit(features, np.append(values[:3], np.nan))
    with pytest.raises(InvalidInput, match="finite value"):
        fit(features, values[:3])
    with pytest.raises(InvalidInput, match="not finite"):
        fit(Features(features.options, np.full((4, 1), np.nan)), values)
