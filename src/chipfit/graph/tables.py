"""Quantities over a whole space as sums, or maxima of sums, of small tables: millions of codes a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from chipfit.graph.values import LARGEST_TABLE, Choice, Decision, TableTooLarge, Value

LARGEST_JOINT_TABLE = 1 << 15
"""Rows up to which tables are joined: fewer gathers as long as a table stays near the processor."""

_CHUNK = 1 << 13
"""Codes that are looked up at a time, so that what is written is still in the cache when it is read."""

Floats = NDArray[np.float64]
Codes = NDArray[np.integer[Any]]
Combine = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Values with one axis per decision in `axes` (increasing indices), then one axis for the columns."""

    axes: tuple[int, ...]
    values: Floats

    @property
    def mask(self) -> int:
        return sum(1 << axis for axis in self.axes)

    @property
    def rows(self) -> int:
        return self.values.size // self.values.shape[-1]

    def spread(self, axes: Sequence[int]) -> Floats:
        """The values with an axis of length 1 for each of `axes` that this table lacks."""
        lengths = dict(zip(self.axes, self.values.shape, strict=False))
        return self.values.reshape([*(lengths.get(axis, 1) for axis in axes), self.values.shape[-1]])


@final
class TableSum:
    """A sum of tables over the decisions of a space, for one or several columns (say latency, energy, bytes).

    `decisions` are the space's, in the order of its codes; `entries` counts the numbers that are looked up in.
    """

    __slots__ = ("_gather", "_parts", "columns", "decisions")

    def __init__(self, parts: Sequence[_Table], decisions: Sequence[Decision], columns: int) -> None:
        """Use `of`; `parts` are tables none of which lies inside another."""
        self.decisions = tuple(decisions)
        self.columns = columns
        self._parts = tuple(parts)
        self._gather = _Gather([_joined(self._parts, np.add, _lengths(decisions))], self.decisions, columns)

    @classmethod
    def of(cls, terms: Iterable[tuple[Value, ...]], decisions: Sequence[Decision], columns: int = 1) -> TableSum:
        """The sum over `terms`, each with one value per column.

        Raises `TableTooLarge` where the columns of a term meet in too large a table: evaluate along codes then.
        """
        return cls(_absorbed(_tables(terms, decisions, columns), np.add), decisions, columns)

    @property
    def entries(self) -> int:
        """Numbers held in the tables that codes are looked up in."""
        return sum(values.size for values in self._gather.values)

    @property
    def gathers(self) -> int:
        """Tables that one code is looked up in."""
        return len(self._gather.values)

    def at(self, codes: Codes) -> Floats:
        """The sums for `codes` (n, d) of option indices, as (n, columns).

        Any integer type will do; small ones are fastest. Raises ValueError for another shape or an index out of range.
        """
        return self._gather.at(codes)

    def tables(self, column: int = 0) -> list[tuple[tuple[int, ...], Floats]]:
        """Tables whose sum is one column: the indices of their decisions, and one axis of values for each.

        Constant axes are dropped; a table without axes holds what no decision changes.
        """
        found = [_narrowed(part.axes, part.values[..., column]) for part in self._parts]
        merged = _absorbed([_Table(axes, values[..., None]) for axes, values in found], np.add)
        return [(part.axes, part.values[..., 0]) for part in merged]


@final
class TableMax:
    """A maximum over steps, each a sum of tables: peak memory over time."""

    __slots__ = ("_gather", "decisions")

    def __init__(self, steps: Sequence[Sequence[_Table]], decisions: Sequence[Decision]) -> None:
        """Use `of`; each step is a list of tables that are added."""
        self.decisions = tuple(decisions)
        self._gather = _Gather(steps, self.decisions, 1)

    @classmethod
    def of(cls, steps: Iterable[Iterable[Value]], decisions: Sequence[Decision]) -> TableMax:
        """The largest sum among `steps`; 0 where there is none. Steps that never decide are dropped."""
        lengths = _lengths(decisions)
        sums = [
            _joined(_absorbed(_tables(((value,) for value in step), decisions, 1), np.add), np.add, lengths)
            or [_Table((), np.zeros(1))]
            for step in steps
        ]
        single = [tables[0] for tables in sums if len(tables) == 1]
        several = [tables for tables in sums if len(tables) > 1]
        single = _joined(_undominated(_absorbed(single, np.maximum)), np.maximum, lengths)
        floor = max((float(table.values.min()) for table in single), default=-np.inf)
        kept = [tables for tables in several if sum(float(table.values.max()) for table in tables) > floor]
        return cls([*([table] for table in single), *kept], decisions)

    @property
    def entries(self) -> int:
        """Numbers held in the tables that codes are looked up in."""
        return sum(values.size for values in self._gather.values)

    @property
    def gathers(self) -> int:
        """Tables that one code is looked up in."""
        return len(self._gather.values)

    def at(self, codes: Codes) -> Floats:
        """The maxima for `codes` (n, d) of option indices, as (n,). Raises ValueError as `TableSum.at` does."""
        return self._gather.at(codes)[:, 0]


