import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.search import Domain, FreeCosts, History
from chipfit.search.history import codes_of, keys

FREE = Domain((3, 3), free=lambda codes: FreeCosts(codes.astype(np.float64), np.zeros(len(codes))))


def codes(*rows: tuple[int, int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(len(rows), 2)


def test_a_code_told_again_keeps_its_position_and_replaces_its_values() -> None:
    history = History(Domain((3, 3)))
    assert history.add(codes((0, 1), (1, 1)), np.array([[1.0], [2.0]]), None) == [0, 1]
    assert history.add(codes((2, 2), (0, 1)), np.array([[np.nan], [5.0]]), np.array([0.0, 3.0])) == [2, 0]
    assert history.objectives([0, 1]).tolist() == [[5.0], [2.0]]
    assert history.violation([0, 1, 2]).tolist() == [3.0, 0.0, 0.0]
    assert history.succeeded([2, 1, 0]) == [1, 0]


def test_only_points_that_a_feasible_free_point_weakly_dominates_are_in_the_shadow() -> None:
    history = History(FREE)
    told = codes((1, 1), (0, 2), (2, 0))
    history.add(told, told.astype(np.float64), np.array([0.0, 1.0, np.nan]))
    shadow = history.dominated_by(np.array([[1.0, 1.0], [2.0, 1.0], [0.0, 2.0], [2.0, 0.0], [0.0, 0.0]]))
    assert (shadow >= 0).tolist() == [True, True, False, False, False]


def test_a_replaced_point_no_longer_casts_a_shadow() -> None:
    history = History(FREE)
    history.add(codes((0, 0)), np.zeros((1, 2)), None)
    history.add(codes((0, 0)), np.zeros((1, 2)), np.array([1.0]))
    assert history.dominated_by(np.ones((1, 2)))[0] == -np.inf


def test_an_objective_that_is_paid_for_casts_no_shadow() -> None:
    history = History(FREE)
    history.add(codes((0, 0)), np.zeros((1, 3)), None)
    assert history.dominated_by(np.ones((1, 2)))[0] == -np.inf


@pytest.mark.parametrize(
    ("objectives", "violation"),
    [
        (np.zeros((1, 1)), None),
        (np.array([[1.0, 0.0]]), None),
        (np.zeros((2, 2)), None),
        (np.array([[0.0, 0.0, np.inf]]), None),
        (np.zeros((1, 2)), np.array([-1.0])),
        (np.zeros((1, 2)), np.zeros((1, 1))),
    ],
    ids=["too few", "not the free ones", "other count", "infinite", "negative", "shape"],
)
def test_values_that_cannot_be_right_are_refused(objectives: np.ndarray, violation: np.ndarray | None) -> None:
    with pytest.raises(InvalidInput):
        History(FREE).add(codes((0, 0)), objectives, violation)


def test_the_number_of_objectives_must_not_change() -> None:
    history = History(Domain((3, 3)))
    history.add(codes((0, 0)), np.zeros((1, 2)), None)
    with pytest.raises(InvalidInput, match="as before"):
        history.add(codes((0, 1)), np.zeros((1, 3)), None)


def test_keys_are_the_codes_and_give_them_back() -> None:
    given = np.random.default_rng(0).integers(0, 9, (20, 3))
    assert (codes_of(keys(given), 3) == given).all()
    assert keys(given)[4] == given[4].tobytes()
    assert len(keys(np.empty((2, 0), np.int64))) == 2


def test_of_a_code_told_twice_at_once_the_later_values_stay() -> None:
    history = History(Domain((3, 3)))
    assert history.add(codes((0, 1), (0, 1)), np.array([[1.0], [2.0]]), None) == [0]
    assert history.objectives([0]).tolist() == [[2.0]]


def test_many_codes_told_in_parts_are_kept_as_they_were() -> None:
    generator = np.random.default_rng(0)
    history = History(Domain((50, 50)))
    told = np.stack(np.divmod(generator.permutation(2500), 50), axis=1)
    for part in np.array_split(told, 37):
        history.add(part, part * 2.0, part[:, 0] * 1.0)
    assert (history.codes(range(2500)) == told).all()
    assert (history.objectives(range(2500)) == told * 2.0).all()
    assert (history.violation(range(2500)) == told[:, 0]).all()
