from collections.abc import Callable

import numpy as np
import pytest
import torch

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Activation, BatchNorm
from chipfit.graph.shapes import product
from chipfit.graph.tables import TableSum
from chipfit.graph.totals import macs, parameters
from chipfit.graph.values import Value, where
from chipfit.nets.module import GraphModule
from chipfit.nets.network import initialise
from chipfit.spaces.published.fbnet import BLOCKS, LAYERS, code_of, space

Rows = list[dict[str, str]]


def beside_macs(graph: Graph) -> TableSum:
    """What the table counts beside multiply-accumulates: 2 per normalised number, 1 per ReLU but for an expansion's."""
    terms: list[tuple[Value, ...]] = []
    for node in graph.nodes:
        size = product(graph.input_shapes(node)[0])
        count: Value = 0
        if isinstance(node.op, BatchNorm):
            count = 2 * size
        elif (isinstance(node.op, Activation) and not node.key.endswith("expand.act")) or node.key == "pool":
            count = size
        terms.append((where(graph.presence[node.key], count, 0),))
    return TableSum.of(terms, graph.decisions)


def test_counts_are_those_of_the_table_for_every_network(rows: Callable[[str], Rows]) -> None:
    table = rows("help_fbnet_latency_ms")
    codes = np.array([code_of(row["arch"]) for row in table])
    graph = space()
    assert parameters(graph).at(codes)[:, 0].tolist() == [float(row["params"]) for row in table]
    counted = macs(graph).at(codes)[:, 0] + beside_macs(graph).at(codes)[:, 0]
    assert counted.tolist() == [float(row["flops"]) for row in table]


def test_a_closed_network_runs() -> None:
    graph = space(classes=7, resolution=16)
    for number in range(len(BLOCKS)):
        closed = graph.close((number,) * len(LAYERS))
        module = GraphModule(closed, initialise(closed, np.random.default_rng(0))).eval()
        assert module(torch.randn(2, 3, 16, 16)).shape == (2, 7)


@pytest.mark.parametrize("text", ["", "1_2_3", "_".join(["9"] * 22), "_".join([""] * 22)])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="FBNet"):
        code_of(text)
