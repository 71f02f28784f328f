import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from chipfit.accuracy.agreement import FEWEST, agreement
from chipfit.errors import InvalidInput

seeds = st.integers(0, 2**32 - 1)


def pairs(seed: int, count: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    accuracies = generator.random(count)
    return accuracies + noise * generator.standard_normal(count), accuracies


@given(seeds, st.integers(FEWEST, 60))
def test_correlations_are_scipys_and_lie_in_the_interval_of_what_is_not_extreme(seed: int, count: int) -> None:
    scores, accuracies = pairs(seed, count, 0.3)
    scores = scores.round(1)
    found = agreement(scores, accuracies, resamples=50)
    if not found.known:
        assert np.ptp(scores) == 0
        return
    assert found.spearman == pytest.approx(spearmanr(scores, accuracies).statistic)
    assert found.kendall == pytest.approx(kendalltau(scores, accuracies).statistic)
    assert found.low is not None
    assert found.high is not None
    assert -1 <= found.low <= found.high <= 1


@given(seeds)
def test_only_ranks_count(seed: int) -> None:
    scores, accuracies = pairs(seed, 20, 0.2)
    assert agreement(np.exp(3 * scores), accuracies, resamples=20) == agreement(scores, accuracies, resamples=20)


def test_a_score_that_ranks_is_trusted_and_one_that_does_not_is_refuted() -> None:
    good = agreement(*pairs(0, 40, 0.1))
    assert (good.trusted, good.refuted) == (True, False)
    noise = agreement(*pairs(0, 40, 100.0))
    assert (noise.trusted, noise.refuted) == (False, True)
    turned = agreement(-pairs(0, 40, 0.1)[0], pairs(0, 40, 0.1)[1])
    assert turned.refuted
    assert turned.spearman is not None
    assert turned.spearman < 0


def test_intervals_narrow_as_networks_come() -> None:
    widths = []
    for count in (10, 40, 160):
        found = agreement(*pairs(1, count, 0.3))
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths[0] > widths[1] > widths[2]


@pytest.mark.parametrize(
    ("scores", "accuracies"),
    [
        (np.arange(FEWEST - 1.0), np.arange(FEWEST - 1.0)),
        (np.zeros(20), np.arange(20.0)),
        (np.arange(20.0), np.ones(20)),
        (np.full(20, np.nan), np.arange(20.0)),
        (np.array([]), np.array([])),
    ],
)
def test_too_little_is_not_known_rather_than_refuted(scores: np.ndarray, accuracies: np.ndarray) -> None:
    found = agreement(scores, accuracies)
    assert (found.known, found.trusted, found.refuted) == (False, False, False)
    assert found.spearman is found.kendall is found.low is found.high is None


def test_failed_scores_are_counted_and_take_no_part() -> None:
    scores, accuracies = pairs(3, 30, 0.2)
    holes = scores.copy()
    holes[::3] = np.nan
    has = ~np.isnan(holes)
    found, alone = agreement(holes, accuracies), agreement(scores[has], accuracies[has])
    assert (found.failed, found.networks) == (10, 20)
    assert (found.spearman, found.low) == (alone.spearman, alone.low)


def test_the_seed_decides_the_interval() -> None:
    scores, accuracies = pairs(4, 30, 0.3)
    assert agreement(scores, accuracies, seed=1) == agreement(scores, accuracies, seed=1)
    assert agreement(scores, accuracies, seed=1) != agreement(scores, accuracies, seed=2)


@pytest.mark.parametrize(
    ("scores", "accuracies"),
    [
        (np.arange(3.0), np.arange(4.0)),
        (np.zeros((3, 1)), np.zeros((3, 1))),
        (np.array([np.inf] * 8), np.arange(8.0)),
        (np.arange(8.0), np.full(8, np.nan)),
    ],
)
def test_what_does_not_fit_is_refused(scores: np.ndarray, accuracies: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        agreement(scores, accuracies)
