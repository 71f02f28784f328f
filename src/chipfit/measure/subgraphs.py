"""A network as a target runs it: cut as it fuses, with weights as it stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chipfit.graph.graph import Graph
from chipfit.graph.memory import Step, liveness
from chipfit.graph.neighbours import with_neighbours
from chipfit.graph.subgraphs import Subgraph, cut
from chipfit.measure.compression import stored_share
from chipfit.nets.network import Network, quantised_weights
from chipfit.targets.target import Target


def graph_of(model: Graph | Network) -> Graph:
    """The graph of a model that may come with its weights."""
    return model.graph if isinstance(model, Network) else model


class Laid(NamedTuple):
    """The subgraphs of a model on a target in execution order, and what is alive in memory during each, in elements as
    the target lays tensors."""

    subgraphs: tuple[Subgraph, ...]
    steps: tuple[Step, ...]


def subgraphs_of(model: Graph | Network, target: Target) -> tuple[Subgraph, ...]:
    """The subgraphs of a model on a target.

    Where the target compresses weights, those of a closed network count as they are, in 8 bits with one scale for each
    output channel; without weights what the target's description assumes. What lies in memory around a subgraph counts
    where the target says so.
    """
    subgraphs = _cut(model, target)
    steps = steps_of(graph_of(model), subgraphs, target) if target.layout.striped else ()
    return _in_memory(model, target, subgraphs, steps)


def laid_out(model: Graph | Network, target: Target) -> Laid:
    """The subgraphs as `subgraphs_of` gives them, with what is alive during each."""
    subgraphs = _cut(model, target)
    steps = steps_of(graph_of(model), subgraphs, target)
    return Laid(_in_memory(model, target, subgraphs, steps), steps)


def steps_of(graph: Graph, subgraphs: Sequence[Subgraph], target: Target) -> tuple[Step, ...]:
    """What is alive during each of the subgraphs, in the order in which they are given."""
    return liveness(graph, subgraphs, target.layout.channel_block, target.layout.in_place)


def _cut(model: Graph | Network, target: Target) -> tuple[Subgraph, ...]:
    """The subgraphs as the target fuses them, with the share of weights that its description assumes."""
    return cut(graph_of(model), target.fuses, target.layout.plain, target.layout.stored_share)


def _in_memory(
    model: Graph | Network, target: Target, subgraphs: tuple[Subgraph, ...], steps: Sequence[Step]
) -> tuple[Subgraph, ...]:
    """The subgraphs with what lies around them, and with the weights of a network as they are."""
    layout = target.layout
    if layout.striped:
        precision = target.precision()
        room, bias = target.memory.on_chip_bytes * 8, precision.bias_bits
        each = precision.activation_bits
        subgraphs = with_neighbours(subgraphs, steps, layout.striped, room // each, bias // each)
    if layout.stored_share == 1 or not isinstance(model, Network) or model.graph.decisions:
        return subgraphs
    found: list[Subgraph] = []
    for part in subgraphs:
        weights = model.weights.get(f"{part.name}.weight")
        if weights is not None and weights.ndim >= 2:
            share = stored_share(quantised_weights(weights))
            part = part._replace(workload=part.workload._replace(stored_share=share))
        found.append(part)
    return tuple(found)
