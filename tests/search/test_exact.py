import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipfit.errors import InvalidInput
from chipfit.search.exact import Table, extremes, minimum, total


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Table], list[int]]:
    cardinalities = draw(st.lists(st.integers(1, 3), min_size=0, max_size=6))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    tables: list[Table] = []
    for _ in range(draw(st.integers(0, 7))):
        axes = tuple(draw(st.permutations(range(len(cardinalities))))[: draw(st.integers(0, 3))])
        # Integers make every order of summation give the same value, so equality can be exact.
        values = generator.integers(-9, 10, [cardinalities[axis] for axis in axes]).astype(np.float64)
        tables.append(Table(axes, np.asarray(values)))
    return tables, cardinalities


def everything(cardinalities: list[int]) -> np.ndarray:
    codes = list(itertools.product(*map(range, cardinalities)))
    return np.array(codes, dtype=np.int64).reshape(len(codes), len(cardinalities))


@given(problems())
def test_the_minimum_is_that_of_brute_force(problem: tuple[list[Table], list[int]]) -> None:
    tables, cardinalities = problem
    found = minimum(tables, cardinalities)
    assert found.exact
    assert found.value == found.bound == total(tables, everything(cardinalities)).min()
    assert total(tables, found.code[None])[0] == found.value


@given(problems())
def test_extremes_enclose_every_code(problem: tuple[list[Table], list[int]]) -> None:
    tables, cardinalities = problem
    lowest, highest = extremes(tables, cardinalities)
    values = total(tables, everything(cardinalities))
    assert (lowest.value, highest.value) == (values.min(), values.max())
    assert total(tables, highest.code[None])[0] == highest.value


@given(problems(), st.integers(1, 9))
def test_with_small_tables_the_bound_and_the_code_enclose_the_minimum(
    problem: tuple[list[Table], list[int]], max_table_entries: int
) -> None:
    tables, cardinalities = problem
    found = minimum(tables, cardinalities, max_table_entries)
    true = total(tables, everything(cardinalities)).min()
    assert found.bound <= true <= found.value
    assert total(tables, found.code[None])[0] == found.value
    assert not found.exact or found.value == true
    _, highest = extremes(tables, cardinalities, max_table_entries)
    assert highest.bound >= total(tables, everything(cardinalities)).max() >= highest.value


def test_a_dense_problem_is_bounded_and_says_that_it_is_not_exact() -> None:
    generator = np.random.default_rng(0)
    pairs = [Table(pair, generator.random((3, 3))) for pair in itertools.combinations(range(9), 2)]
    bounded, true = minimum(pairs, [3] * 9, max_table_entries=81), minimum(pairs, [3] * 9)
    assert true.exact
    assert not bounded.exact
    assert bounded.bound < true.value <= bounded.value < true.value * 1.2


def test_a_long_chain_of_decisions_is_exact_and_quick() -> None:
    generator = np.random.default_rng(0)
    chain = [Table((i, i + 1, i + 2), generator.random((4, 4, 4))) for i in range(98)]
    found = minimum(chain, [4] * 100)
    assert found.exact
    for position in range(100):
        neighbours = np.repeat(found.code[None], 4, axis=0)
        neighbours[:, position] = range(4)
        assert (total(chain, neighbours) >= found.value - 1e-9).all()


@given(problems())
def test_totals_of_a_batch_equal_those_one_by_one(problem: tuple[list[Table], list[int]]) -> None:
    tables, cardinalities = problem
    codes = everything(cardinalities)[:20]
    naive = [sum(float(t.values[tuple(code[list(t.axes)])]) for t in tables) for code in codes]
    assert total(tables, codes).tolist() == naive


@pytest.mark.parametrize(
    ("axes", "values"),
    [((0, 0), np.zeros((2, 2))), ((0,), np.zeros((2, 2))), ((0,), np.array([0.0, np.inf]))],
)
def test_a_table_that_contradicts_itself_is_refused(axes: tuple[int, ...], values: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        Table(axes, values)


@pytest.mark.parametrize("table", [Table((0,), np.zeros(3)), Table((2,), np.zeros(2)), Table((-1,), np.zeros(2))])
def test_a_table_that_does_not_fit_the_decisions_is_refused(table: Table) -> None:
    with pytest.raises(InvalidInput):
        minimum([table], [2, 2])
