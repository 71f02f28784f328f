"""Arithmetic on tables is arithmetic under every code."""

import copy
import itertools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipfit.graph import values as v
from chipfit.graph.ops import Conv2d
from chipfit.graph.values import CANDIDATE, Choice, Decision, TableTooLarge, Value, bind, choose

LENGTHS = {"a": 2, "b": 3, "c": 2}
CODES = [dict(zip(LENGTHS, code, strict=True)) for code in itertools.product(*(range(n) for n in LENGTHS.values()))]


@st.composite
def values(draw: st.DrawFn, low: int = -6, high: int = 6, boolean: bool = False) -> Value:
    names = sorted(draw(st.sets(st.sampled_from(list(LENGTHS)))))
    number = st.booleans() if boolean else st.integers(low, high)
    shape = [LENGTHS[name] for name in names]
    drawn = draw(st.lists(number, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    return v.table(tuple(names), np.array(drawn).reshape(shape))


def plain(value: Value) -> bool:
    return type(value) in (bool, int, float)


ARITHMETIC = [
    operator.add,
    operator.sub,
    operator.mul,
    v.maximum,
    v.minimum,
    v.equal,
    operator.le,
    operator.gt,
]
DIVISIONS = [operator.floordiv, operator.truediv, operator.mod, v.ceil_div]


def check(function, arguments) -> None:
    """The function of tables, under a code, is the function of the numbers under that code."""
    result = function(*arguments)
    for code in CODES:
        expected = function(*(bind(argument, code) for argument in arguments))
        assert bind(result, code) == expected
        assert plain(bind(result, code))
    if isinstance(result, Choice):
        for axis in range(result.values.ndim):
            assert (result.values != result.values.take([0], axis=axis)).any(), "a constant axis is left"
        assert result.decisions == tuple(sorted(result.decisions))
    else:
        assert plain(result)


@settings(max_examples=50)
@given(values(), values())
def test_arithmetic_is_arithmetic_under_every_code(a: Value, b: Value) -> None:
    for function in ARITHMETIC:
        check(function, (a, b))


@settings(max_examples=50)
@given(values(), values(low=1))
def test_division_is_division_under_every_code(a: Value, b: Value) -> None:
    for function in DIVISIONS:
        check(function, (a, b))
    check(v.floor, (a / b,))
    check(operator.neg, (a,))


@settings(max_examples=50)
@given(values(boolean=True), values(boolean=True), values(), values())
def test_logic_is_logic_under_every_code(p: Value, q: Value, a: Value, b: Value) -> None:
    check(v.both, (p, q))
    check(v.either, (p, q))
    check(v.negate, (p,))
    check(v.where, (p, a, b))
    assert v.always(p) == all(bind(p, code) for code in CODES)
    assert v.never(p) == (not any(bind(p, code) for code in CODES))
    found = [bind(a, code) for code in CODES]
    assert v.bounds(a) == (min(found), max(found))


@settings(max_examples=50)
@given(values(), values())
def test_equality_is_of_whole_tables_and_agrees_with_hashes(a: Value, b: Value) -> None:
    same = all(bind(a, code) == bind(b, code) for code in CODES)
    assert (a == b) == same
    assert (a != b) != same
    assert copy.deepcopy(a) == a
    if same:
        assert hash(a) == hash(b)
    if isinstance(a, Choice):
        as_float = Choice(a.decisions, a.values.astype(float))
        assert as_float == a
        assert hash(as_float) == hash(a)


@settings(max_examples=50)
@given(values(), st.lists(st.sampled_from(CODES), min_size=1, max_size=9))
def test_along_codes_equals_binding_each(value: Value, codes: list[dict[str, int]]) -> None:
    columns = {name: np.array([code[name] for code in codes]) for name in LENGTHS}
    result = v.along(value, columns)
    for number, code in enumerate(codes):
        assert bind(result, {CANDIDATE: number}) == bind(value, code)


@settings(max_examples=50)
@given(values(), st.sampled_from(CODES), st.sampled_from(sorted(LENGTHS)))
def test_binding_one_decision_at_a_time_is_binding_all(value: Value, code: dict[str, int], first: str) -> None:
    once = bind(value, {first: code[first]})
    assert not isinstance(once, Choice) or first not in once.decisions
    assert bind(once, code) == bind(value, code)


def test_choices_are_found_and_changed_wherever_they_stand() -> None:
    width = choose(Decision("w", (0, 1)), (8, 16))
    kernel = choose(Decision("k", (0, 1)), (3, 5))
    op = Conv2d(width, (kernel, 3), groups=width)
    assert sorted(map(hash, v.choices_in(((op,), 3)))) == sorted(map(hash, (width, kernel, width)))
    bound = v.map_choices(op, lambda choice: bind(choice, {"w": 1, "k": 0}))
    assert bound == Conv2d(16, (3, 3), groups=16)
    assert v.map_choices(bound, lambda choice: 0) is bound
    assert v.map_choices((1, (2, bound)), lambda choice: 0) == (1, (2, bound))


def test_too_large_a_table_is_refused() -> None:
    factors = [choose(Decision(f"d{i}", tuple(range(64))), tuple(range(64))) for i in range(4)]
    three = factors[0] + factors[1] + factors[2]
    assert isinstance(three, Choice)
    with pytest.raises(TableTooLarge, match="d0, d1, d2, d3"):
        three + factors[3]


def test_a_choice_is_a_value() -> None:
    width = choose(Decision("w", (0, 1)), (8, 16))
    assert isinstance(width, Choice)
    with pytest.raises(AttributeError, match="does not change"):
        width.values = np.zeros(2)
    with pytest.raises(ValueError, match="read-only"):
        width.values[0] = 3
    with pytest.raises(TypeError, match="no single truth"):
        bool(width)
    with pytest.raises(ValueError, match="sorted names"):
        Choice(("b", "a"), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="2 options, not 3"):
        choose(Decision("w", (0, 1)), (1, 2, 3))
    with pytest.raises(ValueError, match="at least one option"):
        Decision("w", ())


@settings(max_examples=50)
@given(values())
def test_axes_may_be_given_in_any_order(value: Value) -> None:
    if isinstance(value, Choice):
        names = tuple(reversed(value.decisions))
        assert v.table(names, value.values.transpose()) == value
