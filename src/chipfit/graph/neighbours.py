"""Which tensors of a network stay in a small memory: where a chip has little, the steps around a subgraph decide.

Compilers for such chips work on neighbouring operators in stripes where a whole tensor between them finds no room, and
leave outside what does not fit beside the rest. The rules here look at a subgraph and the steps next to it only, so
that a table over open decisions stays small: compilers also weigh tensors against each other, and do otherwise in about
one case of ten.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from chipfit.graph.memory import Parts, Step, stored_elements
from chipfit.graph.stripes import Link, stripes
from chipfit.graph.subgraphs import Subgraph
from chipfit.graph.values import Value, always, both, either, equal, minimum, negate, never, where
from chipfit.graph.workload import COMPOSITE, RESIZES

TAKES, GIVES = 1, 2
"""What `Workload.striped` adds up: the input, the output is only there in stripes."""

ONE_PIECE = 96
"""Pixels of an output up to which an operator is mostly worked on in one piece, and reads its weights once."""


def with_neighbours(
    subgraphs: Sequence[Subgraph],
    steps: Sequence[Step],
    block: int,
    striped: Collection[str],
    room: int,
    weights: Sequence[Value],
    parts: Parts,
) -> tuple[Subgraph, ...]:
    """The subgraphs, their workloads with all that lies around them (`Workload`, from `far_input` on).

    `subgraphs` come from `cut`, `steps` say what is alive during each of them (`memory.liveness`); tensors take whole
    blocks of `block` channels, and the chip has room for `room` elements at a time. `striped` are the workload kinds
    that can be worked on in stripes together with their neighbours; `weights` says how many elements the weights of
    every subgraph take; `parts` are written in place into a concatenation (`memory.parts_in_place`).
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
        where(either(stripe.takes, stripe.gives), stripe.held, _buffer(part, own, room))
        for part, stripe, own in zip(subgraphs, worked, weights, strict=True)
    ]
    whole = [
        {name: where(gives[place[name]], 0, size) for name, size in step.items() if name in place} for step in alive
    ]
    far = _far(subgraphs, links, gives, _crowded_out(whole, buffers, room), parts)
    found: list[Subgraph] = []
    far_inputs: list[Value] = []
    beside: list[Value] = []
    for part, step in zip(subgraphs, alive, strict=True):
        far_input: Value = False
        near = {part.name}
        for source, condition in part.reads:
            whole, within = parts.get(source, ("", False))
            read = both(condition, negate(within)) if whole == part.name else condition
            far_input = either(far_input, both(read, far[place[source]] if source in place else True))
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
            far_output=_times_outside(subgraphs, place, parts, number, far[number]),
            striped=where(stripe.takes, TAKES, 0) + where(stripe.gives, GIVES, 0),
            stripe_height=stripe.height,
            beside=beside[number],
            streamed=stripe.streamed,
        )
        found.append(part._replace(workload=workload))
    return tuple(found)


def _times_outside(
    subgraphs: Sequence[Subgraph], place: Mapping[str, int], parts: Parts, number: int, far: Value
) -> Value:
    """How many times its output a subgraph writes outside: bilinear resizes into a part of a concatenation write, by
    what compilers count, as many channels as the whole has."""
    part = subgraphs[number]
    if part.workload.kind != "resize" or part.name not in parts:
        return far
    whole, within = parts[part.name]
    channels = subgraphs[place[whole]].workload.out_channels
    bilinear = equal(part.workload.function, RESIZES.index("bilinear"))
    return where(both(far, both(within, bilinear)), channels / part.workload.out_channels, where(far, 1, 0))


def _buffer(part: Subgraph, weights: Value, room: int) -> Value:
    """Elements that the weights of an operator take beside its tensors: none where they are read only once anyway."""
    load = part.workload
    return where(load.out_height * load.out_width <= ONE_PIECE, 0, minimum(weights, 3 * room // 4))


def _crowded_out(whole: Sequence[Mapping[str, Value]], buffers: Sequence[Value], room: int) -> dict[str, Value]:
    """Under which codes tensors find no room at some step: beside the weights alone, or beside larger tensors too.

    `whole` are the elements of the tensors that are alive at every step, `buffers` those that its weights take.
    """
    alone: dict[str, Value] = {}
    for step, buffer in zip(whole, buffers, strict=True):
        for name, size in step.items():
            alone[name] = either(alone.get(name, False), both(size > 0, size + buffer > room))
    contests = _contests(whole, buffers, room, alone)
    away: dict[str, Value] = dict.fromkeys(alone, False)
    # What is crowded out itself is in nobody's way: each round settles the largest of those that are not settled yet.
    while True:
        found = dict(alone)
        for name, size, beside in contests:
            larger = sum((where(away[rival], 0, more) for rival, more in beside if rival), start=beside[0][1])
            found[name] = either(found[name], both(size > 0, larger + size > room))
        if all(always(equal(found[name], away[name])) for name in found):
            return found
        away = found


def _contests(
    whole: Sequence[Mapping[str, Value]], buffers: Sequence[Value], room: int, alone: Mapping[str, Value]
) -> list[tuple[str, Value, list[tuple[str, Value]]]]:
    """Every tensor of every step in which not all find room, with its size and what is there beside it: first what
    weights take, without a name, then every tensor that is larger, where it is."""
    order = {name: place for place, name in enumerate(alone)}
    found: list[tuple[str, Value, list[tuple[str, Value]]]] = []
    for step, buffer in zip(whole, buffers, strict=True):
        fitting = [(name, where(alone[name], 0, size)) for name, size in step.items()]
        if never(sum((size for _, size in fitting), start=buffer) > room):
            continue
        for name, size in fitting:
            beside: list[tuple[str, Value]] = [("", buffer)]
            for rival, more in fitting:
                if rival != name:
                    larger = more >= size if order[rival] < order[name] else more > size
                    beside.append((rival, where(larger, more, 0)))
            found.append((name, size, beside))
    return found


def _far(
    subgraphs: Sequence[Subgraph],
    links: Sequence[Link],
    gives: Sequence[Value],
    crowded_out: Mapping[str, Value],
    parts: Parts,
) -> list[Value]:
    """Under which codes every output lies outside: what leaves the network, what finds no room, parts that are
    written in place into such a tensor, and what is combined with one."""
    far: list[Value] = [
        both(crowded_out.get(part.name, False), negate(given)) for part, given in zip(subgraphs, gives, strict=True)
    ]
    reading: list[list[Link]] = [[] for _ in subgraphs]
    for link in links:
        reading[link.giver].append(link)
    for number in reversed(range(len(subgraphs))):
        whole, within = parts.get(subgraphs[number].name, ("", False))
        for link in reading[number]:
            if subgraphs[link.reader].name == whole:
                far[number] = either(far[number], both(both(link.condition, within), far[link.reader]))
        far[number] = either(subgraphs[number].gives_output, far[number])
    for link in links:
        load = subgraphs[link.reader].workload
        if load.kind == "activation":
            # A function of several steps combines what it reads with the results of the steps before, in one place.
            together = both(link.condition, equal(load.activation, COMPOSITE))
            apart = either(far[link.giver], far[link.reader])
            far[link.giver] = where(together, apart, far[link.giver])
            far[link.reader] = where(together, apart, far[link.reader])
    return far
