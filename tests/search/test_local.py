import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.search import Domain, FreeCosts, LocalSearch, front_mask
from chipfit.search.local import neighbours

DECISIONS, OPTIONS = 6, 4


def test_neighbours_differ_in_one_decision_and_are_all_that_do() -> None:
    cardinalities = (1, 3, 2, 4)
    code = np.array([0, 2, 0, 1])
    found = neighbours(code, cardinalities)
    assert len(np.unique(found, axis=0)) == len(found) == 2 + 1 + 3
    assert ((found != code).sum(axis=1) == 1).all()
    assert (found < np.array(cardinalities)).all()
    assert (found >= 0).all()


def test_a_space_without_choices_has_no_neighbours() -> None:
    assert neighbours(np.zeros(2, np.int64), (1, 1)).shape == (0, 2)
    assert neighbours(np.zeros(0, np.int64), ()).shape == (0, 0)


def separable(codes: np.ndarray) -> np.ndarray:
    """One optimum, which every descent reaches: the code of threes."""
    return (3.0 - codes).sum(axis=1)[:, None]


def test_every_ask_after_the_start_is_next_to_the_best_until_a_descent_ends() -> None:
    search = LocalSearch(Domain((OPTIONS,) * DECISIONS), 0, start=2)
    first = search.ask(2)
    search.tell(first, separable(first))
    best = first[separable(first)[:, 0].argmin()]
    while separable(best[None])[0, 0] > 0:
        (code,) = search.ask(1)
        assert (code != best).sum() == 1
        search.tell(code[None], separable(code[None]))
        if separable(code[None]) < separable(best[None]):
            best = code
    around = search.ask(DECISIONS * (OPTIONS - 1))
    near = (around != best).sum(axis=1) == 1
    assert near.any()
    # Once the whole neighbourhood of the optimum was asked, others are started from.
    assert not near.all()


def test_a_separable_cost_is_solved_within_one_descent() -> None:
    search = LocalSearch(Domain((5,) * 12), 0, start=1)
    best = np.inf
    for _ in range(12 * 12 * 5):
        codes = search.ask(1)
        values = np.abs(codes - 2.0).sum(axis=1)[:, None]
        search.tell(codes, values)
        best = min(best, float(values.min()))
        if best == 0:
            break
    assert best == 0


def test_the_least_explored_of_the_front_is_explored_first() -> None:
    cost = np.arange(5.0)
    domain = Domain((5,) * 8, free=lambda codes: FreeCosts(cost[codes].sum(axis=1)[:, None], np.zeros(len(codes))))
    search = LocalSearch(domain, 0, start=12)
    codes = search.ask(12)
    values = np.stack([cost[codes].sum(axis=1), np.sqrt(4.0 - codes).sum(axis=1)], axis=1)
    search.tell(codes, values)
    front = codes[front_mask(values)]
    asked = search.ask(len(front))
    # One fresh neighbour of each member: a matching exists, as members are taken in turn.
    apart = (asked[:, None] != front[None]).sum(axis=2)
    assert (apart == 1).any(axis=1).all()
    assert (apart == 1).any(axis=0).all()


def test_a_start_of_no_codes_is_refused() -> None:
    with pytest.raises(InvalidInput):
        LocalSearch(Domain((2,)), 0, start=0)
