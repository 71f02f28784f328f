"""Peak activation memory by exact liveness: at every step, the tensors that are still needed, in execution order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chipfit.graph.graph import Graph
from chipfit.graph.ops import Concat, product
from chipfit.graph.subgraphs import Subgraph, producers
from chipfit.graph.values import Value, always, both, ceil_div, either, equal, maximum, negate, never, where
from chipfit.graph.workload import COMPOSITE, plane, uneven


class Live(NamedTuple):
    """A tensor that is alive during a step: the key of the subgraph or graph input that gives it, and its elements.

    `elements` is 0 under the codes where it is not alive.
    """

    tensor: str
    elements: Value


class Step(NamedTuple):
    """The execution of one subgraph: everything that has to be in memory meanwhile."""

    subgraph: str
    alive: tuple[Live, ...]


def liveness(
    graph: Graph, subgraphs: Sequence[Subgraph], block: int = 1, in_place: Collection[str] = ()
) -> tuple[Step, ...]:
    """What is alive during each subgraph: its inputs, its output, and all that a later one still reads.

    `subgraphs` come from `cut`, in execution order. Inputs of the network are alive from the start to their last
    use, outputs to the end. Weights are not counted. Tensors inside the network take whole blocks of `block` channels,
    unless they lie without blocks (`Workload.plain_output`). `in_place` are workload kinds that share memory: the
    result of an "elementwise" one takes the place of an operand of its shape that nobody reads any more, and what a
    "copy" puts side by side is written where the whole will lie, if nobody else reads it.
    """
    parts = parts_in_place(graph, subgraphs) if "copy" in in_place else None
    sizes = _sizes(graph, subgraphs, block, parts)
    inputs = {item.key for item in graph.inputs}
    needed = _outputs(graph, subgraphs, inputs, sizes)
    opened: dict[str, dict[str, Value]] = {}
    for operand, (whole, condition) in (parts or {}).items():
        opened.setdefault(whole, {})[operand] = condition
    steps: list[Step] = []
    for subgraph in reversed(subgraphs):
        name = subgraph.name
        own = sizes[name]
        if subgraph.workload.kind == "elementwise" and "elementwise" in in_place:
            own = where(_overwrites(graph, subgraph, needed, sizes, inputs), 0, own)
        elif parts and name in parts:
            own = _meanwhile(subgraph, own, parts[name][1], block)
        for source, condition in subgraph.reads:
            needed[source] = either(needed.get(source, False), condition)
        alive = [Live(name, where(subgraph.presence, own, 0))]
        for tensor, condition in needed.items():
            held = both(subgraph.presence, condition)
            if tensor != name and not never(held):
                alive.append(Live(tensor, where(held, sizes[tensor], 0)))
        needed.pop(name, None)
        # A whole that parts are written into is there from the first of them on.
        if name in opened:
            needed[name] = _any(opened[name].values())
        elif parts and name in parts:
            whole = parts[name][0]
            del opened[whole][name]
            needed[whole] = _any(opened[whole].values())
        steps.append(Step(name, tuple(alive)))
    return tuple(reversed(steps))


def _any(conditions: Iterable[Value]) -> Value:
    found: Value = False
    for condition in conditions:
        found = either(found, condition)
    return found


def _meanwhile(subgraph: Subgraph, own: Value, within: Value, block: int) -> Value:
    """What a part of another tensor takes while it is computed: activations of several steps keep the first's result,
    which lies where their own will unless that is elsewhere."""
    load = subgraph.workload
    if load.kind != "activation" or never(equal(load.activation, COMPOSITE)):
        return own
    return where(both(within, equal(load.activation, COMPOSITE)), _blocked(subgraph, block, False), own)


def _outputs(
    graph: Graph, subgraphs: Sequence[Subgraph], inputs: set[str], sizes: Mapping[str, Value]
) -> dict[str, Value]:
    """The tensors that are needed after the last step, with the codes under which they are."""
    needed: dict[str, Value] = {item.name: item.gives_output for item in subgraphs if not never(item.gives_output)}
    if any(key not in sizes or key in inputs for key in graph.outputs):
        given = producers(graph)
        for edge in (edge for key in graph.outputs for edge in given[key] if edge.source in inputs):
            needed[edge.source] = either(needed.get(edge.source, False), edge.condition)
    return needed


def _overwrites(
    graph: Graph, subgraph: Subgraph, needed: Mapping[str, Value], sizes: Mapping[str, Value], inputs: set[str]
) -> Value:
    """Under which codes the result of an element-wise operator lies where an operand did.

    `needed` are the tensors that later steps read. Operands must all have the result's shape, and the two tensors the
    same layout.
    """
    node = graph.by_key[subgraph.name]
    alike: Value = True
    for shape in graph.input_shapes(node):
        alike = both(alike, equal(product(shape), subgraph.workload.out_elements))
    found: Value = False
    for source, condition in subgraph.reads:
        if source not in inputs:
            free = both(condition, negate(needed.get(source, False)))
            found = either(found, both(free, equal(sizes[source], sizes[subgraph.name])))
    return both(both(found, alike), negate(subgraph.gives_output))


Parts = Mapping[str, tuple[str, Value]]
"""For tensors that are written where a concatenation will lie: the concatenation, and under which codes."""


def copying_the_rest(graph: Graph, subgraphs: Sequence[Subgraph], parts: Parts) -> tuple[Subgraph, ...]:
    """The subgraphs, their concatenations reading no more than what is not written in place before."""
    by_name = {subgraph.name: subgraph.workload for subgraph in subgraphs}
    wholes = {whole for whole, _ in parts.values()}
    found: list[Subgraph] = []
    for subgraph in subgraphs:
        if subgraph.name in wholes:
            node, load = graph.by_key[subgraph.name], subgraph.workload
            shapes = graph.input_shapes(node)
            elements, channels = load.in_elements, sum([plane(shape)[2] for shape in shapes], start=0)
            for source, condition in subgraph.reads:
                whole, within = parts.get(source, ("", False))
                if whole == subgraph.name:
                    there = both(condition, within)
                    elements = elements - where(there, by_name[source].out_elements, 0)
                    channels = channels - where(there, by_name[source].out_channels, 0)
            load = load._replace(in_elements=elements, in_channels=maximum(channels, 1))
            subgraph = subgraph._replace(workload=load)
        found.append(subgraph)
    return tuple(found)


def parts_in_place(graph: Graph, subgraphs: Sequence[Subgraph]) -> dict[str, tuple[str, Value]]:
    """What is written where a concatenation will lie: what one concatenation alone reads and an operator computes,
    once."""
    if not any(isinstance(graph.by_key[subgraph.name].op, Concat) for subgraph in subgraphs):
        return {}
    readers: dict[str, list[tuple[Subgraph, Value]]] = {}
    for subgraph in subgraphs:
        for source, condition in subgraph.reads:
            readers.setdefault(source, []).append((subgraph, both(subgraph.presence, condition)))
    found: dict[str, tuple[str, Value]] = {}
    for subgraph in subgraphs:
        reading = readers.get(subgraph.name, [])
        wholes = [(reader, taken) for reader, taken in reading if isinstance(graph.by_key[reader.name].op, Concat)]
        if len(wholes) != 1 or subgraph.workload.kind == "copy":
            continue
        ((whole, condition),) = wholes
        for reader, taken in reading:
            if reader is not whole:
                condition = both(condition, negate(taken))
        condition = both(condition, negate(subgraph.gives_output))
        if not never(condition):
            found[subgraph.name] = (whole.name, condition)
    return found


@dataclass(frozen=True, slots=True)
class Peak:
    """The step of a closed network that needs most memory: elements, the step, and the tensors alive at it."""

    elements: int
    subgraph: str
    tensors: tuple[tuple[str, int], ...]


def stored_elements(subgraph: Subgraph, block: int = 1) -> Value:
    """Elements that the output of a subgraph takes in memory, with its channels in blocks."""
    return _blocked(subgraph, block, subgraph.workload.plain_output)


def _blocked(subgraph: Subgraph, block: int, plain: Value) -> Value:
    load = subgraph.workload
    if block == 1 or always(plain):
        return load.out_elements
    padded = load.out_elements // load.out_channels * (ceil_div(load.out_channels, block) * block)
    return where(plain, load.out_elements, padded)


def _sizes(graph: Graph, subgraphs: Sequence[Subgraph], block: int, parts: Parts | None) -> dict[str, Value]:
    """Elements that every tensor takes in memory for itself: none where it is part of another one."""
    sizes = {item.key: product(item.shape) for item in graph.inputs}
    copied: set[str] = set()
    for subgraph in subgraphs:
        node, plain = graph.by_key[subgraph.name], subgraph.workload.plain_output
        if isinstance(node.op, Concat):
            # Parts that begin inside a block leave no blocks to the whole; what is copied into it keeps its own.
            plain = either(plain, uneven(node, graph.input_shapes(node)))
            copied.update(source for source, _ in subgraph.reads)
        sizes[subgraph.name] = _blocked(subgraph, block, plain)
    if parts is None:
        return sizes
    for subgraph in subgraphs:
        if subgraph.name in copied and subgraph.workload.kind != "copy":
            within = parts[subgraph.name][1] if subgraph.name in parts else False
            sizes[subgraph.name] = where(within, 0, _blocked(subgraph, block, subgraph.gives_output))
    return sizes


def peak(graph: Graph, subgraphs: Sequence[Subgraph], block: int = 1, in_place: Collection[str] = ()) -> Peak:
    """The peak of a closed graph, in elements; the first step that reaches it, largest tensor first."""
    best = Peak(0, "", ())
    for step in liveness(graph, subgraphs, block, in_place):
        total = sum([int(live.elements) for live in step.alive])  # type: ignore[arg-type]
        if total > best.elements:
            tensors = sorted(((live.tensor, int(live.elements)) for live in step.alive), key=lambda item: -item[1])  # type: ignore[arg-type]
            best = Peak(total, step.subgraph, tuple(tensors))
    return best
