import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.search import Domain, FreeCosts, Proposals
from chipfit.search.proposals import ENUMERATED_SIZE, mutate, spread_choice


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def limited(cardinalities: tuple[int, ...], limit: float) -> Domain:
    """The sum of the options is the one free objective and must not exceed the limit."""

    def free(codes: np.ndarray) -> FreeCosts:
        cost = codes.sum(axis=1, dtype=np.float64)
        return FreeCosts(cost[:, None], np.maximum(cost - limit, 0.0))

    return Domain(cardinalities, free=free)


def test_mutation_changes_at_least_one_decision_and_stays_in_range() -> None:
    cardinalities = (1, 2, 5, 3)
    codes = Proposals(Domain(cardinalities), generator()).uniform(2000)
    for rate in (0.0, 0.3, 1.0):
        mutated = mutate(codes, cardinalities, rate, generator())
        changed = (mutated != codes).sum(axis=1)
        assert (mutated >= 0).all()
        assert (mutated < cardinalities).all()
        assert changed.min() >= 1
        assert changed.max() == {0.0: 1, 0.3: 3, 1.0: 3}[rate]
        assert {(old, new) for old, new in zip(codes[:, 2], mutated[:, 2], strict=True)} >= {
            (old, new) for old in range(5) for new in range(5) if old != new
        }


def test_mutation_without_an_open_decision_changes_nothing() -> None:
    codes = np.zeros((3, 2), dtype=np.int64)
    assert (mutate(codes, (1, 1), 1.0, generator()) == codes).all()


def test_the_choice_covers_the_quantiles_whatever_their_scale() -> None:
    points = np.exp(generator().normal(size=(1000, 1)) * 5)
    chosen = spread_choice(points, 9, points[:0], generator())
    quantiles = np.sort(np.searchsorted(np.sort(points[:, 0]), points[chosen, 0])) / 1000
    assert len(set(chosen)) == 9
    assert np.diff([0, *quantiles, 1]).max() <= 0.26


def test_the_choice_keeps_away_from_anchors() -> None:
    points = np.linspace(0, 1, 101)[:, None]
    chosen = spread_choice(points, 1, np.array([[0.0], [0.1], [0.2]]), generator())
    assert points[chosen[0], 0] == 1.0


def test_a_small_space_is_exhausted_exactly() -> None:
    domain = limited((4, 4, 4), 3.0)
    proposals = Proposals(domain, generator())
    drawn = np.concatenate([proposals.draw(7, proposals.uniform, 7) for _ in range(10)])
    assert len(drawn) == len(np.unique(drawn, axis=0)) == 20
    assert drawn.sum(axis=1).max() <= 3


def test_a_tight_limit_in_a_large_space_is_still_met() -> None:
    """About one code in 10^16 meets it: no sample does."""
    domain = limited((6,) * 30, 12.0)
    assert domain.size > ENUMERATED_SIZE
    proposals = Proposals(domain, generator())
    drawn = proposals.draw(20, proposals.uniform, 20)
    assert len(drawn) == 20
    assert drawn.sum(axis=1).max() <= 12


@pytest.mark.parametrize("cardinalities", [(3, 3, 3), (3,) * 20])
def test_where_no_code_meets_the_limits_those_that_violate_them_least_come_first(
    cardinalities: tuple[int, ...],
) -> None:
    proposals = Proposals(limited(cardinalities, -1.0), generator())
    drawn = proposals.draw(4, proposals.uniform, 4)
    assert len(drawn) == 4
    assert drawn.sum(axis=1).max() <= 2


def test_nothing_that_violates_a_limit_is_given_once_a_code_is_known_to_meet_it() -> None:
    proposals = Proposals(limited((3,) * 20, 0.0), generator())
    zero = np.zeros((1, 20), dtype=np.int64)
    proposals.tell(zero, np.array([[0.0, 1.0]]), None)
    assert len(proposals.draw(5, proposals.uniform, 5)) == 0


def test_the_first_codes_cover_the_range_asked_at_once_or_one_by_one() -> None:
    domain = limited((5,) * 20, 60.0)
    at_once, one_by_one = Proposals(domain, generator()), Proposals(domain, generator())
    for codes in (at_once.initial(9), np.concatenate([one_by_one.initial(1) for _ in range(9)])):
        cost = np.sort(codes.sum(axis=1))
        assert not codes[0].any()
        assert len(np.unique(codes, axis=0)) == 9
        assert cost[1] < 25
        assert cost[-1] > 55
        assert np.diff(cost[1:]).max() < 20


def test_the_zero_code_comes_first_unless_it_was_told() -> None:
    proposals = Proposals(Domain((3,) * 5), generator())
    proposals.tell(np.zeros((1, 5), dtype=np.int64), np.zeros((1, 1)), None)
    assert proposals.initial(3).any(axis=1).all()


def test_a_negative_number_of_codes_is_refused() -> None:
    proposals = Proposals(Domain((2,)), generator())
    with pytest.raises(InvalidInput):
        proposals.draw(-1, proposals.uniform, 1)


def test_a_space_without_decisions_has_one_code() -> None:
    proposals = Proposals(Domain(()), generator())
    assert proposals.initial(3).shape == (1, 0)
    assert proposals.initial(3).shape == (0, 0)


def test_what_is_told_is_no_longer_pending_and_counts_once() -> None:
    proposals = Proposals(Domain((3,) * 5), generator())
    codes = proposals.draw(4, proposals.uniform, 4)
    proposals.tell(codes[1:3], np.zeros((2, 1)), None)
    assert (proposals.pending == codes[[0, 3]]).all()
    assert proposals.seen == 4


def test_taking_keeps_the_order_and_leaves_out_what_is_not_fresh() -> None:
    proposals = Proposals(limited((4, 4), 4.0), generator())
    codes = np.array([[3, 3], [1, 0], [0, 2], [1, 0], [2, 2]])
    assert proposals.take(codes, 2).tolist() == [[1, 0], [0, 2]]
    assert proposals.take(codes, 9).tolist() == [[2, 2]]
    assert proposals.seen == 3


def test_the_choice_of_many_is_as_many_and_each_once() -> None:
    points = generator().random((500, 2))
    chosen = spread_choice(points, 300, points[:0], generator())
    assert len(set(chosen.tolist())) == 300
