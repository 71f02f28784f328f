"""Peak activation memory by exact liveness: at every step, the tensors that are still needed, in execution order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chipfit.graph.graph import Graph
from chipfit.graph.ops import product
from chipfit.graph.subgraphs import Subgraph, producers
from chipfit.graph.values import Value, always, both, ceil_div, either, never, where


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


def liveness(graph: Graph, subgraphs: Sequence[Subgraph], block: int = 1) -> tuple[Step, ...]:
    """What is alive during each subgraph: its inputs, its output, and all that a later one still reads.

    `subgraphs` come from `cut`, in execution order. Inputs of the network are alive from the start to their last
    use, outputs to the end. Weights are not counted. Tensors inside the network take whole blocks of `block` channels,
    unless they lie without blocks (`Workload.plain_output`).
    """
    sizes = {item.key: product(item.shape) for item in graph.inputs}
    sizes |= {item.name: stored_elements(item, block) for item in subgraphs}
    needed: dict[str, Value] = {item.name: item.gives_output for item in subgraphs if not never(item.gives_output)}
    inputs = {item.key for item in graph.inputs}
    if any(key not in sizes or key in inputs for key in graph.outputs):
        given = producers(graph)
        for edge in (edge for key in graph.outputs for edge in given[key] if edge.source in inputs):
            needed[edge.source] = either(needed.get(edge.source, False), edge.condition)
    steps: list[Step] = []
    for subgraph in reversed(subgraphs):
        for source, condition in subgraph.reads:
            needed[source] = either(needed.get(source, False), condition)
        alive = [Live(subgraph.name, where(subgraph.presence, sizes[subgraph.name], 0))]
        for tensor, condition in needed.items():
            held = both(subgraph.presence, condition)
            if tensor != subgraph.name and not never(held):
                alive.append(Live(tensor, where(held, sizes[tensor], 0)))
        needed.pop(subgraph.name, None)
        steps.append(Step(subgraph.name, tuple(alive)))
    return tuple(reversed(steps))


@dataclass(frozen=True, slots=True)
class Peak:
    """The step of a closed network that needs most memory: elements, the step, and the tensors alive at it."""

    elements: int
    subgraph: str
    tensors: tuple[tuple[str, int], ...]


def stored_elements(subgraph: Subgraph, block: int = 1) -> Value:
    """Elements that the output of a subgraph takes in memory, with its channels in blocks."""
    load = subgraph.workload
    if block == 1 or always(load.plain_output):
        return load.out_elements
    padded = load.out_elements // load.out_channels * (ceil_div(load.out_channels, block) * block)
    return where(load.plain_output, load.out_elements, padded)


def peak(graph: Graph, subgraphs: Sequence[Subgraph], block: int = 1) -> Peak:
    """The peak of a closed graph, in elements; the first step that reaches it, largest tensor first."""
    best = Peak(0, "", ())
    for step in liveness(graph, subgraphs, block):
        total = sum([int(live.elements) for live in step.alive])  # type: ignore[arg-type]
        if total > best.elements:
            tensors = sorted(((live.tensor, int(live.elements)) for live in step.alive), key=lambda item: -item[1])  # type: ignore[arg-type]
            best = Peak(total, step.subgraph, tuple(tensors))
    return best
