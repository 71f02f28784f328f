"""Runs of operators that are worked on in stripes together, where the tensors between them find no room as a whole.

The rules are those that the compiler of Arm's accelerators with little memory shows: a run goes on until an operator
finds room for all that it reads and writes, weights stay one after the other as long as there is room beside the lowest
stripes, and then stripes grow until the memory is full. A run that has no room for the next stripes but the lowest is
parted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from chipfit.graph.subgraphs import Subgraph
from chipfit.graph.values import Choice, Value, both, either, equal, maximum, minimum, negate, never, where
from chipfit.graph.workload import Workload

LOWEST, NEXT = 1, 2
"""Rows of a run's last output in the lowest stripes, and in the next ones."""

Values = Mapping[int, Value]
"""A value for every member of a run, by its number among the subgraphs."""


class Link(NamedTuple):
    """A tensor between two steps, given by `giver`, read by `reader`, under `condition`."""

    giver: int
    reader: int
    condition: Value


class Stripe(NamedTuple):
    """How a subgraph is worked on: under which codes it `takes` its input in stripes and `gives` its output so, the
    `height` of a stripe of its output, 0 where it is whole, whether its weights find no room beside the stripes, so
    that they come anew for every piece (`streamed`), and the elements that the stripes and weights of the run take."""

    takes: Value = False
    gives: Value = False
    height: Value = 0
    streamed: Value = False
    held: Value = 0


