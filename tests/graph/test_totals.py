"""Totals over all codes are the counts of each network."""

import pytest
from hypothesis import given, settings
from tests.graph.strategies import codes_of, spaces

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import BatchNorm, Conv2d, GlobalPool, Linear, Reshape
from chipfit.graph.totals import count_macs, count_parameters, macs, parameters
from chipfit.graph.values import Decision, choose


@settings(max_examples=40)
@given(spaces())
def test_totals_under_a_code_are_counts_of_the_closed_graph(graph: Graph) -> None:
    codes = codes_of(graph)
    closed = [graph.close(code) for code in codes]
    assert macs(graph).at(codes)[:, 0].tolist() == [count_macs(each) for each in closed]
    assert parameters(graph).at(codes)[:, 0].tolist() == [count_parameters(each) for each in closed]


def test_counts_by_hand() -> None:
    nodes = (
        Node("c", Conv2d(8, (3, 3), (2, 2), (1, 1, 1, 1), bias=False), ("x",)),
        Node("bn", BatchNorm(), ("c",)),
        Node("dead", Conv2d(8, (3, 3)), ("x",)),
        Node("pool", GlobalPool(), ("bn",)),
        Node("flat", Reshape((-1,)), ("pool",)),
        Node("head", Linear(10), ("flat",)),
    )
    graph = Graph((Input("x", (1, 3, 16, 16)),), nodes, ("head",))
    assert count_macs(graph) == 8 * 8 * 8 * 27 + 80
    assert count_parameters(graph) == 8 * 27 + 2 * 8 + 80 + 10


def test_an_open_graph_has_no_single_count() -> None:
    width = Decision("width", (4, 8))
    conv = Node("c", Conv2d(choose(width, width.options), (1, 1)), ("x",))
    graph = Graph((Input("x", (1, 3, 4, 4)),), (conv,), ("c",), (width,))
    for count in (count_macs, count_parameters):
        with pytest.raises(InvalidInput, match="width is open"):
            count(graph)
