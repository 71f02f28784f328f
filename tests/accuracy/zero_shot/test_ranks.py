import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from chipfit.accuracy.zero_shot import ensemble
from chipfit.errors import InvalidInput

seeds = st.integers(0, 2**31)


def scores(seed: int, networks: int = 12, count: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((networks, count))


@given(seeds)
def test_only_ranks_count(seed: int) -> None:
    given_scores = scores(seed)
    np.testing.assert_allclose(ensemble(np.exp(given_scores)), ensemble(given_scores))


@given(seeds)
def test_one_score_alone_ranks_as_it_does(seed: int) -> None:
    one = scores(seed, count=1)
    np.testing.assert_array_equal(rankdata(ensemble(one)), rankdata(one[:, 0]))


@given(seeds)
def test_a_network_that_is_better_by_all_scores_is_better(seed: int) -> None:
    given_scores = scores(seed)
    given_scores[0] = given_scores.max(axis=0) + 1
    found = ensemble(given_scores)
    assert found[0] == found.max() == 0


def test_a_single_low_rank_weighs_more_than_a_single_high_one() -> None:
    found = ensemble(np.array([[1.0, 5.0], [3.0, 3.0], [5.0, 1.0], [2.0, 2.0], [4.0, 4.0]]))
    assert found[1] > found[0]


def test_a_network_whose_score_failed_has_none_and_does_not_move_the_others() -> None:
    given_scores = scores(0)
    holes = np.vstack([given_scores, [np.nan, 9.0, 9.0]])
    found = ensemble(holes)
    assert np.isnan(found[-1])
    np.testing.assert_array_equal(found[:-1], ensemble(given_scores))


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((3, 0)), np.array([[np.inf, 1.0]])])
def test_what_is_no_table_of_scores_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        ensemble(wrong)