def stripes(
    subgraphs: Sequence[Subgraph],
    links: Sequence[Link],
    kinds: Collection[str],
    together: Sequence[Value],
    stored: Sequence[Value],
    weights: Sequence[Value],
    room: int,
) -> list[Stripe]:
    """How every subgraph is worked on, with room for `room` elements.

    `kinds` are the workload kinds that can be worked on in stripes; an element-wise operator may begin a run. Of every
    subgraph, `together` are the elements of all that it reads and writes, `stored` those of its output, `weights` what
    its weights take.
    """
    whole = _joined(subgraphs, links, kinds, together, stored, room)
    if not whole:
        return [Stripe()] * len(subgraphs)
    members = sorted({number for link in whole for number in (link.giver, link.reader)})
    own = {number: weights[number] for number in members}
    rows = _spread(whole, {n: subgraphs[n].workload.out_height for n in members}, lambda _, last: last)
    held = _Held.of(subgraphs, whole, stored, rows)
    kept = _kept(whole, own, lambda number, taken: taken + own[number] + held.at(number, LOWEST) <= room)
    first = {number: where(kept[number], own[number], 0) for number in members}

    lonely = {number: together[number] >= room for number in members}
    run, heights = _grown(subgraphs, whole, stored, rows, first, lonely, room)
    held = _Held.of(subgraphs, run, stored, rows)
    beside = _spread(run, first, _sum)

    def stays(number: int, taken: Value) -> Value:
        left = room - held.at(number, heights[number])
        # Asked again after stripes have grown, compilers count the weights before an operator once more.
        again = where(kept[number], taken, taken + own[number]) <= left - beside[number]
        return where(heights[number] <= LOWEST, taken + own[number] <= left, again)

    last = _kept(run, own, stays)
    staying = _spread(run, {number: where(last[number], own[number], 0) for number in members}, _sum)
    found = [Stripe()] * len(subgraphs)
    takes, gives = _ends(run, members)
    for number in members:
        inside = either(takes[number], gives[number])
        height = maximum(heights[number] * subgraphs[number].workload.out_height // rows[number], 1)
        streamed = both(inside, negate(last[number]))
        taken = where(inside, held.at(number, heights[number]) + staying[number], 0)
        found[number] = Stripe(takes[number], gives[number], where(inside, height, 0), streamed, taken)
    return found


def _joined(
    subgraphs: Sequence[Subgraph],
    links: Sequence[Link],
    kinds: Collection[str],
    together: Sequence[Value],
    stored: Sequence[Value],
    room: int,
) -> list[Link]:
    """The tensors that are only there in stripes, and under which codes.

    That is so between two that run one after the other and share a tensor with nobody else, where the second finds no
    room for all that it reads and writes, as long as the lowest stripes of a whole run do.
    """
    found: list[Link] = []
    needed: dict[int, Value] = {}
    readers: list[Value] = [0] * len(subgraphs)
    for link in links:
        readers[link.giver] = readers[link.giver] + where(link.condition, 1, 0)
    for link in links:
        first, second = subgraphs[link.giver], subgraphs[link.reader]
        if first.workload.kind not in {*kinds, "elementwise"} or second.workload.kind not in kinds:
            continue
        linked = both(link.condition, both(_follows(subgraphs, link.giver, link.reader), equal(readers[link.giver], 1)))
        linked = both(linked, both(negate(first.gives_output), together[link.reader] >= room))
        linked = both(linked, both(equal(first.workload.adds, 0), equal(second.workload.adds, 0)))
        lowest = needed.get(link.giver, 0) + _lowest(stored[link.giver], first.workload, second.workload)
        linked = both(linked, lowest <= room)
        if not never(linked):
            needed[link.reader] = where(linked, lowest, needed.get(link.reader, 0))
            found.append(link._replace(condition=linked))
    return found


def _follows(subgraphs: Sequence[Subgraph], giver: int, reader: int) -> Value:
    """Whether nothing runs between two subgraphs."""
    alone: Value = True
    for part in subgraphs[giver + 1 : reader]:
        alone = both(alone, negate(part.presence))
    return alone


def _lowest(size: Value, giver: Workload, reader: Workload) -> Value:
    """Elements of the lowest stripe of a tensor that a reader can work with: what it needs for one of its rows, twice,
    as the giver writes while the reader reads."""
    rows = 2 * (reader.dilation_height * (reader.kernel_height - 1) + 1)
    return size // giver.out_height * minimum(rows, giver.out_height)


def _sum(before: Value, own: Value) -> Value:
    return before + own


def _spread(run: Sequence[Link], values: Values, combine: Callable[[Value, Value], Value]) -> dict[int, Value]:
    """For every member what `combine` makes of the values of its whole run, from the first to the last."""
    found = dict(values)
    for giver, reader, condition in run:
        found[reader] = where(condition, combine(found[giver], found[reader]), found[reader])
    for giver, reader, condition in reversed(run):
        found[giver] = where(condition, found[reader], found[giver])
    return found


def _kept(run: Sequence[Link], own: Values, fits: Callable[[int, Value], Value]) -> dict[int, Value]:
    """Under which codes every member's weights stay, one after the other; `fits` says it from the number of a member
    and what weights before it in its run take."""
    taken: dict[int, Value] = dict.fromkeys(own, 0)
    found: dict[int, Value] = {}
    entering: dict[int, list[Link]] = {}
    for link in run:
        entering.setdefault(link.reader, []).append(link)
    for number in own:
        for giver, _, condition in entering.get(number, ()):
            taken[number] = where(condition, taken[giver] + where(found[giver], own[giver], 0), taken[number])
        found[number] = fits(number, taken[number])
    return found


class _Held(NamedTuple):
    """What the tensors in stripes of a run take: twice what their readers need, `each` element for a row of the last
    output out of `rows`, and `overlap` however high stripes are."""

    each: Values
    overlap: Values
    rows: Values

    @classmethod
    def of(cls, subgraphs: Sequence[Subgraph], run: Sequence[Link], stored: Sequence[Value], rows: Values) -> _Held:
        each: dict[int, Value] = dict.fromkeys(rows, 0)
        overlap = dict(each)
        for link in run:
            size, more = _double(subgraphs, link, stored)
            each[link.reader] = where(link.condition, size, each[link.reader])
            overlap[link.reader] = where(link.condition, more, overlap[link.reader])
        return cls(_spread(run, each, _sum), _spread(run, overlap, _sum), rows)

    def at(self, number: int, height: Value) -> Value:
        """Elements for stripes of so many rows of the last output."""
        return self.each[number] * height // self.rows[number] + self.overlap[number]


def _double(subgraphs: Sequence[Subgraph], link: Link, stored: Sequence[Value]) -> tuple[Value, Value]:
    """Elements of a tensor, and those of the rows that its reader needs beyond its own, twice."""
    work = subgraphs[link.reader].workload
    reach = work.dilation_height * (work.kernel_height - 1) + 1 - work.stride_height
    return 2 * stored[link.giver], 2 * reach * (stored[link.giver] // work.in_height)


def _grown(
    subgraphs: Sequence[Subgraph],
    whole: Sequence[Link],
    stored: Sequence[Value],
    rows: Values,
    weights: Values,
    lonely: Values,
    room: int,
) -> tuple[list[Link], dict[int, Value]]:
    """Runs with the highest stripes for which there is room, and their heights as rows of the last output.

    A run is parted where its next stripes but the lowest find no room together with the `weights`; from there on it
    grows until it would have to be parted more often, or until a member would be by itself for which there is no room
    (`lonely`). Where the next stripes already find none, the lowest remain. Of stripes there are at least two.
    """

    def parted(heights: Values) -> tuple[list[Link], dict[int, Value], dict[int, Value]]:
        taken = dict(weights)
        links: list[Link] = []
        for link in whole:
            size, overlap = _double(subgraphs, link, stored)
            more = taken[link.giver] + size * heights[link.reader] // rows[link.reader] + overlap + weights[link.reader]
            goes_on = both(link.condition, more <= room)
            taken[link.reader] = where(goes_on, more, taken[link.reader])
            links.append(link._replace(condition=goes_on))
        takes, gives = _ends(links, rows)
        begins = {number: where(both(gives[number], negate(takes[number])), 1, 0) for number in rows}
        alone = {number: both(lonely[number], negate(either(takes[number], gives[number]))) for number in rows}
        return links, _spread(whole, begins, _sum), _spread(whole, alone, either)

    low: dict[int, Value] = dict.fromkeys(rows, NEXT)
    _, runs, alone = parted(low)
    high: dict[int, Value] = {number: maximum(rows[number] // 2, NEXT) for number in rows}
    for _ in range(_largest(high.values()).bit_length()):
        middle = {number: (low[number] + high[number] + 1) // 2 for number in rows}
        _, more, left = parted(middle)
        for number in rows:
            fits = both(more[number] <= runs[number], negate(left[number]))
            low[number] = where(fits, middle[number], low[number])
            high[number] = where(fits, high[number], middle[number] - 1)
    heights = {n: where(either(alone[n], rows[n] < 2 * NEXT), LOWEST, low[n]) for n in rows}
    links, _, _ = parted(low)
    return [
        link._replace(condition=where(alone[link.giver], link.condition, part.condition))
        for link, part in zip(whole, links, strict=True)
    ], heights


def _largest(values: Iterable[Value]) -> int:
    """The largest that any of the values may be."""
    return max(int(np.max(value.values if isinstance(value, Choice) else value)) for value in values)


def _ends(run: Sequence[Link], members: Collection[int]) -> tuple[dict[int, Value], dict[int, Value]]:
    """Under which codes every member takes its input in stripes, and gives its output so."""
    takes: dict[int, Value] = dict.fromkeys(members, False)
    gives = dict(takes)
    for giver, reader, condition in run:
        takes[reader] = either(takes[reader], condition)
        gives[giver] = either(gives[giver], condition)
    return takes, gives
