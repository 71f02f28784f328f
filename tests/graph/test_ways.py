"""Depths of a space are those of its networks, one by one."""

import numpy as np
from hypothesis import given, settings
from tests.graph.strategies import codes_of, spaces

from chipfit.graph.build import Builder, conv_bn_act, residual_block
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Elementwise
from chipfit.graph.ways import MIXING, depths
from chipfit.spaces.published.nas_bench_201 import CONV1, CONV3, NONE, POOL, SKIP, space


def by_walking(closed: Graph) -> list[float]:
    """Counts of all ways of a closed network, each walked by itself."""
    known: dict[str, set[int]] = {item.key: {0} for item in closed.inputs}
    for node in closed.nodes:
        found = set().union(*(known[name] for name in node.inputs))
        if isinstance(node.op, Elementwise) and node.op.function == "sub" and len(set(node.inputs)) == 1:
            found = set()
        known[node.key] = {count + isinstance(node.op, MIXING) for count in found}
    counts = set().union(*(known[key] for key in closed.outputs))
    return [max(counts), min(counts)] if counts else [np.nan, np.nan]


@settings(max_examples=40)
@given(spaces())
def test_depths_of_codes_are_those_of_each_network(graph: Graph) -> None:
    codes = codes_of(graph)
    np.testing.assert_array_equal(depths(graph, codes), [by_walking(graph.close(code)) for code in codes])


def test_a_cell_that_leads_nowhere_has_no_depth() -> None:
    codes = np.array(
        [(NONE,) * 6, (SKIP, NONE, SKIP, NONE, NONE, NONE), (CONV3,) * 6, (SKIP, POOL, CONV1, NONE, NONE, CONV3)]
    )
    for idle in (False, True):
        graph = space(resolution=8, idle=idle)
        found = depths(graph, codes)
        assert np.isnan(found[0]).all()
        np.testing.assert_array_equal(found, [by_walking(graph.close(code)) for code in codes])


def test_depths_by_hand() -> None:
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 3, 8, 8)), 4, key="stem")
    x = residual_block(b, x, 4, key="block")
    graph = b.graph(b.linear(b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten"), 3, key="classifier"))
    assert depths(graph, np.zeros((2, 0), np.int64)).tolist() == [[4, 2], [4, 2]]
