"""TFLite export: what LiteRT computes with the float file is what the network computes; int8 comes close."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chipfit.errors import InvalidInput, UnsupportedOperator
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import (
    ACTIVATIONS,
    ELEMENTWISE,
    KINDS,
    Activation,
    BatchNorm,
    Concat,
    Constant,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    GlobalPool,
    LayerNorm,
    Linear,
    MatMul,
    Op,
    Opaque,
    Pad,
    Pool2d,
    Reshape,
    Resize,
    Select,
    Slice,
    Softmax,
    Transpose,
)
from chipfit.graph.values import Decision
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network, initialise
from chipfit.nets.tflite.exporter import WRITERS, export_tflite, program_of, tflite_model
from chipfit.nets.tflite.runtime import run_tflite
from chipfit.nets.zoo import from_zoo

IMAGE = (1, 4, 7, 6)
ROWS = (1, 5, 6)
CASES: list[tuple[Op, tuple[tuple[int, ...], ...]]] = [
    (Conv2d(6, (3, 2), (2, 1), (0, 1, 2, 0), (1, 2), 2, False), (IMAGE,)),
    (Conv2d(8, (3, 3), (1, 1), (1, 1, 1, 1), groups=4), (IMAGE,)),
    (Conv2d(4, (5, 5), (2, 2), (2, 2, 2, 2), groups=4), (IMAGE,)),
    (Conv2d(5, (3, 3), (2, 2), (1, 1, 1, 1)), ((1, 4, 8, 9),)),
    (ConvTranspose2d(6, (3, 2), (2, 3), (1, 0, 0, 1), (1, 2), groups=2), (IMAGE,)),
    (ConvTranspose2d(3, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (2, 1), bias=False), (IMAGE,)),
    (ConvTranspose2d(3, (4, 4), (2, 2), (1, 1, 1, 1)), (IMAGE,)),
    (ConvTranspose2d(3, (2, 2), (2, 2)), (IMAGE,)),
    (Linear(3), ((1, 6),)),
    (Linear(3, False), ((1, 6),)),
    (Linear(3), (ROWS,)),
    (Linear(3, False), (IMAGE,)),
    (MatMul(), ((1, 2, 5, 6), (1, 1, 6, 3))),
    (MatMul(), (ROWS, (1, 6, 4))),
    (BatchNorm(1e-3), (IMAGE,)),
    (BatchNorm(), ((1, 6),)),
    (BatchNorm(), (ROWS,)),
    (LayerNorm(), (ROWS,)),
    (LayerNorm(2, 1e-6), (IMAGE,)),
    *((Activation(function), (IMAGE,)) for function in ACTIVATIONS),
    (Activation("leaky_relu", 0.2), (IMAGE,)),
    (Activation("prelu"), (ROWS,)),
    (Softmax(), (ROWS,)),
    *((Softmax(axis), (IMAGE,)) for axis in (1, 2, 3)),
    *((Elementwise(function), (IMAGE, (1, 4, 1, 1))) for function in ELEMENTWISE),
    (Elementwise("add"), (IMAGE, (4, 1, 6))),
    (Elementwise("mul"), (IMAGE, (7, 1))),
    (Elementwise("sub"), (ROWS, (6,))),
    (Concat(), (IMAGE, IMAGE)),
    (Concat(-1), (ROWS, ROWS, ROWS)),
    (Slice(1, 1, 4, 2), (IMAGE,)),
    (Slice(-1, 0, 6), (IMAGE,)),
    (Slice(1, 1, 3), (ROWS,)),
    (Pool2d("max", (3, 2), (2, 2), (1, 1, 1, 1), ceil_mode=True), (IMAGE,)),
    (Pool2d("max", (3, 3), (2, 2), (0, 0, 1, 1)), (IMAGE,)),
    (Pool2d("max", (3, 3), (2, 2), (1, 1, 1, 1)), ((1, 4, 8, 8),)),
    (Pool2d("average", (3, 3), (1, 1), (1, 1, 1, 1), count_include_pad=False), (IMAGE,)),
    (Pool2d("average", (3, 3), (1, 1), (1, 1, 1, 1), count_include_pad=True), (IMAGE,)),
    (Pool2d("average", (3, 3), (2, 2), (1, 1, 1, 1), True, False), (IMAGE,)),
    (Pool2d("average", (2, 3), (3, 2), (1, 1, 1, 1), True, True), (IMAGE,)),
    (Pool2d("average", (3, 3), (2, 1), (0, 1, 1, 2), False, False), (IMAGE,)),
    (Pool2d("average", (3, 3), (2, 1), (0, 1, 1, 2), False, True), (IMAGE,)),
    (GlobalPool(), (IMAGE,)),
    (GlobalPool("max"), (IMAGE,)),
    (GlobalPool(), ((1, 2, 300, 3),)),
    (GlobalPool("max"), ((1, 2, 3, 300),)),
    (Resize("nearest", scale=(2.0, 1.5)), (IMAGE,)),
    (Resize("nearest", scale=(1.5, 0.5)), (IMAGE,)),
    (Resize("nearest", size=(3, 11)), (IMAGE,)),
    (Resize("bilinear", scale=(2.0, 0.5)), (IMAGE,)),
    (Resize("bilinear", size=(5, 1)), (IMAGE,)),
    (Resize("bilinear", size=(9, 9), align_corners=True), (IMAGE,)),
    (Pad((1, 0, 2, 3)), (IMAGE,)),
    (Pad((0, 1, 0, 0), -2.5), (IMAGE,)),
    (Pad((0, -1, 2, 0)), (IMAGE,)),
    (Reshape((-1,)), (IMAGE,)),
    (Reshape((2, -1, 6)), (IMAGE,)),
    (Reshape((168,)), (IMAGE,)),
    (Reshape((3, 2, 5)), (ROWS,)),
    (Transpose((0, 2, 3, 1)), (IMAGE,)),
    (Transpose((0, 2, 1)), (ROWS,)),
]


def network(graph: Graph, seed: int = 0) -> Network:
    """Random weights, none of them 0 or 1 by chance of the initialisation."""
    generator = np.random.default_rng(seed)
    weights = {
        name: generator.uniform(0.2, 1.0, np.shape(array)).astype(np.float32)
        * (1 if name.endswith("running_var") else generator.choice([-1, 1], np.shape(array)))
        for name, array in initialise(graph, generator).items()
    }
    return Network("net", graph, {name: np.asarray(array, np.float32) for name, array in weights.items()})


def single(op: Op, shapes: tuple[tuple[int, ...], ...]) -> Graph:
    """One operator; what it reads is an input, or a constant where it has no batch in front."""
    keys = tuple(f"in{index}" for index in range(len(shapes)))
    given_ = dict(zip(keys, shapes, strict=True))
    inputs = tuple(Input(key, shape) for key, shape in given_.items() if shape[0] == 1)
    constants = tuple(Node(key, Constant(shape), ()) for key, shape in given_.items() if shape[0] != 1)
    return Graph(inputs, (*constants, Node("node", op, keys)), ("node",))


def samples(graph: Graph, count: int, seed: int = 1) -> tuple[np.ndarray, ...]:
    """Normal numbers; those that roots are taken of, or that others are divided by, are above 0.3."""
    generator = np.random.default_rng(seed)
    arrays = {item.key: generator.standard_normal((count, *item.shape[1:]), np.float32) for item in graph.inputs}
    for node in graph.nodes:
        if isinstance(node.op, (Activation, Elementwise)) and node.op.function in ("sqrt", "div"):
            key = node.inputs[-1]
            arrays |= {key: np.float32(0.3) + np.abs(arrays[key])} if key in arrays else {}
    return tuple(arrays.values())


def torch_outputs(net: Network, inputs: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    module = GraphModule(net.graph, net.weights).eval()
    with torch.no_grad():
        rows = [module(*(torch.from_numpy(array[i : i + 1]) for array in inputs)) for i in range(len(inputs[0]))]
    rows = [row if isinstance(row, tuple) else (row,) for row in rows]
    return [torch.cat(column).detach().numpy() for column in zip(*rows, strict=True)]


def name_of(case: tuple[Op, tuple[tuple[int, ...], ...]]) -> str:
    op = case[0]
    return f"{type(op).__name__}-{getattr(op, 'function', getattr(op, 'mode', ''))}"


def assert_same(net: Network, inputs: tuple[np.ndarray, ...]) -> None:
    for given_, wanted in zip(run_tflite(tflite_model(net), *inputs), torch_outputs(net, inputs), strict=True):
        np.testing.assert_allclose(given_, wanted, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))


def test_every_kind_of_operator_is_written_and_tested() -> None:
    assert set(WRITERS) == set(KINDS) - {Opaque, Select}
    assert {type(op) for op, _ in CASES} == set(WRITERS) - {Constant}


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_float_file_computes_what_the_network_computes(case: tuple[Op, tuple[tuple[int, ...], ...]]) -> None:
    net = network(single(*case))
    assert_same(net, samples(net.graph, 2))


@settings(max_examples=60)
@given(st.data())
def test_random_networks_compute_the_same(small_graphs: st.SearchStrategy[Graph], data: st.DataObject) -> None:
    net = network(data.draw(small_graphs))
    try:
        tflite_model(net)
    except UnsupportedOperator as error:
        assert "ends between pixels" in str(error)  # noqa: PT017
        return
    assert_same(net, samples(net.graph, 2))


@pytest.mark.parametrize(
    "name", ["mobilenet_v2-0.35-96", "resnet8", "ds_cnn", "ibn_detector-0.35-64", "mobilenet_v1-0.25-96"]
)
def test_zoo_networks_compute_the_same(name: str) -> None:
    net = from_zoo(name)
    assert_same(net, samples(net.graph, 2))


def test_what_cannot_be_written_is_named_all_at_once(tmp_path: Path) -> None:
    nodes = (
        Node("warp", Opaque("GridSample", (1, 4, 7, 6)), ("in0",)),
        Node("small", Resize("bilinear", scale=(0.5, 2.0)), ("warp",)),
    )
    graph = Graph((Input("in0", IMAGE),), nodes, ("small",))
    path = tmp_path / "x.tflite"
    with pytest.raises(
        UnsupportedOperator, match=r"net: 2 nodes cannot .*'warp' is 'GridSample'.*'small': scale .*; replace them"
    ):
        export_tflite(network(graph), path)
    assert not path.exists()
    open_graph = Graph((Input("in0", IMAGE),), (), ("in0",), (Decision("width", (1, 2)),))
    with pytest.raises(InvalidInput, match="1 decisions are open; close it with a code"):
        tflite_model(Network("net", open_graph, {}))


def codes_of(net: Network) -> list[str]:
    return [operation.code for operation in program_of(net).operations]


def test_a_tensor_has_the_key_of_the_last_node_that_is_written_with_it() -> None:
    b = Builder()
    x = conv_bn_act(b, b.input("image", (1, 3, 8, 8)), 4, key="stem")
    x = b.activation(b.elementwise(x, b.batch_norm(x, key="side"), "add", key="sum"), "relu", key="sum.act")
    x = b.batch_norm(b.linear(b.reshape(x, (-1,), key="flat"), 5, key="classes"), key="classes.bn")
    net = network(b.graph(x))
    program = program_of(net)
    assert [operation.output for operation in program.operations] == [
        "stem.act",
        "side",
        "sum.act",
        "flat",
        "classes.bn",
    ]
    assert (program.inputs, program.outputs) == (["image"], ["classes.bn"])
    # A flattened image needs no turning: the linear layer's columns are.
    assert "TRANSPOSE" not in codes_of(net)
    assert_same(net, samples(net.graph, 2))


@pytest.mark.parametrize(
    ("op", "shape", "codes"),
    [
        (Conv2d(6, (3, 3), (1, 1), (1, 1, 1, 1), groups=2), IMAGE, ["CONV_2D"]),
        (Conv2d(8, (3, 3), (1, 1), (1, 1, 1, 1), groups=4, bias=False), IMAGE, ["DEPTHWISE_CONV_2D"]),
        (ConvTranspose2d(6, (2, 2), (2, 2), groups=2), IMAGE, ["TRANSPOSE_CONV", "RELU6"]),
        (ConvTranspose2d(5, (2, 2), (2, 2), bias=False), IMAGE, ["TRANSPOSE_CONV", "RELU6"]),
        (Linear(5), (1, 6), ["FULLY_CONNECTED"]),
    ],
    ids=["grouped", "depthwise", "transposed-grouped", "transposed", "linear"],
)
def test_batch_normalisation_folds_into_what_it_follows(op: Op, shape: tuple[int, ...], codes: list[str]) -> None:
    nodes = (
        Node("layer", op, ("input",)),
        Node("layer.bn", BatchNorm(1e-3), ("layer",)),
        Node("layer.act", Activation("relu6"), ("layer.bn",)),
    )
    net = network(Graph((Input("input", shape),), nodes, ("layer.act",)))
    assert codes_of(net) == codes
    assert_same(net, samples(net.graph, 3))


def test_what_is_read_elsewhere_is_not_fused_away() -> None:
    b = Builder()
    x = b.conv(b.input("image", (1, 3, 8, 8)), 4, key="conv")
    y = b.activation(b.batch_norm(x, key="bn"), "relu", key="act")
    net = network(b.graph((b.elementwise(x, y, "add", key="sum"), "bn")))
    assert codes_of(net) == ["CONV_2D", "DEPTHWISE_CONV_2D", "RELU", "ADD"]
    assert_same(net, samples(net.graph, 2))


def test_attention_and_squeeze_are_written_without_turning_images() -> None:
    b = Builder()
    x = b.input("rows", (1, 6, 8))
    heads = [b.reshape(b.linear(x, 8, key=name), (6, 2, 4), key=f"{name}.heads") for name in ("query", "key", "value")]
    query, value = (b.add(Transpose((0, 2, 1, 3)), heads[i], key=f"turned{i}") for i in (0, 2))
    scores = b.add(MatMul(), query, b.add(Transpose((0, 2, 3, 1)), heads[1], key="turned1"), key="scores")
    x = b.add(MatMul(), b.softmax(scores, key="chances"), value, key="mixed")
    x = b.reshape(b.add(Transpose((0, 2, 1, 3)), x, key="back"), (6, 8), key="joined")
    net = network(b.graph(x))
    assert codes_of(net).count("TRANSPOSE") == 4
    assert_same(net, samples(net.graph, 2))
    b = Builder()
    image = b.input("image", (1, 8, 6, 6))
    gate = b.reshape(b.global_pool(image, key="pool"), (8,), key="flat")
    gate = b.reshape(b.activation(b.linear(gate, 8, key="gate"), "sigmoid", key="open"), (8, 1, 1), key="wide")
    net = network(b.graph(b.elementwise(image, gate, "mul", key="scaled")))
    assert "TRANSPOSE" not in codes_of(net)
    assert_same(net, samples(net.graph, 2))


def test_inputs_constants_and_repetitions_can_be_outputs() -> None:
    nodes = (
        Node("constant", Constant((1, 2, 3, 4)), ()),
        Node("act", Activation("relu"), ("image",)),
        Node("unread", Activation("tanh"), ("act",)),
    )
    net = network(Graph((Input("image", IMAGE),), nodes, ("act", "image", "act", "constant")))
    assert len(set(program_of(net).outputs)) == 4
    assert_same(net, samples(net.graph, 1))


def test_a_file_is_written_whole_and_runs(tmp_path: Path) -> None:
    net = from_zoo("ds_cnn")
    path = tmp_path / "net.tflite"
    assert export_tflite(net, path) == ()
    assert path.read_bytes() == tflite_model(net)
    (images,) = samples(net.graph, 3)
    (together,) = run_tflite(path, images)
    for index in range(3):
        np.testing.assert_array_equal(run_tflite(path, images[index : index + 1])[0][0], together[index])


def test_what_cannot_run_is_refused(tmp_path: Path) -> None:
    net = from_zoo("ds_cnn")
    with pytest.raises(InvalidInput, match=r"input 'input' has shape \(1, 49, 10, 1\), got \(2, 10, 49, 1\)"):
        run_tflite(tflite_model(net), np.zeros((2, 1, 10, 49), np.float32))
    with pytest.raises(InvalidInput, match="the file has 1 inputs, got 2"):
        run_tflite(tflite_model(net), *[np.zeros((2, 1, 49, 10), np.float32)] * 2)
    (tmp_path / "x.tflite").write_bytes(b"no model at all")
    with pytest.raises(InvalidInput, match=r"LiteRT cannot run .*x\.tflite"):
        run_tflite(tmp_path / "x.tflite", np.zeros((1, 1), np.float32))
    with pytest.raises(InvalidInput, match=r"cannot read .*missing\.tflite"):
        run_tflite(tmp_path / "missing.tflite", np.zeros((1, 1), np.float32))
