"""Values: numbers that may still depend on open decisions, as small tables with one named axis per decision."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

LARGEST_TABLE = 1 << 22
"""Entries above which arithmetic refuses to build a table; callers then evaluate along given codes."""

CANDIDATE = "candidate"
"""Name of the one decision of a graph that was expanded along given codes."""

Scalar = bool | int | float

_ALL = slice(None)


class TableTooLarge(Exception):
    """A table would exceed `LARGEST_TABLE` entries. Internal: callers evaluate along codes instead."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Something still open in a network. Option 0 is the network as it was given.

    `options` are what a person reads (widths, factors, names); operators hold the values that follow from them.
    """

    name: str
    options: tuple[int | float | str, ...]

    def __post_init__(self) -> None:
        if not self.name or not self.options:
            raise ValueError(f"decision {self.name!r} needs a name and at least one option")

    def __len__(self) -> int:
        return len(self.options)


class Choice(NDArrayOperatorsMixin):
    """A number for every combination of the decisions that it depends on.

    `values` has one axis per name in `decisions` (sorted). Arithmetic and NumPy's element-wise functions broadcast by
    axis name; axes along which a result is constant are dropped, and a result without axes is a plain number.
    `==` compares whole tables and gives a bool, so that operators holding choices can be compared and hashed; for an
    element-wise comparison use `equal`.
    """

    __slots__ = ("decisions", "values")

    decisions: tuple[str, ...]
    values: NDArray[Any]

    def __init__(self, decisions: tuple[str, ...], values: NDArray[Any]) -> None:
        if values.ndim != len(decisions) or (values.ndim > 1 and tuple(sorted(set(decisions))) != decisions):
            raise ValueError(f"a choice needs sorted names, one per axis: {decisions}, {values.shape}")
        values = np.asarray(values)
        values.setflags(write=False)
        object.__setattr__(self, "decisions", decisions)
        object.__setattr__(self, "values", values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a choice does not change")

    def __reduce__(self) -> tuple[Any, ...]:
        return Choice, (self.decisions, self.values)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            return NotImplemented
        names, arrays = _align(inputs)
        if ufunc in _ONE_TO_ONE and sum(type(item) is Choice for item in inputs) == 1 and 0 not in inputs:
            return Choice(names, ufunc(*arrays))
        return table(names, ufunc(*arrays))

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return (
            isinstance(other, Choice)
            and self.decisions == other.decisions
            and self.values.shape == other.values.shape
            and bool((self.values == other.values).all())
        )

    def __ne__(self, other: object) -> bool:  # type: ignore[override]
        return not self == other

    def __hash__(self) -> int:
        return hash((self.decisions, self.values.astype(np.float64).tobytes()))

    def __bool__(self) -> bool:
        raise TypeError("a value that depends on decisions has no single truth; use where() or always()")

    def __repr__(self) -> str:
        return f"Choice({self.decisions}, {self.values.tolist()})"


_ONE_TO_ONE = (np.add, np.subtract, np.multiply, np.negative)
"""With a number that is not 0 they give different results for different values, so that no axis becomes constant."""

Value = bool | int | float | Choice
Shape = tuple[Value, ...]


def _align(inputs: tuple[Any, ...]) -> tuple[tuple[str, ...], list[Any]]:
    """Arrays of `inputs` with one axis per name in the union of their decisions."""
    over = {item.decisions for item in inputs if type(item) is Choice}
    if len(over) == 1:
        return over.pop(), [item.values if type(item) is Choice else item for item in inputs]
    lengths: dict[str, int] = {}
    for item in inputs:
        if isinstance(item, Choice):
            lengths.update(zip(item.decisions, item.values.shape, strict=True))
    names = tuple(sorted(lengths))
    entries = 1
    for length in lengths.values():
        entries *= length
    if entries > LARGEST_TABLE:
        raise TableTooLarge(f"{entries} entries over {', '.join(names)}")
    arrays: list[Any] = []
    for item in inputs:
        if not isinstance(item, Choice):
            arrays.append(item)
        elif item.decisions == names:
            arrays.append(item.values)
        else:
            shape = [lengths[name] if name in item.decisions else 1 for name in names]
            arrays.append(item.values.reshape(shape))
    return names, arrays


def table(decisions: tuple[str, ...], values: NDArray[Any]) -> Value:
    """The value with these axes: sorted by name, constant axes dropped, a plain number when none is left."""
    values = np.asarray(values)
    if len(decisions) == 1:
        entries = values.tolist()
        return Choice(decisions, values) if entries.count(entries[0]) < len(entries) else entries[0]
    if tuple(sorted(decisions)) != decisions:
        order = sorted(range(len(decisions)), key=decisions.__getitem__)
        values, decisions = values.transpose(order), tuple(decisions[i] for i in order)
    kept: list[str] = []
    for name in decisions:
        axis = len(kept)
        first = values[(*[slice(None)] * axis, slice(0, 1))]
        if values.shape[axis] > 1 and bool((values != first).any()):
            kept.append(name)
        else:
            values = first.squeeze(axis)
    return Choice(tuple(kept), values) if kept else values.item()


def choose(decision: Decision, values: tuple[Scalar, ...]) -> Value:
    """The value that takes `values[i]` under option i of `decision`."""
    if len(values) != len(decision):
        raise ValueError(f"{decision.name} has {len(decision)} options, not {len(values)}")
    return table((decision.name,), np.asarray(values))


def equal(a: Value, b: Value) -> Value:
    """Element-wise equality, a bool or a table of bools."""
    if type(a) is Choice or type(b) is Choice:
        return np.equal(a, b)  # type: ignore[return-value]
    return a == b


def maximum(a: Value, b: Value) -> Value:
    """The larger of two values, element-wise."""
    if type(a) is Choice or type(b) is Choice:
        return np.maximum(a, b)  # type: ignore[return-value]
    return max(a, b)


def minimum(a: Value, b: Value) -> Value:
    """The smaller of two values, element-wise."""
    if type(a) is Choice or type(b) is Choice:
        return np.minimum(a, b)  # type: ignore[return-value]
    return min(a, b)


def both(a: Value, b: Value) -> Value:
    """Logical and."""
    if a is True:
        return b
    if b is True:
        return a
    return False if a is False or b is False else np.logical_and(a, b)  # type: ignore[return-value]


def either(a: Value, b: Value) -> Value:
    """Logical or."""
    if a is False:
        return b
    if b is False:
        return a
    return True if a is True or b is True else np.logical_or(a, b)  # type: ignore[return-value]


def negate(a: Value) -> Value:
    """Logical not."""
    return np.logical_not(a) if type(a) is Choice else not a  # type: ignore[return-value]


def where(condition: Value, a: Value, b: Value) -> Value:
    """`a` where the condition holds, else `b`."""
    if type(condition) is not Choice:
        return a if condition else b
    names, (mask, yes, no) = _align((condition, a, b))
    return table(names, np.where(mask, yes, no))


def ceil_div(a: Value, b: Value) -> Value:
    """Quotient of integers, rounded up."""
    return -(-a // b)


def apply(
    function: Callable[..., tuple[NDArray[Any], ...]], rows: Sequence[tuple[Value, ...]]
) -> list[tuple[Value, ...]]:
    """What a function of arrays gives for every row of values, each over all decisions that the row depends on.

    `function` takes as many arrays as a row has values, all of one shape, and gives arrays of that shape. Rows of plain
    numbers are given to it together.
    """
    found: list[tuple[Value, ...]] = [()] * len(rows)
    plain = [place for place, row in enumerate(rows) if Choice not in map(type, row)]
    if plain:
        columns = function(*np.array([rows[place] for place in plain], dtype=np.float64).T)
        for place, result in zip(plain, zip(*(column.tolist() for column in columns), strict=True), strict=True):
            found[place] = result
    for place in sorted(set(range(len(rows))) - set(plain)):
        names, arrays = _align(rows[place])
        found[place] = tuple([table(names, result) for result in function(*np.broadcast_arrays(*arrays))])
    return found


def floor(value: Value) -> Value:
    """The value rounded down, as integers."""
    if isinstance(value, Choice):
        return table(value.decisions, np.floor(value.values).astype(np.int64))
    return int(value // 1)


def always(value: Value) -> bool:
    """Whether a condition holds under every code."""
    return value is True or (value is not False and type(value) is not Choice and bool(value))


def never(value: Value) -> bool:
    """Whether a condition holds under no code."""
    return value is False or (value is not True and type(value) is not Choice and not value)


def bounds(value: Value) -> tuple[float, float]:
    """Smallest and largest number that a value takes under any code."""
    if isinstance(value, Choice):
        return float(value.values.min()), float(value.values.max())
    return float(value), float(value)


def bind(value: Value, chosen: Mapping[str, int]) -> Value:
    """The value once the decisions in `chosen` (name to option index) are taken."""
    if not isinstance(value, Choice):
        return value
    index = tuple([chosen.get(name, _ALL) for name in value.decisions])
    if _ALL not in index:
        return value.values[index].item()
    left = tuple(name for name in value.decisions if name not in chosen)
    return table(left, value.values[index])


def along(value: Value, columns: Mapping[str, NDArray[np.int64]]) -> Value:
    """The value for n codes at once, `columns` holding (n,) option indices per decision name.

    The result depends on the single decision `CANDIDATE` with n options.
    """
    if not isinstance(value, Choice):
        return value
    return table((CANDIDATE,), value.values[tuple(columns[name] for name in value.decisions)])


T = TypeVar("T")

_PLAIN = frozenset({bool, int, float, str, type(None)})
"""Types with nothing inside, which most fields have."""


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    """Names of the fields of a dataclass; none for any other type."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


