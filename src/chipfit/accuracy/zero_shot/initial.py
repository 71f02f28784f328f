"""Networks with fresh weights, for scores of networks before training."""

from __future__ import annotations

import numpy as np

from chipfit.graph.graph import Graph
from chipfit.nets.module import GraphModule
from chipfit.nets.network import initialise


def fresh(graph: Graph, seed: int = 0) -> GraphModule:
    """A closed graph as a module with weights drawn from `seed`, as `nets.network.initialise` does (He et al. 2015)."""
    return GraphModule(graph, initialise(graph, np.random.default_rng(seed)))
