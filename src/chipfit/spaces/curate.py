"""Curation: fewer options per decision, in larger steps whose cost rises with what they give.

On an accelerator many options cost the same (17 to 32 channels), some cost more than a larger one. From the tables of
an estimator alone, `curate` finds the options that are worth offering; `multiples`, `listed` and `monotone` say by hand
which ones to keep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph
from chipfit.graph.rewrite import restrict
from chipfit.graph.values import Decision

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Indices = NDArray[np.int64]
Bools = NDArray[np.bool_]
Option = int | float | str
Table = tuple[tuple[int, ...], Floats]
Slices = list[Floats]
"""One (options, combinations) array for every table that a decision touches; their sum over tables is a cost."""

CAPACITIES = ("macs", "parameters")
"""What makes an option larger than another: none of these less, one of them more."""

TOLERANCE = 0.001
FREE = 0.15
MOST = (5, 6, 8, 12, 16, 24)
"""Options of a decision, tried one after the other until `ENOUGH` networks are left: a space with few decisions needs
finer steps for a front that is not coarse."""
ENOUGH = 10**6
BASE = 0.1
"""What the scale of costs that options are spread on begins with, as a share of the range of these costs."""
ROUNDING = 1e-12
SMALLEST = np.finfo(np.float64).tiny


class Tables(Protocol):
    """The costs of a space as sums of tables, as `estimate.accumulate.CostTables` gives them."""

    def tables(self, quantity: str) -> list[Table]:
        """Tables whose sum is a quantity: indices of their decisions, and one axis of values for each."""
        ...


class Reason(StrEnum):
    """Why an option is not worth offering; the option that stands in for it follows."""

    PLATEAU = "no faster than"
    DEARER = "slower than"
    AVERAGE = "on average no faster than"
    THINNED = "too near to"


@dataclass(frozen=True, slots=True)
class Removal:
    """An option that was removed, by index, and the larger one that is offered `instead`."""

    decision: int
    option: int
    instead: int
    reason: Reason


@dataclass(frozen=True, eq=False)
class Curated:
    """A curated space: `kept` are the indices of the options of `given` that are left, for every decision."""

    given: Graph
    kept: tuple[tuple[int, ...], ...]
    removed: tuple[Removal, ...]

    @cached_property
    def space(self) -> Graph:
        """The graph with the options that are left, its decisions in the same order."""
        names = (decision.name for decision in self.given.decisions)
        return restrict(self.given, dict(zip(names, self.kept, strict=True)))

    @property
    def size(self) -> int:
        """Codes of the curated space."""
        return math.prod(map(len, self.kept))

    def full(self, codes: Codes) -> Codes:
        """Codes (n, d) of the curated space as codes of the given one."""
        codes = np.asarray(codes)
        columns = [np.asarray(kept)[codes[:, index]] for index, kept in enumerate(self.kept)]
        return np.stack(columns, axis=1) if columns else codes

    def as_json(self) -> dict[str, Any]:
        """What is left and what was removed, to be kept with the results of a search."""
        removed = [[item.decision, item.option, item.instead, item.reason.value] for item in self.removed]
        return {"kept": [list(kept) for kept in self.kept], "removed": removed}

    @classmethod
    def of_json(cls, given: Graph, data: Mapping[str, Any]) -> Curated:
        """The reverse of `as_json`, of the same graph."""
        removed = (
            Removal(decision, option, instead, Reason(why)) for decision, option, instead, why in data["removed"]
        )
        return cls(given, tuple(tuple(kept) for kept in data["kept"]), tuple(removed))

    def reasons(self) -> dict[str, tuple[str, ...]]:
        """For every decision that lost options, what was removed and why, as people say it."""
        found: dict[str, tuple[str, ...]] = {}
        for index, decision in enumerate(self.given.decisions):
            own = [item for item in self.removed if item.decision == index]
            if own:
                found[decision.name] = tuple(_sentences(decision, own, self.kept[index]))
        return found


def curate(
    space: Graph,
    tables: Tables,
    tolerance: float = TOLERANCE,
    free: float = FREE,
    most: int | None = None,
    safe: bool = False,
) -> Curated:
    """Keeps of every decision the options whose latency rises with what they give.

    An option goes where a larger one (`CAPACITIES`) costs nearly nothing more: at most `tolerance` of the latency of
    the network as given, and for what it gives more at most the share `free` of what that costs on average along the
    decision. Costs are compared over all subgraphs that depend on it: first where that holds under every combination
    of what their other decisions still offer, then, unless `safe`, where it holds on average over these. Where
    more than `most` numbers are left, so many stay of the decision whose costs span most, of others as many in
    proportion but at least the ends, so that steps of different decisions weigh alike; they become larger as what they
    add to the latency does; None takes the first of `MOST` that leaves `ENOUGH` networks. All is repeated until nothing
    changes. Option 0 always stays and comes first; the others
    follow from the largest to the smallest, so that neighbouring options are alike.
    With `safe`, a tolerance of 0 and nothing free, every network of the space has one among those left before thinning
    that is at least as large and at most as slow. Tables that share more than the decision are compared one by one,
    which may keep an option too many, never too few. Raises `InvalidInput` for a tolerance below 0, a share that is not
    from 0 to below 1, or less than two options.
    """
    if tolerance < 0 or not 0 <= free < 1 or (most is not None and most < 2):
        raise InvalidInput(
            f"curation needs a tolerance of at least 0, a free share from 0 to below 1 and at least 2 options, got "
            f"{tolerance}, {free} and {most}"
        )
    work = _Work(space, tables, tolerance, free)
    work.settle(average=False)
    if not safe:
        work.settle(average=True)
    work = work.thinned(MOST if most is None else (most,), safe)
    return Curated(space, tuple(work.ordered(index) for index in range(len(work.alive))), tuple(work.removed))


class _Work:
    """A curation under way: the options that are `alive`, and what was `removed`."""

    def __init__(self, space: Graph, tables: Tables, tolerance: float, free: float) -> None:
        self.cost = tables.tables("latency_s")
        self.capacities = [tables.tables(name) for name in CAPACITIES]
        given = sum(float(values[(0,) * values.ndim]) for _, values in self.cost)
        self.tolerance, self.free = tolerance * given, free
        self.numbers = [not any(isinstance(option, str) for option in item.options) for item in space.decisions]
        self.alive: list[Indices] = [np.arange(len(decision)) for decision in space.decisions]
        self.removed: list[Removal] = []

    def settle(self, average: bool) -> None:
        """Removes dominated options, decision by decision, until no decision loses any."""
        changed = True
        while changed:
            changed = False
            # One decision after another: two options that each wait for the other must not both stay, nor both go.
            for index in range(len(self.alive)):
                view = self.view(index)
                instead = (view.averaged() if average else view).dominated(self.tolerance, self.free)
                if (instead >= 0).any():
                    self.drop(index, view, instead, Reason.AVERAGE if average else Reason.PLATEAU)
                    changed = True

    def thinned(self, tried: Sequence[int], safe: bool) -> _Work:
        """A curation that goes on to thin, with the first of the numbers tried that leaves enough networks, else the
        last."""
        found = self
        for most in tried:
            found = copy(self)
            found.alive, found.removed = list(self.alive), list(self.removed)
            while found.thin(most):
                found.settle(average=not safe)
            if math.prod(len(alive) for alive in found.alive) >= ENOUGH:
                break
        return found

    def thin(self, most: int) -> bool:
        """Leaves every decision between more than `most` numbers as many as `levels` says; whether any went."""
        levels = self.levels(most)
        crowded = [index for index in levels if len(self.alive[index]) > most]
        for index in crowded:
            view = self.view(index)
            self.drop(index, view, view.thinned(levels[index]), Reason.THINNED)
        return bool(crowded)

    def levels(self, most: int) -> dict[int, int]:
        """How many options a crowded decision between numbers keeps, so that its steps weigh like those of others.

        `most` where costs span most, elsewhere in proportion; at least the ends, and option 0 where it is none of them.
        """
        views = {index: self.view(index) for index, numbers in enumerate(self.numbers) if numbers}
        spans = {index: float(np.ptp(view.average)) for index, view in views.items()}
        widest = max(spans.values(), default=0.0)
        found: dict[int, int] = {}
        for index, view in views.items():
            ends = 2 if view.options[view.descending[0]] == 0 else 3
            share = spans[index] / widest if widest > 0 else 0.0
            found[index] = min(most, max(ends, math.ceil(most * share - ROUNDING)))
        return found

    def drop(self, index: int, view: _View, instead: Indices, reason: Reason) -> None:
        """Removes the options of a decision that another one stands in for, -1 where none does."""
        average = view.average
        for place in np.flatnonzero(instead >= 0):
            other = int(instead[place])
            dearer = reason is not Reason.THINNED and average[place] > average[other] + self.tolerance
            why = Reason.DEARER if dearer else reason
            self.removed.append(Removal(index, int(view.options[place]), int(view.options[other]), why))
        self.alive[index] = view.options[instead < 0]

    def ordered(self, index: int) -> tuple[int, ...]:
        """What a decision still offers: option 0, then the others from the largest to the smallest."""
        view = self.view(index)
        return 0, *(int(option) for option in view.options[view.descending] if option)

    def view(self, index: int) -> _View:
        """A decision over what all decisions still offer."""
        slices = [self._slices(tables, index) for tables in (self.cost, *self.capacities)]
        return _View(self.alive[index], slices[0], slices[1:])

    def _slices(self, tables: Sequence[Table], index: int) -> Slices:
        found: Slices = []
        for axes, values in tables:
            if index in axes:
                left = values[np.ix_(*(self.alive[axis] for axis in axes))]
                found.append(np.moveaxis(left, axes.index(index), 0).reshape(len(self.alive[index]), -1))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """Options (n,) of one decision with their costs and capacities under all combinations of the other decisions."""

    options: Indices
    cost: Slices
    capacities: Sequence[Slices]

    @property
    def average(self) -> Floats:
        """Costs (n,) on average over the combinations."""
        return self._mean(self.cost)

    @property
    def descending(self) -> Indices:
        """Places of the options, the largest first; of equally large ones the cheapest first."""
        sizes = [-self._mean(slices) for slices in reversed(self.capacities)]
        return np.lexsort((self.average, *sizes))

    def averaged(self) -> _View:
        """The same with averages in place of all combinations."""
        return _View(
            self.options, [self.average[:, None]], [[self._mean(slices)[:, None]] for slices in self.capacities]
        )

    def dominated(self, tolerance: float, free: float) -> Indices:
        """For every option (n,) the place of a larger one that stays and costs no more, else -1; option 0 stays.

        What counts as no more: `tolerance` in seconds, and `free` as in `curate`.
        """
        sizes = self._mean(self.capacities[0])
        given = (sizes - sizes.min()) / max(float(np.ptp(sizes)), SMALLEST)
        instead = np.full(len(self.options), -1, dtype=np.int64)
        for place in self.descending:
            if instead[place] < 0:
                covered = self.covered(place, tolerance, free * np.maximum(given[place] - given, 0))
                instead[covered & (instead < 0) & (self.options > 0)] = place
        return instead

    def covered(self, place: int, tolerance: float, share: Floats) -> Bools:
        """Which options (n,) are smaller than that at a place and cost no less, under every combination.

        No less within `tolerance` seconds and a `share` (n,) of the range of costs along the decision.
        """
        less = [part - part[place] + share[:, None] * np.ptp(part, axis=0) for part in self.cost]
        holds = _least(less, len(self.options), tolerance)
        smaller = np.zeros(len(self.options), dtype=np.bool_)
        for slices in self.capacities:
            more = [part[place] - part for part in slices]
            holds &= _least(more, len(self.options))
            smaller |= ~_least([-part for part in more], len(self.options))
        return holds & smaller

    def thinned(self, most: int) -> Indices:
        """For every option (n,) -1 where it is among `most` evenly spread in cost, else the next larger one kept.

        Spread on a logarithmic scale that begins a little below the cheapest: only differences of a decision's costs
        mean something, as its tables may hold what does not depend on it.
        """
        cost, order = self.average, self.descending
        cost = np.log(cost - cost.min() + BASE * np.ptp(cost) + SMALLEST)
        kept = self.options == 0
        kept[order[0]] = True
        if kept.sum() < most:
            kept[cost.argmin()] = True
        for wanted in np.linspace(cost.max(), cost.min(), most):
            if kept.sum() < most:
                kept[np.abs(cost - wanted).argmin()] = True
        instead = np.full(len(self.options), -1, dtype=np.int64)
        larger = order[0]
        for place in order:
            larger = place if kept[place] else larger
            instead[place] = -1 if kept[place] else larger
        return instead

    def _mean(self, slices: Slices) -> Floats:
        return sum((part.mean(axis=1) for part in slices), np.zeros(len(self.options)))


def _least(parts: Slices, count: int, tolerance: float = 0.0) -> Bools:
    """Whether a sum of differences is nowhere below 0 (n,), but for a tolerance and rounding."""
    least, size = np.zeros(count), np.zeros(count)
    for part in parts:
        least += part.min(axis=1)
        size += np.abs(part).max(axis=1)
    return least >= -(tolerance + ROUNDING * size)


def _sentences(decision: Decision, removals: Sequence[Removal], kept: Sequence[int]) -> list[str]:
    """One sentence for each reason and each option that stands in for others."""
    groups: dict[tuple[int, Reason], list[int]] = {}
    for item in removals:
        groups.setdefault((item.instead, item.reason), []).append(item.option)
    left = [decision.options[option] for option in kept]
    return [
        f"{_listed([decision.options[option] for option in options], left)}: {reason} {decision.options[instead]}"
        for (instead, reason), options in groups.items()
    ]


def _listed(options: Sequence[Option], left: Sequence[Option]) -> str:
    """Options by name; numbers as ranges between which nothing is left."""
    numbers = sorted(option for option in options if not isinstance(option, str))
    if len(numbers) < len(options):
        return ", ".join(str(option) for option in options)
    pieces: list[list[int | float]] = []
    for number in numbers:
        if pieces and not any(pieces[-1][-1] < option < number for option in left if not isinstance(option, str)):
            pieces[-1].append(number)
        else:
            pieces.append([number])
    ends = (f"{piece[0]} to {piece[-1]}" if len(piece) > 2 else ", ".join(map(str, piece)) for piece in pieces)
    return ", ".join(ends)


def multiples(decision: Decision, of: int) -> tuple[int, ...]:
    """Indices of the options that are multiples of a number, and of option 0. Raises `InvalidInput` without numbers."""
    if of < 1 or any(isinstance(option, str) for option in decision.options):
        raise InvalidInput(f"{decision.name}: multiples of {of} need whole numbers as options and at least 1")
    return (0, *(i for i, option in enumerate(decision.options) if i and option % of == 0))  # type: ignore[operator]


def listed(decision: Decision, options: Sequence[Option]) -> tuple[int, ...]:
    """Indices of option 0 and of the options named. Raises `InvalidInput` for one that is not offered."""
    if missing := [option for option in options if option not in decision.options]:
        offered = ", ".join(str(option) for option in decision.options)
        raise InvalidInput(f"{decision.name} has no option {missing[0]!r}; it offers {offered}")
    return tuple(i for i, option in enumerate(decision.options) if i == 0 or option in options)


def monotone(capacity: Sequence[float], cost: Sequence[float], tolerance: float = 0.0) -> tuple[int, ...]:
    """Indices of option 0 and of the options along which cost rises with capacity, both (n,) with option 0 first.

    An option goes where a larger one costs at most `tolerance` more. Raises `InvalidInput` for lengths that differ or
    are 0.
    """
    if len(capacity) != len(cost) or not len(cost):
        raise InvalidInput(f"give one capacity and one cost per option, got {len(capacity)} and {len(cost)}")
    column = np.array([cost, capacity], dtype=np.float64)[:, :, None]
    instead = _View(np.arange(len(cost)), [column[0]], [[column[1]]]).dominated(tolerance, 0.0)
    return tuple(int(index) for index in np.flatnonzero(instead < 0))
