"""The builder: keys, shapes, and blocks that have the weights their papers say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipfit.errors import InvalidGraph
from chipfit.graph.build import (
    Builder,
    conv_bn_act,
    depthwise_separable,
    fused_inverted_bottleneck,
    inverted_bottleneck,
    residual_block,
    same,
    sides,
)
from chipfit.graph.ops import Conv2d, product
from chipfit.graph.values import Choice, choose


def started(channels: int = 8, size: int = 16) -> Builder:
    b = Builder()
    b.input("x", (1, channels, size, size))
    return b


def convolution_weights(b: Builder, output: str) -> int:
    return sum(int(product(shape)) for name, shape in b.graph(output).weights() if ".bn." not in name)


@given(st.integers(0, 4).map(lambda half: 2 * half + 1), st.integers(1, 3), st.integers(1, 20), st.integers(1, 3))
def test_same_padding_gives_size_over_stride_rounded_up(kernel: int, dilation: int, size: int, stride: int) -> None:
    b = started(size=size)
    y = b.conv("x", 4, kernel=kernel, dilation=dilation, stride=stride, key="y")
    assert b.shape(y) == (1, 4, -(-size // stride), -(-size // stride))


def test_padding_may_be_given_for_all_sides_for_each_axis_or_for_each_side() -> None:
    assert sides(2) == (2, 2, 2, 2)
    assert sides((1, 2)) == (1, 2, 1, 2)
    assert sides((1, 2, 3, 4)) == (1, 2, 3, 4)
    assert same((3, 5), (1, 2)) == (1, 4, 1, 4)


def test_an_inverted_bottleneck_has_its_keys_and_weights() -> None:
    b = started()
    y = inverted_bottleneck(b, "x", 8, expansion=6, kernel=5, key="p")
    keys = [node.key for node in b.graph(y).nodes]
    parts = ["expand", "expand.bn", "expand.act", "depthwise", "depthwise.bn", "depthwise.act"]
    assert keys == [f"p.{part}" for part in [*parts, "project", "project.bn", "add"]]
    assert convolution_weights(b, y) == 8 * 48 + 48 * 25 + 48 * 8
    assert b.graph(y).by_key["p.add"].inputs == ("x", "p.project.bn")


@pytest.mark.parametrize(("out", "stride"), [(8, 2), (16, 1)])
def test_a_block_that_changes_shape_adds_nothing(out: int, stride: int) -> None:
    for block in (inverted_bottleneck, fused_inverted_bottleneck):
        b = started()
        assert block(b, "x", out, expansion=2, stride=stride, key="p") == "p.project.bn"
        assert b.shape("p.project.bn") == (1, out, 16 // stride, 16 // stride)


def test_expansion_one_starts_with_the_depthwise_convolution() -> None:
    b = started()
    inverted_bottleneck(b, "x", 8, expansion=1, key="p")
    assert b.graph("p.add").nodes[0].key == "p.depthwise"


def test_the_other_blocks_have_the_weights_of_their_definition() -> None:
    b = started()
    assert convolution_weights(b, fused_inverted_bottleneck(b, "x", 8, expansion=4, key="f")) == 8 * 32 * 9 + 32 * 8
    b = started()
    assert convolution_weights(b, depthwise_separable(b, "x", 24, key="d")) == 8 * 9 + 8 * 24
    b = started()
    assert convolution_weights(b, residual_block(b, "x", 8, key="r")) == 2 * 8 * 8 * 9
    b = started()
    weights = 8 * 16 * 9 + 16 * 16 * 9 + 8 * 16 + 16
    assert convolution_weights(b, residual_block(b, "x", 16, stride=2, key="r")) == weights


def test_no_activation_after_a_convolution_on_request() -> None:
    b = started()
    assert conv_bn_act(b, "x", 4, activation=None, key="c") == "c.bn"


def test_the_builder_and_the_graph_agree_on_every_shape() -> None:
    b = started()
    y = inverted_bottleneck(b, "x", 8, expansion=6, key="p")
    graph = b.graph(y)
    assert {key: b.shape(key) for key in graph.shapes} == graph.shapes


def test_blocks_take_open_values() -> None:
    b = started()
    width = choose(b.decide("width", (8, 16)), (8, 16))
    expansion = choose(b.decide("expansion", (6, 4)), (6, 4))
    y = inverted_bottleneck(b, "x", width, expansion=expansion, key="p")
    y = inverted_bottleneck(b, y, width, expansion=expansion, key="q")
    graph = b.graph(y)
    assert isinstance(graph.shapes["q.expand"][1], Choice)
    assert y == "q.add"
    for code, channels in (((0, 0), (48, 48)), ((1, 1), (32, 64))):
        closed = graph.close(code)
        assert (closed.shapes["p.expand"][1], closed.shapes["q.expand"][1]) == channels
        op = closed.by_key["q.depthwise"].op
        assert isinstance(op, Conv2d)
        assert op.groups == channels[1]


def test_faults_name_the_node_where_they_are_written() -> None:
    b = started()
    b.conv("x", 4, key="y")
    with pytest.raises(InvalidGraph, match="two tensors are named 'y'"):
        b.conv("x", 4, key="y")
    with pytest.raises(InvalidGraph, match="'z' reads 'nothing'"):
        b.conv("nothing", 4, key="z")
    with pytest.raises(InvalidGraph, match=r"node 'z': .*3 groups"):
        b.conv("x", 4, groups=3, key="z")
    with pytest.raises(InvalidGraph, match="no tensor is named 'nothing'"):
        b.shape("nothing")
    assert len(b.graph("y").nodes) == 1
