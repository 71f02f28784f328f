"""A network as a target runs it: cut as it fuses, with weights as it stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chipfit.graph.graph import Graph
from chipfit.graph.memory import Step, copying_the_rest, liveness, parts_in_place
from chipfit.graph.neighbours import with_neighbours
from chipfit.graph.subgraphs import Subgraph, cut
from chipfit.measure.compression import stored_share
from chipfit.measure.stored import coded_share, stored_bytes
from chipfit.nets.network import Network, quantised_weights
from chipfit.targets.target import Precision, Target


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
    return _in_memory(graph_of(model), subgraphs, steps, target)


def laid_out(model: Graph | Network, target: Target) -> Laid:
    """The subgraphs as `subgraphs_of` gives them, with what is alive during each."""
    subgraphs = _cut(model, target)
    steps = steps_of(graph_of(model), subgraphs, target)
    return Laid(_in_memory(graph_of(model), subgraphs, steps, target), steps)


def steps_of(graph: Graph, subgraphs: Sequence[Subgraph], target: Target) -> tuple[Step, ...]:
    """What is alive during each of the subgraphs, in the order in which they are given."""
    return liveness(graph, subgraphs, target.layout.channel_block, target.layout.in_place)


def _cut(model: Graph | Network, target: Target) -> tuple[Subgraph, ...]:
    """The subgraphs as the target fuses them, with what it makes of their weights."""
    layout, precision = target.layout, target.precision()
    subgraphs = cut(graph_of(model), target.fuses, layout.plain)
    if layout.stored_share == 1:
        return subgraphs
    own = model.weights if isinstance(model, Network) and not model.graph.decisions else {}
    return tuple([_coded(target, precision, part, own.get(f"{part.name}.weight")) for part in subgraphs])


def _in_memory(
    graph: Graph, subgraphs: tuple[Subgraph, ...], steps: Sequence[Step], target: Target
) -> tuple[Subgraph, ...]:
    """The subgraphs with what lies around them, where the target says that it counts."""
    layout, precision = target.layout, target.precision()
    parts = parts_in_place(graph, subgraphs) if "copy" in layout.in_place else {}
    subgraphs = copying_the_rest(graph, subgraphs, parts)
    if not layout.striped:
        return subgraphs
    elements = precision.activation_bits // 8
    weights = [stored_bytes(precision, part.workload) // elements for part in subgraphs]
    room = target.memory.on_chip_bytes // elements
    return with_neighbours(subgraphs, steps, layout.channel_block, layout.striped, room, weights, parts)


def _coded(target: Target, precision: Precision, part: Subgraph, weights: NDArray[np.float32] | None) -> Subgraph:
    """A subgraph that says what its weights take, by their own values where there are any."""
    own = target.layout.stored_share
    if weights is not None and weights.ndim >= 2:
        own = stored_share(quantised_weights(weights))
    share = coded_share(target, precision, part.workload, own)
    return part._replace(workload=part.workload._replace(stored_share=share))
