"""Sums of small tables as paths through layers of states: what exact fronts and constrained minima are found on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.search.exact import Table, check

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_LAYER_ENTRIES = 2**22
"""Most numbers in one layer by default: 32 MiB."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One decision taken: its s states are the options of earlier decisions on which later tables depend.

    values (s, k, m) is what each of the k options adds to the m sums, following (s, k) the state it leads to.
    """

    decision: int
    values: Floats
    following: Ints
    states_after: int


@dataclass(frozen=True, slots=True, eq=False)
class Trellis:
    """Layers in the order in which decisions are taken; every code is one path, constant (m,) is on all of them.

    `columns` is how many sums there are.
    """

    layers: tuple[Layer, ...]
    constant: Floats
    decisions: int

    @property
    def columns(self) -> int:
        return len(self.constant)


def trellis(
    sums: Sequence[Sequence[Table]], cardinalities: Sequence[int], max_layer_entries: int = MAX_LAYER_ENTRIES
) -> Trellis:
    """The trellis of sums of tables, each over all codes with the cardinalities given.

    Decisions are ordered so that few of them are open at a time (a path decomposition of the tables' graph, chosen
    greedily). Raises InvalidInput for tables that do not fit, and where a layer needs more entries than allowed.
    """
    for tables in sums:
        check(tables, cardinalities)
    constant = np.array([sum(float(t.values) for t in tables if not t.axes) for tables in sums], dtype=np.float64)
    scopes = {frozenset(table.axes) for tables in sums for table in tables if table.axes}
    order = _order(scopes, cardinalities)
    place = {decision: step for step, decision in enumerate(order)}
    closing: list[list[tuple[int, Table]]] = [[] for _ in order]
    for column, tables in enumerate(sums):
        for table in tables:
            if table.axes:
                closing[max(place[axis] for axis in table.axes)].append((column, table))
    last = {d: max((place[axis] for scope in scopes if d in scope for axis in scope), default=place[d]) for d in order}
    layers: list[Layer] = []
    before: list[int] = []
    for step, decision in enumerate(order):
        entries = math.prod(cardinalities[axis] for axis in [*before, decision]) * len(sums)
        if entries > max_layer_entries:
            raise InvalidInput(
                f"decisions {sorted([*before, decision])} meet in tables of {entries} entries, more than "
                f"{max_layer_entries}: close some of them, or split the space"
            )
        after = [axis for axis in [*before, decision] if last[axis] > step]
        layers.append(_layer(before, decision, after, closing[step], cardinalities, len(sums)))
        before = after
    return Trellis(tuple(layers), constant, len(order))


def _order(scopes: set[frozenset[int]], cardinalities: Sequence[int]) -> list[int]:
    """Greedily the decision after which the fewest combinations of options must be told apart."""
    neighbours = {d: frozenset().union(*(s for s in scopes if d in s)) - {d} for d in range(len(cardinalities))}
    waiting = {d: set(neighbours[d]) for d in neighbours}
    order: list[int] = []
    taken: set[int] = set()
    open_now: set[int] = set()

    def cost(decision: int) -> tuple[float, float, int, int]:
        candidates = open_now | {decision}
        left = [d for d in candidates if waiting[d] - {decision}]
        across = sum(math.log(cardinalities[d]) for d in left)
        # Of equal ones that with the fewest neighbours to come: a chain begins at an end.
        within = sum(math.log(cardinalities[d]) for d in candidates)
        return round(across, 9), round(within, 9), len(waiting[decision]), decision

    while len(order) < len(cardinalities):
        nearby = {d for each in open_now for d in waiting[each]} or set(neighbours) - taken
        chosen = min(nearby, key=cost)
        order.append(chosen)
        taken.add(chosen)
        for each in neighbours[chosen]:
            waiting[each].discard(chosen)
        open_now = {d for d in open_now | {chosen} if waiting[d]}
    return order


def _layer(
    before: list[int],
    decision: int,
    after: list[int],
    closing: Sequence[tuple[int, Table]],
    cardinalities: Sequence[int],
    columns: int,
) -> Layer:
    scope = [*before, decision]
    shape = [cardinalities[axis] for axis in scope]
    values = np.zeros([*shape, columns])
    for column, table in closing:
        present = [axis for axis in scope if axis in table.axes]
        aligned = table.values.transpose([table.axes.index(axis) for axis in present])
        values[..., column] += aligned.reshape([cardinalities[a] if a in table.axes else 1 for a in scope])
    following = np.zeros(shape, dtype=np.int64)
    for axis in after:
        grid = np.arange(cardinalities[axis]).reshape([-1 if each == axis else 1 for each in scope])
        following = following * cardinalities[axis] + grid
    options, states = cardinalities[decision], math.prod(shape[:-1])
    return Layer(
        decision,
        values.reshape(states, options, columns),
        np.ascontiguousarray(np.broadcast_to(following, shape)).reshape(states, options),
        math.prod(cardinalities[axis] for axis in after),
    )
