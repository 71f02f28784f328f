"""Exact minima and maxima of a cost that is a sum of small tables, by variable elimination."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.search.algorithm import Codes

Floats = NDArray[np.float64]

MAX_TABLE_ENTRIES = 2**22
"""Largest intermediate table by default: 32 MiB."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A term of a cost: values with one axis per decision, axes (which decision each axis is).

    Raises InvalidInput for a repeated decision, another number of axes, or values that are not finite.
    """

    axes: tuple[int, ...]
    values: Floats

    def __post_init__(self) -> None:
        if len(set(self.axes)) != len(self.axes) or self.values.ndim != len(self.axes):
            raise InvalidInput(
                f"table over decisions {self.axes} with values of shape {self.values.shape}: "
                "give one axis per decision, each decision once"
            )
        if not np.isfinite(self.values).all():
            raise InvalidInput(f"table over decisions {self.axes} has values that are not finite")


@dataclass(frozen=True, slots=True, eq=False)
class Minimum:
    """The best code found, (d,), its value, and a bound that no code can be below.

    exact says that the value is the minimum; bound then equals value. Of a maximum, bound is what no code
    can be above. The bound is rigorous up to the rounding of floating-point sums.
    """

    value: float
    code: Codes
    exact: bool
    bound: float


def total(tables: Sequence[Table], codes: Codes) -> Floats:
    """The sum of the tables at each code, (n, d) -> (n,)."""
    result = np.zeros(len(codes))
    for table in tables:
        result += table.values[tuple(codes[:, axis] for axis in table.axes)]
    return result


def minimum(
    tables: Sequence[Table], cardinalities: Sequence[int], max_table_entries: int = MAX_TABLE_ENTRIES
) -> Minimum:
    """Smallest sum of the tables over all codes with the cardinalities given.

    Bucket elimination (Dechter 1999), always of the decision whose joint table is smallest. Where a joint
    table would have more than max_table_entries entries it is split into mini-buckets (Dechter and Rish
    2003): the result is then not exact but a lower bound, and the best code that the buckets and coordinate
    descent find. No table larger than max_table_entries, or than the largest one given, is built.
    Raises InvalidInput for tables that do not fit the cardinalities.
    """
    check(tables, cardinalities)
    buckets, bound, exact = _eliminate(list(tables), cardinalities, max_table_entries)
    code = np.zeros(len(cardinalities), dtype=np.int64)
    for decision, bucket in reversed(buckets):
        code[decision] = _column(bucket, decision, cardinalities[decision], code).argmin()
    if not exact:
        ends = [_descend(tables, cardinalities, start) for start in (code, np.zeros_like(code))]
        code = min(ends, key=lambda end: _value(tables, end))
    value = _value(tables, code)
    return Minimum(value=value, code=code, exact=exact, bound=value if exact else min(bound, value))


def extremes(
    tables: Sequence[Table], cardinalities: Sequence[int], max_table_entries: int = MAX_TABLE_ENTRIES
) -> tuple[Minimum, Minimum]:
    """Smallest and largest sum of the tables, see `minimum`."""
    negated = [Table(table.axes, -table.values) for table in tables]
    highest = minimum(negated, cardinalities, max_table_entries)
    return (
        minimum(tables, cardinalities, max_table_entries),
        Minimum(value=-highest.value, code=highest.code, exact=highest.exact, bound=-highest.bound),
    )


def check(tables: Sequence[Table], cardinalities: Sequence[int]) -> None:
    """Raises InvalidInput for tables that do not fit the cardinalities."""
    for table in tables:
        if not all(0 <= axis < len(cardinalities) for axis in table.axes):
            raise InvalidInput(f"table over decisions {table.axes}: there are {len(cardinalities)} decisions")
        shape = tuple(cardinalities[axis] for axis in table.axes)
        if table.values.shape != shape:
            raise InvalidInput(
                f"table over decisions {table.axes} has shape {table.values.shape}: "
                f"the options of its decisions need {shape}"
            )


def _eliminate(
    tables: list[Table], cardinalities: Sequence[int], max_entries: int
) -> tuple[list[tuple[int, list[Table]]], float, bool]:
    """Buckets in the order of elimination, the lower bound that is left, and whether no bucket was split."""
    buckets: list[tuple[int, list[Table]]] = []
    exact = True
    remaining = set(range(len(cardinalities)))
    while remaining:
        decision = min(remaining, key=lambda each: (_joint_entries(tables, each, cardinalities), each))
        remaining.remove(decision)
        bucket = [table for table in tables if decision in table.axes]
        tables = [table for table in tables if decision not in table.axes]
        parts = _mini_buckets(bucket, cardinalities, max_entries)
        exact &= len(parts) <= 1
        tables += [_minimised(part, decision, cardinalities) for part in parts]
        buckets.append((decision, bucket))
    return buckets, float(sum(float(table.values) for table in tables)), exact


def _entries(scope: set[int], cardinalities: Sequence[int]) -> int:
    return math.prod(cardinalities[axis] for axis in scope)


def _joint_entries(tables: list[Table], decision: int, cardinalities: Sequence[int]) -> int:
    scope = {decision}.union(*(table.axes for table in tables if decision in table.axes))
    return _entries(scope, cardinalities)


def _mini_buckets(bucket: list[Table], cardinalities: Sequence[int], max_entries: int) -> list[list[Table]]:
    """The bucket in parts whose joint tables stay within the limit; the largest tables choose first."""
    parts: list[tuple[set[int], list[Table]]] = []
    for table in sorted(bucket, key=lambda each: -each.values.size):
        for scope, members in parts:
            united = scope.union(table.axes)
            if united == scope or _entries(united, cardinalities) <= max_entries:
                scope.update(united)
                members.append(table)
                break
        else:
            parts.append((set(table.axes), [table]))
    return [members for _, members in parts]


def _minimised(part: list[Table], decision: int, cardinalities: Sequence[int]) -> Table:
    """The sum of the part's tables, minimised over one decision."""
    scope = sorted({axis for table in part for axis in table.axes} - {decision})
    order = [*scope, decision]
    joint = np.zeros([cardinalities[axis] for axis in order])
    for table in part:
        present = [axis for axis in order if axis in table.axes]
        aligned = table.values.transpose([table.axes.index(axis) for axis in present])
        joint += aligned.reshape([cardinalities[axis] if axis in table.axes else 1 for axis in order])
    return Table(tuple(scope), joint.min(axis=-1))


def _column(tables: Sequence[Table], decision: int, options: int, code: Codes) -> Floats:
    """The sum of the tables over the options of one decision, with the rest of the code fixed: (options,)."""
    result = np.zeros(options)
    for table in tables:
        result += table.values[tuple(slice(None) if axis == decision else code[axis] for axis in table.axes)]
    return result


def _descend(tables: Sequence[Table], cardinalities: Sequence[int], start: Codes) -> Codes:
    """Improves one decision at a time until none can be improved."""
    code = start.copy()
    touching = [[table for table in tables if decision in table.axes] for decision in range(len(cardinalities))]
    improved = True
    while improved:
        improved = False
        for decision, options in enumerate(cardinalities):
            column = _column(touching[decision], decision, options, code)
            # Differences that rounding alone explains could send it round in circles.
            if column[code[decision]] - column.min() > 1e-12 * np.abs(column).max():
                code[decision] = column.argmin()
                improved = True
    return code


def _value(tables: Sequence[Table], code: Codes) -> float:
    return float(total(tables, code[None])[0])