def map_choices(item: T, change: Callable[[Choice], Value]) -> T:
    """A copy of a dataclass or (nested, named) tuple with `change` applied to every `Choice` inside."""
    if isinstance(item, tuple):
        old: Sequence[Any] = item
        if _PLAIN.issuperset(map(type, old)):
            return item
        new = [part if type(part) in _PLAIN else map_choices(part, change) for part in old]
        if all(map(operator.is_, new, old)):
            return item
        return tuple(new) if type(item) is tuple else type(item)(*new)  # type: ignore[return-value]
    if isinstance(item, Choice):
        return change(item)  # type: ignore[return-value]
    names = _field_names(type(item))
    old = [getattr(item, name) for name in names]
    new = [part if type(part) in _PLAIN else map_choices(part, change) for part in old]
    return item if all(map(operator.is_, new, old)) else type(item)(*new)


def choices_in(item: object) -> list[Choice]:
    """Every `Choice` inside a dataclass or (nested) tuple."""
    found: list[Choice] = []
    left: list[Any] = [item]
    while left:
        part = left.pop()
        if isinstance(part, Choice):
            found.append(part)
        else:
            inside = part if isinstance(part, tuple) else [getattr(part, name) for name in _field_names(type(part))]
            left.extend([each for each in inside if type(each) not in _PLAIN])
    return found
