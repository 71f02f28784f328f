"""What in a graph does not grow with the batch."""

from __future__ import annotations

from chipfit.graph.graph import Graph


def without_batch(graph: Graph) -> frozenset[str]:
    """Tensors that follow from constants alone: their batch is 1 whatever the inputs have."""
    fixed: set[str] = set()
    for node in graph.nodes:
        if all(name in fixed for name in node.inputs):
            fixed.add(node.key)
    return frozenset(fixed)
