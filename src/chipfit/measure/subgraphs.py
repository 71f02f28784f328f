"""A network as a target runs it: cut as it fuses, with weights as it stores them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chipfit.graph.graph import Graph
from chipfit.graph.neighbours import with_neighbours
from chipfit.graph.subgraphs import Subgraph, cut
from chipfit.measure.compression import stored_share
from chipfit.measure.stored import coded_share, stored_bytes
from chipfit.nets.network import Network, quantised_weights
from chipfit.targets.target import Precision, Target


def graph_of(model: Graph | Network) -> Graph:
    """The graph of a model that may come with its weights."""
    return model.graph if isinstance(model, Network) else model


def subgraphs_of(model: Graph | Network, target: Target) -> tuple[Subgraph, ...]:
    """The subgraphs of a model on a target.

    Where the target compresses weights, those of a closed network count as they are, in 8 bits with one scale for each
    output channel; without weights what the target's description assumes. What lies in memory around a subgraph counts
    where the target says so.
    """
    graph, layout, precision = graph_of(model), target.layout, target.precision()
    subgraphs = cut(graph, target.fuses, layout.plain)
    if layout.stored_share != 1:
        own = model.weights if isinstance(model, Network) and not model.graph.decisions else {}
        subgraphs = tuple([_coded(target, precision, part, own.get(f"{part.name}.weight")) for part in subgraphs])
    if not layout.striped:
        return subgraphs
    elements = precision.activation_bits // 8
    weights = [stored_bytes(precision, part.workload) // elements for part in subgraphs]
    room = target.memory.on_chip_bytes // elements
    return with_neighbours(graph, subgraphs, layout.channel_block, layout.striped, room, weights, layout.in_place)


def _coded(target: Target, precision: Precision, part: Subgraph, weights: NDArray[np.float32] | None) -> Subgraph:
    """A subgraph that says what its weights take, by their own values where there are any."""
    own = target.layout.stored_share
    if weights is not None and weights.ndim >= 2:
        own = stored_share(quantised_weights(weights))
    share = coded_share(target, precision, part.workload, own)
    return part._replace(workload=part.workload._replace(stored_share=share))
