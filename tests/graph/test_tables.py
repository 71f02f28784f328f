"""Merged tables give what the values give one by one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipfit.graph import tables, values
from chipfit.graph.tables import TableMax, TableSum
from chipfit.graph.values import Decision, TableTooLarge, Value, bind, choose, table

DECISIONS = tuple(Decision(name, tuple(range(size))) for name, size in (("d", 3), ("b", 2), ("c", 2), ("a", 4)))
"""In another order than that of their names, which is the order of the axes of values."""
CODES = np.array(list(itertools.product(*(range(len(decision)) for decision in DECISIONS))))


def chosen(code: np.ndarray) -> dict[str, int]:
    return {decision.name: int(option) for decision, option in zip(DECISIONS, code, strict=True)}


@st.composite
def numbers(draw: st.DrawFn) -> Value:
    """A value over some decisions with real numbers, or a plain number."""
    axes = sorted(draw(st.sets(st.sampled_from(DECISIONS), max_size=3)), key=lambda each: each.name)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.0, 1.0, 1e6]))
    return table(tuple(each.name for each in axes), rng.normal(size=[len(each) for each in axes]) * scale)


def one_by_one(terms: list[tuple[Value, ...]], code: np.ndarray) -> np.ndarray:
    return np.sum([[bind(value, chosen(code)) for value in term] for term in terms], axis=0)


@settings(max_examples=60)
@given(st.integers(1, 6), st.data(), st.sampled_from([1, 6, 24, 1 << 15]))
def test_sums_are_those_of_the_terms_one_by_one(columns: int, data: st.DataObject, limit: int) -> None:
    terms = data.draw(st.lists(st.tuples(*[numbers()] * columns), max_size=7))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "LARGEST_JOINT_TABLE", limit)
        total = TableSum.of(terms, DECISIONS, columns)
    found = total.at(CODES)
    assert found.shape == (len(CODES), columns)
    expected = np.array([one_by_one(terms, code) if terms else np.zeros(columns) for code in CODES])
    largest = np.sum([[max(map(abs, values.bounds(value))) for value in term] for term in terms], axis=0)
    assert (np.abs(found - expected) <= 1e-12 * largest).all()
    for column in range(columns):
        parts = total.tables(column)
        summed = sum((part[tuple(CODES[:, axis] for axis in axes)] for axes, part in parts), np.zeros(len(CODES)))
        np.testing.assert_allclose(summed, expected[:, column], rtol=1e-9, atol=1e-12 * np.max(largest))
        scopes = [set(axes) for axes, _ in parts]
        assert not any(a <= b for a, b in itertools.permutations(scopes, 2)), "a table lies inside another"
        for axes, part in parts:
            assert part.shape == tuple(len(DECISIONS[axis]) for axis in axes)


@settings(max_examples=60)
@given(st.lists(st.lists(numbers(), max_size=4), max_size=6), st.sampled_from([1, 6, 24, 1 << 15]))
def test_maxima_are_those_of_the_steps_one_by_one(steps: list[list[Value]], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "LARGEST_JOINT_TABLE", limit)
        highest = TableMax.of(steps, DECISIONS)
    expected = [
        max((sum(bind(value, chosen(code)) for value in step) for step in steps), default=0.0) for code in CODES
    ]
    np.testing.assert_allclose(highest.at(CODES), expected, rtol=1e-9, atol=1e-6)


def test_fewer_tables_with_the_same_sum() -> None:
    a, b, c = (choose(decision, decision.options) for decision in (DECISIONS[3], DECISIONS[1], DECISIONS[2]))
    terms = [(a * b,), (a,), (b + 1,), (7,), (c,), (0,)]
    total = TableSum.of(terms, DECISIONS)
    assert len(total.tables()) == 2
    assert (total.gathers, total.entries) == (1, 16)
    assert total.at(np.array([[2, 1, 1, 3]]))[0, 0] == 3 + 3 + 2 + 7 + 1


def test_steps_below_another_are_dropped() -> None:
    a, b = (choose(decision, decision.options) for decision in (DECISIONS[3], DECISIONS[1]))
    highest = TableMax.of([[a, 10], [a], [b, 2], [5]], DECISIONS)
    assert (highest.gathers, highest.entries) == (1, 4)
    crossing = TableMax.of([[a], [b * 1.5]], DECISIONS)
    assert crossing.at(np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 2]])).tolist() == [0, 1.5, 2]
    assert TableMax.of([], DECISIONS).at(CODES).tolist() == [0.0] * len(CODES)
    assert TableMax.of([[-3], [-5, 1]], DECISIONS).at(CODES[:2]).tolist() == [-3.0, -3.0]


def test_steps_too_large_to_join_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LARGEST_JOINT_TABLE", 1)
    a, b = (choose(decision, decision.options) for decision in (DECISIONS[3], DECISIONS[1]))
    highest = TableMax.of([[a, b], [3.5]], DECISIONS)
    assert highest.gathers == 3
    assert highest.at(np.array([[0, 1, 0, 3], [0, 0, 0, 3]])).tolist() == [4, 3.5]
    assert TableMax.of([[a, b], [4.5]], DECISIONS).gathers == 1


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("count", [0, 1, 31, 33, tables._CHUNK - 1, tables._CHUNK + 33])
def test_batches_of_any_size_and_type_equal_one_by_one(dtype: type, count: int) -> None:
    rng = np.random.default_rng(0)
    pairs = itertools.combinations(DECISIONS, 2)
    terms = [(choose(p, p.options) * choose(q, q.options), choose(p, p.options)) for p, q in pairs]
    total = TableSum.of(terms, DECISIONS, 2)
    rows = CODES[rng.integers(0, len(CODES), count)].astype(dtype)
    found = total.at(rows)
    assert found.shape == (count, 2)
    single = {tuple(code): total.at(code[None])[0] for code in CODES}
    assert all((found[i] == single[tuple(rows[i])]).all() for i in range(count))
    assert (total.at(np.asfortranarray(rows)) == found).all()
    assert (total.at(rows[::-1]) == found[::-1]).all()


@pytest.mark.parametrize("where", [0, 40, 65])
@pytest.mark.parametrize("option", [-1, 2, 100])
def test_codes_out_of_range_are_refused_wherever_they_stand(where: int, option: int) -> None:
    total = TableSum.of([(choose(DECISIONS[1], (1, 2)),)], DECISIONS)
    codes = np.zeros((66, 4), dtype=np.int64)
    codes[where, 2] = option
    with pytest.raises(ValueError, match="out of the range"):
        total.at(codes)


def test_codes_of_another_shape_or_type_are_refused() -> None:
    total = TableSum.of([(1,)], DECISIONS)
    for wrong in (np.zeros((2, 3), int), np.zeros(4, int), np.zeros((2, 4))):
        with pytest.raises(ValueError, match=r"\(n, 4\) integers"):
            total.at(wrong)


def test_a_closed_graph_has_sums_without_decisions() -> None:
    total = TableSum.of([(2, 3.5), (1, 0)], (), 2)
    assert total.at(np.zeros((3, 0), dtype=int)).tolist() == [[3, 3.5]] * 3
    assert total.tables(1) == [((), np.array(3.5))]


def test_what_cannot_be_tabled_is_refused() -> None:
    many = [Decision(f"d{i}", tuple(range(64))) for i in range(4)]
    pair = [choose(p, p.options) * choose(q, q.options) for p, q in (many[:2], many[2:])]
    with pytest.raises(TableTooLarge, match="d0, d1, d2, d3"):
        TableSum.of([tuple(pair)], many, 2)
    apart = TableSum.of([(pair[0],), (pair[1],)], many)
    assert apart.at(np.array([[1, 2, 3, 4]]))[0, 0] == 14
    with pytest.raises(ValueError, match="2 columns, not 1"):
        TableSum.of([(1, 2)], DECISIONS)


def test_tables_over_many_decisions_together_are_no_hindrance() -> None:
    decisions = [Decision(f"d{number:02}", (0, 1)) for number in range(40)]
    values = [choose(decision, (0, 1)) for decision in decisions]
    halves: list[Value] = [sum(values[start : start + 10], start=0) for start in (0, 10, 20, 30)]  # type: ignore[arg-type]
    ones = np.ones((1, 40), np.int64)
    assert TableMax.of([[halves[0] + halves[1]], [halves[2] + halves[3]]], decisions).at(ones).tolist() == [20.0]
