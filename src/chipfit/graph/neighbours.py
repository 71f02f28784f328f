"""Which tensors of a network stay in a small memory: where a chip has little, the steps around a subgraph decide.

Compilers for such chips work on neighbouring operators in stripes where a whole tensor between them finds no room, and
leave outside what does not fit beside the rest. The rules here look at a subgraph and the steps next to it only, so
that a table over open decisions stays small: compilers also weigh tensors against each other, and do otherwise in about
one case of ten.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chipfit.graph.memory import Step
from chipfit.graph.subgraphs import Subgraph
from chipfit.graph.values import Value, both, either, equal, maximum, minimum, negate, never, where
from chipfit.graph.workload import Workload

TAKES, GIVES = 1, 2
"""What `Workload.striped` adds up: the input, the output is only there in stripes."""


class _Link(NamedTuple):
    """A tensor between two steps, given by `giver`, read by `reader`, under `condition`."""

    giver: int
    reader: int
    condition: Value


def with_neighbours(
    subgraphs: Sequence[Subgraph], steps: Sequence[Step], striped: Collection[str], room: int, bias: int = 4
) -> tuple[Subgraph, ...]:
    """The subgraphs, their workloads with `far_input`, `far_output`, `striped`, `stripe_height`, `beside` and `rolled`.

    `subgraphs` come from `cut`, `steps` say what is alive during each of them (`memory.liveness`), and the chip has
    room for `room` elements at a time. `striped` are the workload kinds that can be worked on in stripes together with
    their neighbours; a bias counts as `bias` elements.
    """
    place = {part.name: number for number, part in enumerate(subgraphs)}
    alive = [dict(step.alive) for step in steps]
    own = [
        sum([held.get(source, 0) for source, _ in part.reads], start=held[part.name])
        for part, held in zip(subgraphs, alive, strict=True)
    ]
    links = [
        _Link(place[source], reader, both(part.presence, condition))
        for reader, part in enumerate(subgraphs)
        for source, condition in part.reads
        if source in place
    ]
    takes, gives = _striped(subgraphs, links, striped, own, alive, room)
    buffers = [minimum(part.workload.parameters, room // 2) for part in subgraphs]
    small = _small(subgraphs, links, buffers, alive, room)
    # Stripes are made as high as memory allows, so that a tensor in stripes takes the room of a whole one, or all.
    held = [
        sum([where(small[place[name]], size, 0) for name, size in step.items() if name in place], start=buffer)
        for buffer, step in zip(buffers, alive, strict=True)
    ]
    far = _far(subgraphs, links, gives, small, held, room)
    found: list[Subgraph] = []
    far_inputs: list[Value] = []
    beside: list[Value] = []
    for part, step in zip(subgraphs, alive, strict=True):
        far_input: Value = False
        near = {part.name}
        for source, condition in part.reads:
            far_input = either(far_input, both(condition, far[place[source]] if source in place else True))
            near.add(source)
        far_inputs.append(far_input)
        waiting: Value = 0
        for name, size in step.items():
            if name in place and name not in near:
                waiting = waiting + where(far[place[name]], 0, size)
        beside.append(waiting)
    stripes = _stripes(subgraphs, _Run.of(links, takes, gives), alive, beside, room, bias)
    for number, (part, stripe) in enumerate(zip(subgraphs, stripes, strict=True)):
        workload = part.workload._replace(
            far_input=far_inputs[number],
            far_output=far[number],
            striped=where(takes[number], TAKES, 0) + where(gives[number], GIVES, 0),
            stripe_height=stripe.height,
            beside=beside[number],
            rolled=stripe.held,
        )
        found.append(part._replace(workload=workload))
    return tuple(found)


def _striped(
    subgraphs: Sequence[Subgraph],
    links: Sequence[_Link],
    striped: Collection[str],
    own: Sequence[Value],
    alive: Sequence[Mapping[str, Value]],
    room: int,
) -> tuple[list[Value], list[Value]]:
    """Under which codes every subgraph takes its input in stripes, and gives its output so.

    That is so between two that run one after the other and share a tensor with nobody else, where the second finds no
    room for all that it reads and writes, as long as the lowest stripes of a whole run do. An element-wise operator may
    begin a run.
    """
    takes: list[Value] = [False] * len(subgraphs)
    gives: list[Value] = [False] * len(subgraphs)
    run: list[Value] = [0] * len(subgraphs)
    readers: list[Value] = [0] * len(subgraphs)
    begins = {*striped, "elementwise"}
    for link in links:
        readers[link.giver] = readers[link.giver] + where(link.condition, 1, 0)
    for link in links:
        first, second = subgraphs[link.giver], subgraphs[link.reader]
        if first.workload.kind not in begins or second.workload.kind not in striped:
            continue
        linked = both(link.condition, both(_follows(subgraphs, link.giver, link.reader), equal(readers[link.giver], 1)))
        linked = both(linked, both(negate(first.gives_output), own[link.reader] > room))
        if never(linked):
            continue
        linked = both(linked, both(equal(first.workload.adds, 0), equal(second.workload.adds, 0)))
        needed = run[link.giver] + _lowest(alive[link.giver][first.name], first.workload, second.workload)
        linked = both(linked, needed <= room)
        if not never(linked):
            run[link.reader] = where(linked, needed, run[link.reader])
            takes[link.reader] = either(takes[link.reader], linked)
            gives[link.giver] = either(gives[link.giver], linked)
    return takes, gives


def _lowest(size: Value, giver: Workload, reader: Workload) -> Value:
    """Elements of the lowest stripe of a tensor that a reader can work with: what it needs for one of its rows, twice,
    as the giver writes while the reader reads."""
    rows = 2 * (reader.dilation_height * (reader.kernel_height - 1) + 1)
    return size // giver.out_height * minimum(rows, giver.out_height)


class _Stripe(NamedTuple):
    """How high the stripes of a subgraph's output are, 0 where it is whole, and what those of its run take with its
    weights."""

    height: Value
    held: Value


@dataclass(frozen=True, slots=True)
class _Run:
    """Subgraphs that are worked on in stripes together: each takes its input from the one before it. `links` are those
    inside of runs, with the condition that they are."""

    links: Sequence[_Link]
    takes: Sequence[Value]
    gives: Sequence[Value]

    @classmethod
    def of(cls, links: Sequence[_Link], takes: Sequence[Value], gives: Sequence[Value]) -> _Run:
        """The runs of subgraphs that take their input in stripes, or give their output so."""
        found: list[_Link] = []
        for link in links:
            joined = both(link.condition, both(gives[link.giver], takes[link.reader]))
            if not never(joined):
                found.append(_Link(link.giver, link.reader, joined))
        return cls(found, takes, gives)

    def total(self, amounts: Sequence[Value]) -> list[Value]:
        """For every subgraph the sum over all of its run."""
        above, below = list(amounts), list(amounts)
        for link in self.links:
            above[link.reader] = above[link.reader] + where(link.condition, above[link.giver], 0)
        for link in reversed(self.links):
            below[link.giver] = below[link.giver] + where(link.condition, below[link.reader], 0)
        return [before + after - own for before, after, own in zip(above, below, amounts, strict=True)]

    def last(self, values: Sequence[Value]) -> list[Value]:
        """For every subgraph the value of the last one of its run."""
        found = list(values)
        for link in reversed(self.links):
            found[link.giver] = where(link.condition, found[link.reader], found[link.giver])
        return found


def _stripes(
    subgraphs: Sequence[Subgraph],
    run: _Run,
    alive: Sequence[Mapping[str, Value]],
    beside: Sequence[Value],
    room: int,
    bias: int,
) -> list[_Stripe]:
    """The stripes of every subgraph: as high as memory allows beside the weights of the run, at most half the output.

    Of a tensor in stripes there is twice what its reader needs for one of its own. Weights that would find no room
    beside the lowest stripes do not count.
    """
    sizes: list[Value] = [0] * len(subgraphs)
    overlaps: list[Value] = [0] * len(subgraphs)
    for link in run.links:
        work = subgraphs[link.reader].workload
        size = where(link.condition, alive[link.giver][subgraphs[link.giver].name], 0)
        reach = work.dilation_height * (work.kernel_height - 1) + 1 - work.stride_height
        sizes[link.reader] = maximum(sizes[link.reader], 2 * size)
        overlaps[link.reader] = maximum(overlaps[link.reader], 2 * reach * (size // work.in_height))
    heights = run.last([part.workload.out_height for part in subgraphs])
    rolled, overlap = run.total(sizes), run.total(overlaps)
    lowest = [size // height + more for size, height, more in zip(rolled, heights, overlap, strict=True)]
    weights = [part.workload.parameters + bias * part.workload.biases for part in subgraphs]
    everything = run.total(weights)
    fitting = run.total([where(least + own <= room, own, 0) for least, own in zip(lowest, weights, strict=True)])
    found: list[_Stripe] = []
    for number, part in enumerate(subgraphs):
        in_stripes = either(run.takes[number], run.gives[number])
        if never(in_stripes):
            found.append(_Stripe(0, 0))
            continue
        counted = where(lowest[number] + everything[number] <= room, everything[number], fitting[number])
        free = maximum(room - beside[number] - overlap[number] - counted, 0)
        most = heights[number] * free // maximum(rolled[number], 1)
        height = maximum(minimum(most, heights[number] // 2), 1)
        own = maximum(height * part.workload.out_height // heights[number], 1)
        held = rolled[number] * height // heights[number] + overlap[number] + maximum(counted, weights[number])
        found.append(_Stripe(where(in_stripes, own, 0), where(in_stripes, held, 0)))
    return found


def _follows(subgraphs: Sequence[Subgraph], giver: int, reader: int) -> Value:
    """Whether nothing runs between two subgraphs."""
    alone: Value = True
    for part in subgraphs[giver + 1 : reader]:
        alone = both(alone, negate(part.presence))
    return alone


def _small(
    subgraphs: Sequence[Subgraph],
    links: Sequence[_Link],
    buffers: Sequence[Value],
    alive: Sequence[Mapping[str, Value]],
    room: int,
) -> list[Value]:
    """Under which codes every output would fit beside the weights of the steps that write and read it."""
    small: list[Value] = [
        step[part.name] + buffer <= room for part, step, buffer in zip(subgraphs, alive, buffers, strict=True)
    ]
    for link in links:
        size = alive[link.giver][subgraphs[link.giver].name]
        fits = either(negate(link.condition), size + buffers[link.reader] <= room)
        small[link.giver] = both(small[link.giver], fits)
    return small


def _far(
    subgraphs: Sequence[Subgraph],
    links: Sequence[_Link],
    gives: Sequence[Value],
    small: Sequence[Value],
    held: Sequence[Value],
    room: int,
) -> list[Value]:
    """Under which codes every output lies outside: what finds no room in a step that writes or reads it, and parts that
    are written in place into such a tensor."""
    far: list[Value] = [False] * len(subgraphs)
    reading: list[list[_Link]] = [[] for _ in subgraphs]
    for link in links:
        reading[link.giver].append(link)
    for number in reversed(range(len(subgraphs))):
        part = subgraphs[number]
        full: Value = either(negate(small[number]), held[number] > room)
        for link in reading[number]:
            full = either(full, both(link.condition, held[link.reader] > room))
            if subgraphs[link.reader].workload.kind == "copy":
                full = either(full, both(link.condition, far[link.reader]))
        far[number] = either(part.gives_output, both(full, negate(gives[number])))
    return far
