"""A network as a target runs it: cut as it fuses, with weights as it stores them."""

from __future__ import annotations

from chipfit.graph.graph import Graph
from chipfit.graph.neighbours import with_neighbours
from chipfit.graph.subgraphs import Subgraph, cut
from chipfit.measure.compression import stored_share
from chipfit.nets.network import Network, quantised_weights
from chipfit.targets.target import Target


def graph_of(model: Graph | Network) -> Graph:
    """The graph of a model that may come with its weights."""
    return model.graph if isinstance(model, Network) else model


def subgraphs_of(model: Graph | Network, target: Target) -> tuple[Subgraph, ...]:
    """The subgraphs of a model on a target.

    Where the target compresses weights, those of a closed network count as they are, in 8 bits with one scale for each
    output channel; without weights what the target's description assumes. What lies in memory around a subgraph counts
    where the target says so.
    """
    graph, layout = graph_of(model), target.layout
    subgraphs = cut(graph, target.fuses, layout.plain)
    if layout.striped:
        precision = target.precision()
        room, bias = target.memory.on_chip_bytes * 8, precision.bias_bits
        subgraphs = with_neighbours(
            graph,
            subgraphs,
            layout.channel_block,
            layout.striped,
            room // precision.activation_bits,
            layout.in_place,
            bias // precision.activation_bits,
        )
    assumed = layout.stored_share
    if assumed == 1:
        return subgraphs
    own = model.weights if isinstance(model, Network) and not model.graph.decisions else {}
    found: list[Subgraph] = []
    for part in subgraphs:
        weights = own.get(f"{part.name}.weight")
        share = assumed if weights is None or weights.ndim < 2 else stored_share(quantised_weights(weights))
        found.append(part._replace(workload=part.workload._replace(stored_share=share)))
    return tuple(found)
