"""Which tensors of a network stay in a small memory: where a chip has little, the steps around a subgraph decide.

Compilers for such chips work on neighbouring operators in stripes where a whole tensor between them finds no room, and
leave outside what does not fit beside the rest. The rules here look at a subgraph and the steps next to it only, so
that a table over open decisions stays small: compilers also weigh tensors against each other, and do otherwise in about
one case of ten.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from chipfit.graph.memory import Step, stored_elements
from chipfit.graph.stripes import Link, stripes
from chipfit.graph.subgraphs import Subgraph
from chipfit.graph.values import Value, both, either, minimum, negate, where

TAKES, GIVES = 1, 2
"""What `Workload.striped` adds up: the input, the output is only there in stripes."""


def with_neighbours(
    subgraphs: Sequence[Subgraph],
    steps: Sequence[Step],
    block: int,
    striped: Collection[str],
    room: int,
    weights: Sequence[Value],
) -> tuple[Subgraph, ...]:
    """The subgraphs, their workloads with all that lies around them (`Workload`, from `far_input` on).

    `subgraphs` come from `cut`, `steps` say what is alive during each of them (`memory.liveness`); tensors take whole
    blocks of `block` channels, and the chip has room for `room` elements at a time. `striped` are the workload kinds
    that can be worked on in stripes together with their neighbours; `weights` says how many elements the weights of
    every subgraph take.
    """
    place = {part.name: number for number, part in enumerate(subgraphs)}
    alive = [dict(step.alive) for step in steps]
    own = [
        sum([held.get(source, 0) for source, _ in part.reads], start=held[part.name])
        for part, held in zip(subgraphs, alive, strict=True)
    ]
    links = [
        Link(place[source], reader, both(part.presence, condition))
        for reader, part in enumerate(subgraphs)
        for source, condition in part.reads
        if source in place
    ]
    stored = [stored_elements(part, block) for part in subgraphs]
    worked = stripes(subgraphs, links, striped, own, stored, weights, room)
    gives = [stripe.gives for stripe in worked]
    buffers = [
        where(either(stripe.takes, stripe.gives), stripe.held, minimum(own, room // 2))
        for stripe, own in zip(worked, weights, strict=True)
    ]
    fitting = _small(subgraphs, links, buffers, alive, room)
    small = [both(negate(given), fits) for given, fits in zip(gives, fitting, strict=True)]
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
    for number, (part, stripe) in enumerate(zip(subgraphs, worked, strict=True)):
        workload = part.workload._replace(
            far_input=far_inputs[number],
            far_output=far[number],
            striped=where(stripe.takes, TAKES, 0) + where(stripe.gives, GIVES, 0),
            stripe_height=stripe.height,
            beside=beside[number],
            streamed=stripe.streamed,
        )
        found.append(part._replace(workload=workload))
    return tuple(found)


def _small(
    subgraphs: Sequence[Subgraph],
    links: Sequence[Link],
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
    links: Sequence[Link],
    gives: Sequence[Value],
    small: Sequence[Value],
    held: Sequence[Value],
    room: int,
) -> list[Value]:
    """Under which codes every output lies outside: what finds no room in a step that writes or reads it, and parts that
    are written in place into such a tensor."""
    far: list[Value] = [False] * len(subgraphs)
    reading: list[list[Link]] = [[] for _ in subgraphs]
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
