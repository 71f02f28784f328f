import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.search.sums import chain, everything, random_sum

from chipfit.errors import InvalidInput, LimitImpossible
from chipfit.search.constrained import Limit, cheapest
from chipfit.search.exact import Minimum, Table, minimum, total

Problem = tuple[list[Table], list[Limit], list[int]]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    cardinalities = draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    limits: list[Limit] = [
        (random_sum(cardinalities, generator), float(draw(st.integers(-20, 15))))
        for _ in range(draw(st.integers(0, 3)))
    ]
    return random_sum(cardinalities, generator), limits, cardinalities


def within(limits: list[Limit], codes: np.ndarray) -> np.ndarray:
    allowed = np.ones(len(codes), dtype=bool)
    for tables, bound in limits:
        allowed &= total(tables, codes) <= bound
    return allowed


@given(problems())
def test_the_cheapest_code_within_the_limits_is_that_of_brute_force(problem: Problem) -> None:
    costs, limits, cardinalities = problem
    codes = everything(cardinalities)
    allowed = within(limits, codes)
    if not allowed.any():
        with pytest.raises(LimitImpossible, match="no code meets"):
            cheapest(costs, limits, cardinalities)
        return
    found = cheapest(costs, limits, cardinalities)
    assert found.exact
    assert found.value == found.bound == total(costs, codes)[allowed].min()
    assert within(limits, found.code[None]).all()
    assert total(costs, found.code[None])[0] == found.value


def _cheapest(costs: list[Table], limits: list[Limit], cardinalities: list[int], max_partial: int) -> Minimum | str:
    try:
        return cheapest(costs, limits, cardinalities, max_partial)
    except LimitImpossible as error:
        return str(error)


@given(problems(), st.integers(1, 3))
def test_with_little_room_the_bound_and_the_code_enclose_the_cheapest(problem: Problem, max_partial: int) -> None:
    costs, limits, cardinalities = problem
    codes = everything(cardinalities)
    allowed = within(limits, codes)
    found = _cheapest(costs, limits, cardinalities, max_partial)
    if isinstance(found, str):
        assert "could not prove" in found or not allowed.any()
        return
    true = total(costs, codes)[allowed].min()
    assert found.bound <= true + 1e-6
    assert found.value >= true
    assert not found.exact or found.value == true
    assert within(limits, found.code[None]).all()


@given(problems())
def test_without_limits_it_is_the_minimum(problem: Problem) -> None:
    costs, _, cardinalities = problem
    assert cheapest(costs, [], cardinalities).value == minimum(costs, cardinalities).value


@pytest.mark.parametrize("seed", range(3))
def test_a_space_of_1e30_is_solved_exactly(seed: int) -> None:
    generator = np.random.default_rng(seed)
    costs, *others = (chain(50, 4, 2, generator) for _ in range(3))
    limits: list[Limit] = [(tables, 0.4 * 49) for tables in others]
    found = cheapest(costs, limits, [4] * 50)
    assert found.exact
    assert within(limits, found.code[None]).all()
    assert minimum(costs, [4] * 50).value < found.value
    for position in range(50):
        neighbours = np.repeat(found.code[None], 4, axis=0)
        neighbours[:, position] = range(4)
        allowed = within(limits, neighbours)
        assert (total(costs, neighbours)[allowed] >= found.value - 1e-9).all()


def test_a_limit_met_by_a_hair_is_met() -> None:
    """The bound is the sum of the very code, added up in another order."""
    generator = np.random.default_rng(0)
    costs, tables = chain(40, 4, 1, generator), chain(40, 4, 1, generator)
    least = minimum(tables, [4] * 40)
    bound = float(sum(table.values[least.code[table.axes[0]]] for table in reversed(tables)))
    found = cheapest(costs, [(tables, bound)], [4] * 40)
    assert found.exact
    assert found.code.tolist() == least.code.tolist()


def test_the_limit_that_cannot_be_met_is_named() -> None:
    table = Table((0,), np.array([1.0, 2.0]))
    with pytest.raises(LimitImpossible, match="limit 1: its sum is at least 1"):
        cheapest([table], [([table], 5.0), ([table], 0.5)], [2])


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidInput):
        cheapest([], [([], np.inf)], [2])
    with pytest.raises(InvalidInput):
        cheapest([], [], [2], max_partial=0)