class _Gather:
    """Looks codes up: sums over the tables of each group, and the maximum over groups."""

    def __init__(self, groups: Sequence[Sequence[_Table]], decisions: Sequence[Decision], columns: int) -> None:
        tables = [table for group in groups for table in group]
        self.columns = columns
        self.highest = np.array([len(decision) - 1 for decision in decisions], dtype=np.float32)
        self.sizes = [len(group) for group in groups]
        # Rows of 1, 2 or 4 numbers are gathered several times faster than others.
        self.width = columns if columns > 4 else 1 << (columns - 1).bit_length()
        self.values = [_padded(table, self.width) for table in tables]
        # Row numbers stay below 2**24, where float32 is exact: one product then gives those of all tables.
        self.strides = np.zeros((len(tables), len(decisions)), dtype=np.float32)
        for row, table in enumerate(tables):
            step = table.rows
            for axis, length in zip(table.axes, table.values.shape, strict=False):
                step //= length
                self.strides[row, axis] = step

    def at(self, codes: Codes) -> Floats:
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != len(self.highest) or codes.dtype.kind not in "iu":
            raise ValueError(f"codes are (n, {len(self.highest)}) integers, got {codes.dtype} of shape {codes.shape}")
        result = np.zeros((len(codes), self.columns))
        for start in range(0, len(codes), _CHUNK):
            chunk = codes[start : start + _CHUNK].astype(np.float32, order="C")
            self._check(chunk)
            if self.values:
                result[start : start + _CHUNK] = self._chunk(chunk)[:, : self.columns]
        return result

    def _check(self, codes: NDArray[np.float32]) -> None:
        # Many codes side by side give the reduction long rows, which takes a tenth of the time.
        whole = len(codes) - len(codes) % 32
        wide = (
            codes[:whole].reshape(whole // 32, 32 * codes.shape[1]).max(axis=0, initial=0).reshape(32, codes.shape[1])
        )
        if (wide > self.highest).any() or (codes[whole:] > self.highest).any() or codes.min(initial=0) < 0:
            raise ValueError(f"a code is out of the range of the options {(self.highest + 1).astype(int).tolist()}")

    def _chunk(self, codes: NDArray[np.float32]) -> Floats:
        rows = (self.strides @ codes.T).astype(np.intp)
        shape = (len(codes), self.width) if self.width > 1 else (len(codes),)
        largest, taken = np.empty(shape), np.empty(shape)
        table = 0
        for group, size in enumerate(self.sizes):
            total = largest if group == 0 else np.empty(shape)
            np.take(self.values[table], rows[table], axis=0, out=total, mode="clip")
            for _ in range(size - 1):
                table += 1
                np.take(self.values[table], rows[table], axis=0, out=taken, mode="clip")
                total += taken
            if group:
                np.maximum(largest, total, out=largest)
            table += 1
        return largest.reshape(len(codes), self.width)


def _padded(table: _Table, width: int) -> Floats:
    """The values of a table as rows of `width` numbers, flat where that is one."""
    flat = table.values.reshape(-1, table.values.shape[-1])
    if width == 1:
        return np.ascontiguousarray(flat[:, 0])
    return np.pad(flat, ((0, 0), (0, width - flat.shape[1])))


def _lengths(decisions: Sequence[Decision]) -> NDArray[np.float64]:
    return np.array([len(decision) for decision in decisions], dtype=np.float64)


def _tables(terms: Iterable[tuple[Value, ...]], decisions: Sequence[Decision], columns: int) -> list[_Table]:
    """One table per term that is not zero everywhere, over the axes of all its columns."""
    position = {decision.name: index for index, decision in enumerate(decisions)}
    tables: list[_Table] = []
    for term in terms:
        if len(term) != columns:
            raise ValueError(f"a term has {len(term)} columns, not {columns}")
        placed = [_placed(value, position) for value in term]
        axes = sorted({axis for table in placed for axis in table.axes})
        rows = 1
        for axis in axes:
            rows *= len(decisions[axis])
        if rows > LARGEST_TABLE:
            raise TableTooLarge(f"{rows} entries over {', '.join(decisions[axis].name for axis in axes)}")
        values = np.empty([*(len(decisions[axis]) for axis in axes), columns])
        for column, table in enumerate(placed):
            values[..., column] = table.spread(axes)[..., 0]
        if values.any():
            tables.append(_Table(tuple(axes), values))
    return tables


def _placed(value: Value, position: dict[str, int]) -> _Table:
    """A value as a table of one column, with its axes in the order of the decisions."""
    if not isinstance(value, Choice):
        return _Table((), np.array([float(value)]))
    order = sorted(range(len(value.decisions)), key=lambda axis: position[value.decisions[axis]])
    axes = tuple(position[value.decisions[axis]] for axis in order)
    return _Table(axes, value.values.transpose(order).astype(np.float64)[..., None])


def _narrowed(axes: tuple[int, ...], values: Floats) -> tuple[tuple[int, ...], Floats]:
    """Axes and values without the axes along which the values do not change."""
    kept: list[int] = []
    for axis in axes:
        first = values.take([0], axis=len(kept))
        if (values == first).all():
            values = first.squeeze(len(kept))
        else:
            kept.append(axis)
    return tuple(kept), values


def _combined(a: _Table, b: _Table, combine: Combine) -> _Table:
    axes = tuple(sorted({*a.axes, *b.axes}))
    return _Table(axes, combine(a.spread(axes), b.spread(axes)))


def _absorbed(tables: Iterable[_Table], combine: Combine) -> list[_Table]:
    """Every table whose axes lie inside another's is combined into it: the same total in fewer tables."""
    by_mask: dict[int, _Table] = {}
    for table in tables:
        mask = table.mask
        by_mask[mask] = _combined(by_mask[mask], table, combine) if mask in by_mask else table
    for mask in sorted(by_mask, key=lambda each: by_mask[each].rows):
        around = [other for other in by_mask if other != mask and mask & other == mask]
        if around:
            host = min(around, key=lambda each: by_mask[each].rows)
            by_mask[host] = _combined(by_mask[host], by_mask.pop(mask), combine)
    return list(by_mask.values())


def _joined(tables: Sequence[_Table], combine: Combine, lengths: NDArray[np.float64]) -> list[_Table]:
    """Tables joined pair by pair, smallest joint table first, while that has at most `LARGEST_JOINT_TABLE` rows."""
    tables = list(tables)
    if len(tables) < 2:
        return tables
    logs = np.log(lengths)
    limit = np.log(LARGEST_JOINT_TABLE) + 1e-9
    member = np.zeros((len(tables), len(lengths)))
    for row, table in enumerate(tables):
        member[row, list(table.axes)] = 1
    joint = _joint_logs(member, member, logs)
    np.fill_diagonal(joint, np.inf)
    while True:
        a, b = divmod(int(joint.argmin()), len(tables))
        if joint[a, b] > limit:
            break
        tables[a] = _combined(tables[a], tables[b], combine)
        member[a] = np.maximum(member[a], member[b])
        row = _joint_logs(member[a : a + 1], member, logs)[0]
        row[np.isinf(joint[a])] = np.inf
        joint[a], joint[:, a] = row, row
        joint[b], joint[:, b] = np.inf, np.inf
        member[b] = 0
        tables[b] = _Table((), np.empty((0, 1)))
    return [table for table in tables if table.values.size]


def _joint_logs(a: NDArray[np.float64], b: NDArray[np.float64], logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the rows of the joint table of every pair."""
    return (a @ logs)[:, None] + (b @ logs)[None, :] - (a * logs) @ b.T


def _undominated(tables: Sequence[_Table]) -> list[_Table]:
    """Tables without those that are nowhere above another one."""
    kept: list[_Table] = []
    for table in sorted(tables, key=lambda each: -float(each.values.max())):
        highest = float(table.values.max())
        if not any(_covers(other, table, highest) for other in kept):
            kept.append(table)
    return kept


def _covers(other: _Table, table: _Table, highest: float) -> bool:
    if float(other.values.min()) >= highest:
        return True
    axes = sorted({*other.axes, *table.axes})
    above, below = other.spread(axes), table.spread(axes)
    if np.prod(np.maximum(above.shape, below.shape), dtype=np.float64) > LARGEST_JOINT_TABLE:
        return False
    return bool((above >= below).all())
