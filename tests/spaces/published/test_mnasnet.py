from collections.abc import Callable

import numpy as np
import pytest
import torch

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph
from chipfit.graph.ops import BatchNorm, GlobalPool
from chipfit.graph.shapes import product
from chipfit.graph.tables import TableSum
from chipfit.graph.totals import macs, parameters
from chipfit.graph.values import Value, where
from chipfit.nets.module import GraphModule
from chipfit.nets.network import initialise
from chipfit.spaces.published.mnasnet import code_of, space

Rows = list[dict[str, str]]


def beside_macs(graph: Graph) -> TableSum:
    """What the table counts beside multiply-accumulates: 4 per normalised number, 1 per number pooled or averaged."""
    terms: list[tuple[Value, ...]] = []
    for node in graph.nodes:
        inputs = graph.input_shapes(node)
        count: Value = 0
        if isinstance(node.op, BatchNorm):
            count = 4 * product(inputs[0])
        elif isinstance(node.op, GlobalPool):
            count = product(inputs[0]) + inputs[0][1]
        terms.append((where(graph.presence[node.key], count, 0),))
    return TableSum.of(terms, graph.decisions)


def test_counts_are_those_of_the_table_for_every_network(rows: Callable[[str], Rows]) -> None:
    table = rows("accel_nasbench")
    codes = np.array([code_of(row) for row in table])
    graph = space()
    wanted = np.array([float(row["params"]) for row in table]) * 1e6
    np.testing.assert_allclose(parameters(graph).at(codes)[:, 0], wanted, atol=0.6)
    wanted = np.array([float(row["macs"]) for row in table]) * 1e6
    counted = macs(graph).at(codes)[:, 0] + beside_macs(graph).at(codes)[:, 0]
    np.testing.assert_allclose(counted, wanted, atol=1)


def test_a_closed_network_runs() -> None:
    graph = space(classes=7, resolution=32)
    for seed in range(3):
        code = np.random.default_rng(seed).integers(0, graph.cardinalities)
        closed = graph.close(code)
        module = GraphModule(closed, initialise(closed, np.random.default_rng(0))).eval()
        assert module(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_a_row_without_a_column_is_refused() -> None:
    with pytest.raises(InvalidInput, match="block0_e"):
        code_of({})
