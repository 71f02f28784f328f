"""Edits of operators: shapes behind stay, MACs fall as by hand, weights compute what their label says."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.spaces.networks import bottlenecks, imported, residuals, with_weights
from tests.spaces.opened import (
    GIVEN,
    SPACES,
    between,
    code_of,
    gated,
    images,
    inherited,
    labelled,
    options_of,
    output,
    sampled,
    strided,
    windows,
)

from chipfit.errors import InvalidInput
from chipfit.estimate.store import default_estimator
from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph, Input, Node, Origin
from chipfit.graph.ops import Activation, Conv2d
from chipfit.graph.totals import count_macs, count_parameters, macs, parameters
from chipfit.graph.workload import activation_level
from chipfit.nets.inherit import inherit
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network
from chipfit.nets.onnx.exporter import export_onnx
from chipfit.nets.tflite.exporter import tflite_model
from chipfit.nets.tflite.runtime import run_tflite
from chipfit.spaces.edits import (
    factorise_kernels,
    fuse_inverted_bottlenecks,
    open_activations,
    open_kernels,
    open_space,
    open_widths,
    standard_convolutions,
    stride_earlier,
)
from chipfit.targets import load_target


@pytest.mark.parametrize("name", SPACES)
def test_zero_code_is_the_network_as_given_with_its_weights(name: str) -> None:
    graph, space = GIVEN[name](), SPACES[name]()
    assert space.close([0] * len(space.decisions)) == graph
    network = with_weights(graph)
    closed, result = inherited(network, space, {})
    assert labelled(result, "exact") == set(graph.by_key)
    assert np.array_equal(output(closed, result.weights), output(graph, network.weights))


@pytest.mark.parametrize("name", ["windows", "gated", "strided"])
def test_outputs_keep_their_shape_under_every_option(name: str) -> None:
    graph, space = GIVEN[name](), SPACES[name]()
    network = with_weights(graph)
    wanted = output(graph, network.weights).shape
    for decision in space.decisions:
        for option in decision.options[1:]:
            closed, result = inherited(network, space, {decision.name: option})
            found = output(closed, result.weights)
            assert found.shape == wanted
            assert np.isfinite(found).all()
            moved = {key for key in graph.shapes if closed.shapes.get(key, graph.shapes[key]) != graph.shapes[key]}
            site = decision.name.rpartition(".")[0]
            assert moved == (between(graph, site) if name == "strided" else set())


@pytest.mark.parametrize("name", SPACES)
def test_a_space_counts_and_costs_what_its_networks_do_closed(name: str) -> None:
    space = SPACES[name]()
    codes = sampled(space)
    closed = [space.close(code) for code in codes]
    assert macs(space).at(codes)[:, 0].tolist() == [count_macs(each) for each in closed]
    assert parameters(space).at(codes)[:, 0].tolist() == [count_parameters(each) for each in closed]
    estimator = default_estimator(load_target("ethos-u55-256"))
    found = estimator.costs(space, codes)
    for quantity in ("latency_s", "peak_bytes", "weight_bytes", "energy_j"):
        expected = [getattr(estimator.costs(each), quantity)[0] for each in closed]
        np.testing.assert_allclose(getattr(found, quantity), expected, rtol=1e-6, err_msg=quantity)


@pytest.mark.parametrize("name", SPACES)
def test_onnx_runtime_and_litert_compute_edited_networks(name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    space, network = SPACES[name](), with_weights(GIVEN[name]())
    for code in sampled(space, 4):
        closed = space.close(code)
        result = inherit(network, space, code, np.random.default_rng(0))
        edited = Network("edited", closed, result.weights)
        wanted = output(closed, result.weights)
        session = onnxruntime.InferenceSession(export_onnx(edited, None).SerializeToString())
        found = session.run(None, {closed.inputs[0].key: images(closed).numpy()})[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
        found = run_tflite(tflite_model(edited), images(closed).numpy())[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


# Activations


def test_every_activation_that_is_no_clamp_has_one_cheaper_option() -> None:
    found = {name.removesuffix(".activation"): options for name, options in options_of(SPACES["gated"]()).items()}
    gates = {key: options for key, options in found.items() if "sigmoid" in options[0]}
    assert sorted(gates.values()) == [("hard_sigmoid", "sigmoid"), ("sigmoid", "hard_sigmoid")]
    assert {key: options for key, options in found.items() if key not in gates} == {
        "hard_swish": ("hard_swish", "relu6"),
        "silu": ("silu", "relu"),
        "gelu": ("gelu", "relu"),
        "gelu_tanh": ("gelu_tanh", "relu"),
        "leaky_relu": ("leaky_relu", "relu"),
        "prelu": ("prelu", "relu"),
    }


def test_the_replacement_is_a_clamp_and_nothing_else_changes() -> None:
    space, graph = SPACES["gated"](), gated()
    for decision in space.decisions:
        site, other = decision.name.removesuffix(".activation"), decision.options[1]
        closed = space.close(code_of(space, {decision.name: other}))
        new = f"{site}.{other}"
        assert closed.by_key[new].op == Activation(str(other))
        assert set(closed.by_key) == {*graph.by_key} - {site} | {new}
        assert count_macs(closed) == count_macs(graph)
        given_op, new_op = graph.by_key[site].op, closed.by_key[new].op
        assert isinstance(given_op, Activation)
        assert isinstance(new_op, Activation)
        assert activation_level(new_op) == 1 or "sigmoid" in given_op.function


def test_another_activation_is_approximate_and_all_else_exact() -> None:
    network = with_weights(gated())
    space = open_activations(network.graph)
    _, result = inherited(network, space, {"silu.activation": "relu", "prelu.activation": "relu"})
    assert labelled(result, "approximate") == {"silu.relu", "prelu.relu"}
    assert labelled(result, "reinitialised") == set()


def test_gates_stay_where_the_network_has_no_hard_sigmoid() -> None:
    b = Builder()
    x = b.activation(b.conv(b.input("x", (1, 3, 8, 8)), 4, key="conv"), "silu", key="act")
    gate = b.activation(b.conv(b.global_pool(x, key="pool"), 4, key="scale"), "sigmoid", key="gate")
    graph = b.graph(b.elementwise(x, gate, "mul", key="gated"))
    assert options_of(open_activations(graph)) == {"act.activation": ("silu", "relu")}
    assert options_of(open_activations(graph, {"sigmoid": "hard_sigmoid"})) == {
        "gate.activation": ("sigmoid", "hard_sigmoid")
    }


def test_copies_in_a_fused_branch_follow() -> None:
    graph = bottlenecks("hard_swish")
    space = open_activations(fuse_inverted_bottlenecks(graph))
    site = "stage2.block1.depthwise.act"
    closed = space.close(code_of(space, {"stage2.block1.fuse": "fused", f"{site}.activation": "relu6"}))
    functions = {key: node.op for key, node in closed.by_key.items() if key.startswith("stage2.block1.fused.act")}
    assert functions == {"stage2.block1.fused.act.relu6": Activation("relu6")}
    assert closed.by_key["stage2.block1.fused.act.relu6"].origin == Origin("copy", (site,))


# Windows


def test_forms_are_offered_where_they_take_fewer_macs() -> None:
    assert options_of(factorise_kernels(windows())) == {
        "seven.factor": ("whole", "two", "three"),
        "five.factor": ("whole", "two"),
    }
    assert options_of(factorise_kernels(windows(), channels=12)) == {
        "seven.factor": ("whole", "two", "three"),
        "five.factor": ("whole", "two"),
        "three.factor": ("whole", "two"),
    }


def test_macs_of_windows_by_hand() -> None:
    space = factorise_kernels(windows(), channels=12)
    whole = count_macs(windows())

    def saved(chosen: Mapping[str, object]) -> int:
        return whole - count_macs(space.close(code_of(space, chosen)))

    assert saved({"seven.factor": "two"}) == 20 * 18 * 8 * 8 * (49 - 7 - 7)
    assert saved({"seven.factor": "three"}) == 20 * 18 * 8 * 8 * (49 - 3 * 9)
    # The column has the stride of the rows, the row the other: the channels between are 10 x 18.
    assert saved({"five.factor": "two"}) == 10 * 9 * 8 * 12 * 25 - 10 * 18 * 8 * 12 * 5 - 10 * 9 * 12 * 12 * 5
    assert saved({"three.factor": "two"}) == 10 * 9 * 12 * 12 * (9 - 3 - 3)


def test_a_column_and_a_row_split_strides_padding_and_bias() -> None:
    graph = Graph(
        (Input("x", (1, 8, 30, 31)),),
        (Node("c", Conv2d(8, (5, 5), (2, 1), (1, 2, 3, 4), (2, 3)), ("x",)),),
        ("c",),
    )
    closed = factorise_kernels(graph).close([1])
    assert [(node.op, node.origin) for node in closed.nodes] == [
        (Conv2d(8, (5, 1), (2, 1), (1, 0, 3, 0), (2, 1), bias=False), Origin("column", ("c",))),
        (Conv2d(8, (1, 5), (1, 1), (0, 2, 0, 4), (1, 3)), Origin("row", ("c",))),
    ]
    assert closed.shapes["c.row"] == graph.shapes["c"]


def test_a_chain_has_normalisation_and_activation_between_and_the_stride_last() -> None:
    b = Builder()
    x = b.conv(b.input("x", (1, 32, 16, 16)), 8, kernel=5, stride=2, padding=(1, 1, 2, 2), bias=False, key="c")
    graph = b.graph(b.activation(b.batch_norm(x, key="norm"), "silu", key="act"))
    assert options_of(factorise_kernels(graph)) == {"c.factor": ("whole", "two")}
    b = Builder()
    x = b.conv(b.input("x", (1, 8, 16, 16)), 8, kernel=5, padding=(1, 1, 2, 2), bias=False, key="c")
    graph = b.graph(b.activation(b.batch_norm(x, key="norm"), "silu", key="act"))
    closed = factorise_kernels(graph).close([2])
    assert [(node.key, node.op) for node in closed.nodes[:4]] == [
        ("c.three.1", Conv2d(8, (3, 3), padding=(0, 0, 1, 1), bias=False)),
        ("c.three.1.bn", graph.by_key["norm"].op),
        ("c.three.1.act", Activation("silu")),
        ("c.three.2", Conv2d(8, (3, 3), padding=(1, 1, 1, 1), bias=False)),
    ]
    assert closed.by_key["norm"].inputs == ("c.three.2",)
    assert closed.shapes["c.three.2"] == graph.shapes["c"]


@pytest.mark.parametrize(("size", "stride"), [(5, 1), (7, 1), (7, 2)])
def test_a_chain_sees_as_much_as_the_window(size: int, stride: int) -> None:
    """A pixel of the output changes with just those of the input that lie in the given window."""
    b = Builder()
    # With so few outputs the first convolutions of a chain are cheap even before the stride.
    graph = b.graph(b.conv(b.input("x", (1, 64, 17, 17)), 2, kernel=size, stride=stride, key="c"))
    space = factorise_kernels(graph)
    closed = space.close(code_of(space, {"c.factor": "three"}))
    weights = {key: np.abs(array) for key, array in with_weights(closed).weights.items()}
    image = torch.zeros(1, *closed.inputs[0].shape[1:], requires_grad=True)
    GraphModule(closed, weights).eval()(image)[0, 0, 4, 4].backward()
    assert image.grad is not None
    seen = np.argwhere(image.grad[0].abs().sum(0).numpy())
    centre, reach = 4 * stride, size // 2
    assert (seen.min(0) == centre - reach).all()
    assert (seen.max(0) == centre + reach).all()


@given(
    size=st.sampled_from([5, 6, 7]),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    seed=st.integers(0, 100),
)
@settings(max_examples=30)
def test_separable_windows_compute_the_same(
    size: int, stride: tuple[int, int], padding: tuple[int, int, int, int], dilation: tuple[int, int], seed: int
) -> None:
    op = Conv2d(4, (size, size), stride, padding, dilation)
    graph = Graph((Input("x", (1, 6, 15, 16)),), (Node("c", op, ("x",)),), ("c",))
    generator = np.random.default_rng(seed)
    column, row = generator.normal(size=(4, 6, size)), generator.normal(size=(4, 4, size))
    weight = np.einsum("ciy,ocx->oiyx", column, row).astype(np.float32)
    network = Network("given", graph, {"c.weight": weight, "c.bias": generator.normal(size=4).astype(np.float32)})
    closed, result = inherited(network, factorise_kernels(graph), {"c.factor": "two"})
    wanted = output(graph, network.weights)
    np.testing.assert_allclose(
        output(closed, result.weights), wanted, rtol=1e-3, atol=1e-4 * float(np.abs(wanted).max())
    )


def test_a_narrower_width_between_keeps_what_carries_most() -> None:
    """Dropping channels between is cutting off singular values: the error is what those say that are gone."""
    graph = Graph((Input("x", (1, 8, 9, 9)),), (Node("c", Conv2d(8, (5, 5), bias=False), ("x",)),), ("c",))
    network = with_weights(graph)
    space = open_widths(factorise_kernels(graph), groups={"c.column": [3]})
    _, result = inherited(network, space, {"c.factor": "two", "c.column.width": 3})
    column, row = result.weights["c.column.weight"][..., 0], result.weights["c.row.weight"][:, :, 0]
    weight = network.weights["c.weight"].astype(np.float64)
    matrix = weight.transpose(1, 2, 3, 0).reshape(8 * 5, 5 * 8)
    squares = np.sort(np.linalg.eigvalsh(matrix @ matrix.T))[::-1]
    lost = ((np.einsum("ciy,ocx->oiyx", column, row) - weight) ** 2).sum()
    np.testing.assert_allclose(lost, squares[3:].sum(), rtol=1e-4)


def test_windows_that_are_open_take_their_column_and_row_along() -> None:
    space = factorise_kernels(open_kernels(windows(), (5,)), channels=8)
    closed = space.close(code_of(space, {"seven.factor": "two", "seven.kernel": 5}))
    assert closed.by_key["seven.column"].op == Conv2d(8, (5, 1), padding=(2, 0, 2, 0), bias=False)
    assert closed.by_key["seven.row"].op == Conv2d(8, (1, 5), padding=(0, 2, 0, 2), bias=False)


def test_a_convolution_right_behind_another_reads_its_form() -> None:
    b = Builder()
    x = b.conv(b.input("x", (1, 8, 9, 9)), 8, kernel=5, padding=2, key="a")
    space = factorise_kernels(b.graph(b.conv(x, 8, kernel=5, padding=2, key="b")))
    closed = space.close(code_of(space, {"a.factor": "two", "b.factor": "two"}))
    assert list(closed.by_key) == ["a.column", "a.row", "b.column", "b.row"]
    assert closed.by_key["b.column"].inputs == ("a.row",)


# Strides


def test_strides_move_to_the_convolution_before_where_the_way_is_straight() -> None:
    assert options_of(stride_earlier(strided())) == {
        "down.depthwise.earlier": ("as given", "earlier"),
        "last.depthwise.earlier": ("as given", "earlier"),
    }
    closed = stride_earlier(strided()).close([1, 0])
    assert closed.by_key["down.expand"].op == Conv2d(16, (1, 1), (2, 2), bias=False)
    assert closed.by_key["down.depthwise"].op == Conv2d(16, (5, 5), (1, 1), (2, 2, 2, 2), groups=16, bias=False)


def test_macs_of_an_earlier_stride_by_hand() -> None:
    space, graph = stride_earlier(strided()), strided()
    whole = count_macs(graph)
    expand = 12 * 12 * 8 * 16
    assert whole - count_macs(space.close([1, 0])) == expand - expand // 4
    pointwise = 6 * 6 * 12 * 16
    assert whole - count_macs(space.close([0, 1])) == pointwise - pointwise // 4


@given(
    size=st.tuples(st.integers(4, 11), st.integers(4, 11)),
    kernel=st.integers(1, 5),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    stride=st.sampled_from([(2, 2), (2, 1), (1, 2)]),
    dilation=st.integers(1, 2),
    first=st.sampled_from([1, 3]),
)
@settings(max_examples=100)
def test_whatever_the_padding_all_behind_keeps_its_size(
    size: tuple[int, int], kernel: int, padding: tuple[int, ...], stride: tuple[int, int], dilation: int, first: int
) -> None:
    site = Conv2d(4, (kernel, kernel), stride, padding, (dilation, dilation))  # type: ignore[arg-type]
    nodes = (
        Node("first", Conv2d(4, (first, first), padding=(first // 2,) * 4), ("x",)),
        Node("act", Activation("relu"), ("first",)),
        Node("site", site, ("act",)),
    )
    graph = Graph((Input("x", (1, 2, *size)),), nodes, ("site",))
    if any(count + pads < dilation * (kernel - 1) + 1 for count, pads in zip(size, spans(padding), strict=True)):
        return
    halved = tuple(-(-count // step) for count, step in zip(size, stride, strict=True))
    kept = [found for found, step in zip(graph.shapes["site"][2:], stride, strict=True) if step == 2]
    if kept != [half for half, step in zip(halved, stride, strict=True) if step == 2]:
        with pytest.raises(InvalidInput, match="no stride of 2"):
            stride_earlier(graph)
        return
    closed = stride_earlier(graph).close([1])
    assert closed.shapes["site"] == graph.shapes["site"]
    assert closed.shapes["act"][2:] == halved
    network = with_weights(closed)
    assert output(closed, network.weights).shape[1:] == closed.shapes["site"][1:]


def spans(padding: tuple[int, ...]) -> tuple[int, int]:
    return padding[0] + padding[2], padding[1] + padding[3]


def test_a_tensor_that_others_read_keeps_its_size() -> None:
    b = Builder()
    x = b.conv(b.input("x", (1, 4, 8, 8)), 8, key="wide")
    down = b.conv(x, 8, kernel=3, stride=2, padding=1, key="down")
    beside = b.conv(x, 8, stride=2, key="beside")
    with pytest.raises(InvalidInput, match="no stride of 2"):
        stride_earlier(b.graph(b.elementwise(down, beside, "add", key="sum")))


def test_a_standard_convolution_in_its_place_follows() -> None:
    graph = strided()
    for first, then in ((stride_earlier, standard_convolutions), (standard_convolutions, stride_earlier)):
        space = then(first(graph))
        closed = space.close(code_of(space, {"down.depthwise.earlier": "earlier", "down.depthwise": "standard"}))
        standard = closed.by_key["down.depthwise.standard"].op
        assert standard == Conv2d(16, (5, 5), (1, 1), (2, 2, 2, 2), bias=False)
        assert closed.by_key["down.expand"].op == Conv2d(16, (1, 1), (2, 2), bias=False)
        assert closed.shapes["last.pointwise.act"] == graph.shapes["last.pointwise.act"]


# What cannot be done


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda: open_activations(bottlenecks()), "no activation found that a cheaper one could replace"),
        (lambda: open_activations(bottlenecks(), {"silu": "relu"}), r"could replace \(silu\)"),
        (lambda: open_activations(imported(), {"swish": "relu"}), "'swish' cannot take part"),
        (lambda: open_activations(imported(), {"hard_swish": "prelu"}), "'prelu' cannot take part"),
        (lambda: factorise_kernels(residuals()), "at least 64 channels in and out"),
        (lambda: stride_earlier(residuals()), "no stride of 2 found"),
        (lambda: open_space(imported(), {"activation": {"cheaper": ["relu"]}}), "activation = "),
        (lambda: open_activations(open_activations(imported())), "open already"),
        (lambda: factorise_kernels(factorise_kernels(windows())), "open already"),
    ],
)
def test_what_cannot_be_opened_is_said(edit: Callable[[], Graph], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        edit()
