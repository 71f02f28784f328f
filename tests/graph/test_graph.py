"""An open graph says for every code what the graph closed by that code says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.graph.strategies import codes_of, spaces

from chipfit.errors import InvalidGraph
from chipfit.graph.graph import Graph, Input, Node, resolve
from chipfit.graph.ops import Activation, Conv2d, Elementwise, Select
from chipfit.graph.values import CANDIDATE, Choice, Decision, Shape, bind, choices_in, choose


def named(graph: Graph, code: np.ndarray) -> dict[str, int]:
    return {decision.name: int(option) for decision, option in zip(graph.decisions, code, strict=True)}


def bound(shape: Shape, chosen: dict[str, int]) -> Shape:
    return tuple(bind(size, chosen) for size in shape)


@settings(max_examples=60)
@given(spaces())
def test_shapes_and_presence_under_a_code_are_those_of_the_closed_graph(graph: Graph) -> None:
    for code in codes_of(graph):
        chosen, closed = named(graph, code), graph.close(code)
        assert closed.decisions == ()
        assert not choices_in((closed.inputs, closed.nodes))
        assert not any(isinstance(node.op, Select) for node in closed.nodes)
        kept = {node.key for node in closed.nodes}
        for node in graph.nodes:
            if not isinstance(node.op, Select):
                assert bind(graph.presence[node.key], chosen) == (node.key in kept)
        for key in kept:
            assert bound(graph.shapes[key], chosen) == closed.shapes[key]
            assert closed.presence[key] is True
            macs, closed_macs = graph.macs(graph.by_key[key]), closed.macs(closed.by_key[key])
            assert bind(macs, chosen) == closed_macs
        for key, closed_key in zip(graph.outputs, closed.outputs, strict=True):
            assert bound(graph.shapes[key], chosen) == closed.shapes[closed_key]


@settings(max_examples=40)
@given(spaces(), st.data())
def test_closing_after_expanding_along_codes_is_closing_by_the_code(graph: Graph, data: st.DataObject) -> None:
    codes = codes_of(graph)
    rows = data.draw(st.lists(st.integers(0, len(codes) - 1), min_size=1, max_size=6))
    expanded = graph.along(codes[rows])
    assert [decision.name for decision in expanded.decisions] == [CANDIDATE]
    for number, row in enumerate(rows):
        assert expanded.close([number]) == graph.close(codes[row])


@settings(max_examples=40)
@given(spaces(), st.data())
def test_binding_in_two_steps_is_closing(graph: Graph, data: st.DataObject) -> None:
    code = data.draw(st.sampled_from([tuple(code) for code in codes_of(graph).tolist()]))
    chosen = named(graph, np.array(code))
    first = {name: chosen[name] for name in chosen if data.draw(st.booleans())}
    left = graph.bind(first)
    assert {decision.name for decision in left.decisions} == set(chosen) - set(first)
    rest = [chosen[decision.name] for decision in left.decisions]
    closed = graph.close(code)
    assert left.close(rest) == closed
    assert left.close(rest).digest == closed.digest
    assert resolve(closed) == closed


@settings(max_examples=40)
@given(spaces())
def test_readers_and_inputs_mirror_each_other(graph: Graph) -> None:
    pairs = {(name, node.key) for node in graph.nodes for name in node.inputs}
    assert pairs == {(name, node.key) for name, nodes in graph.consumers.items() for node in nodes}
    copied = Graph(graph.inputs, graph.nodes, graph.outputs, graph.decisions)
    assert copied == graph
    assert hash(copied) == hash(graph)
    assert copied.digest == graph.digest


def test_digest_follows_every_part() -> None:
    image = Input("x", (1, 4, 8, 8))
    conv = Node("conv", Conv2d(8, (3, 3)), ("x",))
    graph = Graph((image,), (conv,), ("conv",))
    others = [
        Graph((Input("x", (1, 4, 8, 9)),), (conv,), ("conv",)),
        Graph((image,), (Node("conv", Conv2d(9, (3, 3)), ("x",)),), ("conv",)),
        Graph((image,), (conv,), ("conv", "x")),
        Graph((image,), (conv,), ("conv",), (Decision("d", (0, 1)),)),
    ]
    assert len({graph.digest, *(other.digest for other in others)}) == 5


def test_contradictions_are_refused_by_name() -> None:
    image = Input("x", (1, 4, 8, 8))
    relu = Node("relu", Activation("relu"), ("x",))
    width = choose(Decision("w", (0, 1)), (4, 8))
    with pytest.raises(InvalidGraph, match="named 'relu'"):
        Graph((image,), (relu, relu), ("relu",))
    with pytest.raises(InvalidGraph, match="'a' reads 'relu'"):
        Graph((image,), (Node("a", Activation("relu"), ("relu",)), relu), ("a",))
    with pytest.raises(InvalidGraph, match="output 'y'"):
        Graph((image,), (relu,), ("y",))
    with pytest.raises(InvalidGraph, match="same name"):
        Graph((image, image), (relu,), ("relu",))
    with pytest.raises(InvalidGraph, match="options of 'w'"):
        Graph((image,), (Node("c", Conv2d(width, (1, 1)), ("x",)),), ("c",))
    with pytest.raises(InvalidGraph, match="options of 'w'"):
        Graph((Input("x", (1, width, 8, 8)),), (relu,), ("relu",))
    halved = Node("half", Conv2d(4, (1, 1), (2, 2)), ("x",))
    unequal = Graph((image,), (halved, Node("sum", Elementwise("add"), ("x", "half"))), ("sum",))
    with pytest.raises(InvalidGraph, match="node 'sum'"):
        _ = unequal.shapes


def test_codes_out_of_range_are_refused() -> None:
    width = choose(Decision("w", (0, 1)), (4, 8))
    conv = Node("c", Conv2d(width, (1, 1)), ("x",))
    graph = Graph((Input("x", (1, 4, 8, 8)),), (conv,), ("c",), (Decision("w", (0, 1)),))
    for code in ([2], [-1]):
        with pytest.raises(InvalidGraph, match="out of the range"):
            graph.close(code)
    with pytest.raises(InvalidGraph, match="1 entries"):
        graph.close([0, 0])
    with pytest.raises(InvalidGraph, match="no decision 'z'"):
        graph.bind({"z": 0})
    assert isinstance(graph.shapes["c"][1], Choice)
