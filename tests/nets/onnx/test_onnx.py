"""ONNX: what is written comes back equal and computes the same; what others write computes the same."""

import contextlib
import errno
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from chipfit.errors import InvalidInput, StorageFull, UnsupportedOperator
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
from chipfit.nets.onnx.exporter import export_onnx
from chipfit.nets.onnx.importer import import_onnx
from chipfit.nets.zoo import from_zoo

IMAGE = (1, 4, 7, 6)
ROWS = (1, 5, 6)
CASES: list[tuple[Op, tuple[tuple[int, ...], ...]]] = [
    (Conv2d(6, (3, 2), (2, 1), (0, 1, 2, 0), (1, 2), 2, False), (IMAGE,)),
    (Conv2d(8, (3, 3), (1, 1), (1, 1, 1, 1), groups=4), (IMAGE,)),
    (ConvTranspose2d(6, (3, 2), (2, 3), (1, 0, 0, 1), (1, 2), groups=2), (IMAGE,)),
    (ConvTranspose2d(3, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (2, 1), bias=False), (IMAGE,)),
    (Linear(3), ((1, 6),)),
    (Linear(3, False), ((1, 6),)),
    (Linear(3), (ROWS,)),
    (Linear(3, False), (IMAGE,)),
    (MatMul(), ((1, 2, 5, 6), (1, 1, 6, 3))),
    (BatchNorm(1e-3), (IMAGE,)),
    (BatchNorm(), ((1, 6),)),
    (LayerNorm(), (ROWS,)),
    (LayerNorm(2, 1e-6), (IMAGE,)),
    *((Activation(function), (IMAGE,)) for function in ACTIVATIONS),
    (Activation("leaky_relu", 0.2), (IMAGE,)),
    (Activation("prelu"), (ROWS,)),
    (Softmax(), (ROWS,)),
    (Softmax(1), (IMAGE,)),
    *((Elementwise(function), (IMAGE, (1, 4, 1, 1))) for function in ELEMENTWISE),
    (Concat(), (IMAGE, IMAGE)),
    (Concat(-1), (ROWS, ROWS, ROWS)),
    (Slice(1, 1, 4, 2), (IMAGE,)),
    (Slice(-1, 0, 6), (IMAGE,)),
    (Pool2d("max", (3, 2), (2, 2), (1, 1, 1, 1), ceil_mode=True), (IMAGE,)),
    (Pool2d("max", (3, 3), (2, 2), (0, 0, 1, 1)), (IMAGE,)),
    (Pool2d("average", (3, 3), (2, 2), (1, 1, 1, 1), True, False), (IMAGE,)),
    (Pool2d("average", (2, 3), (3, 2), (1, 1, 1, 1), True, True), (IMAGE,)),
    (Pool2d("average", (3, 3), (2, 1), (0, 1, 1, 2), False, False), (IMAGE,)),
    (Pool2d("average", (3, 3), (2, 1), (0, 1, 1, 2), False, True), (IMAGE,)),
    (GlobalPool(), (IMAGE,)),
    (GlobalPool("max"), (IMAGE,)),
    (Resize("nearest", scale=(2.0, 1.5)), (IMAGE,)),
    (Resize("nearest", size=(3, 11)), (IMAGE,)),
    (Resize("bilinear", scale=(0.5, 2.0)), (IMAGE,)),
    (Resize("bilinear", size=(5, 1)), (IMAGE,)),
    (Resize("bilinear", size=(9, 9), align_corners=True), (IMAGE,)),
    (Pad((1, 0, 2, 3)), (IMAGE,)),
    (Pad((0, 1, 0, 0), -2.5), (IMAGE,)),
    (Reshape((-1,)), (IMAGE,)),
    (Reshape((2, -1, 6)), (IMAGE,)),
    (Reshape((168,)), (IMAGE,)),
    (Transpose((0, 2, 3, 1)), (IMAGE,)),
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


def images(graph: Graph, batch: int, seed: int = 1) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        item.key: (0.1 + np.abs(generator.standard_normal((batch, *item.shape[1:])))).astype(np.float32)
        for item in graph.inputs
    }


def onnxruntime_outputs(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Its own shape rule for pools that round up is off by one, of which it warns; what it computes is right.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, inputs)


def torch_outputs(net: Network, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    module = GraphModule(net.graph, net.weights).eval()
    with torch.no_grad():
        results = module(*(torch.tensor(inputs[item.key]) for item in net.graph.inputs))
    return [result.detach().numpy() for result in (results if isinstance(results, tuple) else (results,))]


def assert_close(given: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    assert len(given) == len(wanted)
    for a, b in zip(given, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def assert_round_trip(net: Network, opset: int = 18) -> onnx.ModelProto:
    model = export_onnx(net, None, opset=opset)
    back = import_onnx(model)
    assert back.graph == net.graph
    assert back.weights.keys() == net.weights.keys()
    for name, array in net.weights.items():
        np.testing.assert_array_equal(back.weights[name], array, strict=True)
    return model


def one_node(op: Op, shapes: tuple[tuple[int, ...], ...]) -> Graph:
    inputs = tuple(Input(f"x{index}", shape) for index, shape in enumerate(shapes))
    return Graph(inputs, (Node("block.op", op, tuple(item.key for item in inputs)),), ("block.op",))


def describe(case: object) -> str | None:
    return str(case) if isinstance(case, Op) else ""


def test_every_kind_that_runs_has_a_case() -> None:
    assert {type(op) for op, _ in CASES} | {Constant} == set(KINDS) - {Opaque, Select}


@pytest.mark.parametrize(("op", "shapes"), CASES, ids=describe)
def test_one_operator_comes_back_equal_and_onnxruntime_computes_the_same(op: Op, shapes: tuple) -> None:
    net = network(one_node(op, shapes))
    model = assert_round_trip(net)
    for batch in (1, 2):
        inputs = images(net.graph, batch)
        assert_close(onnxruntime_outputs(model, inputs), torch_outputs(net, inputs))


@settings(max_examples=80)
@given(data=st.data())
def test_random_networks_come_back_equal_and_onnxruntime_computes_the_same(
    data: st.DataObject, small_graphs: st.SearchStrategy[Graph]
) -> None:
    net = network(data.draw(small_graphs), seed=data.draw(st.integers(0, 9)))
    model = assert_round_trip(net, data.draw(st.sampled_from([18, 20, 22])))
    for batch in (1, 2):
        inputs = images(net.graph, batch)
        given, wanted = onnxruntime_outputs(model, inputs), torch_outputs(net, inputs)
        for a, b in zip(given, wanted, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(b).max())))


@pytest.mark.parametrize(
    "name",
    ["mobilenet_v1-0.25-96", "mobilenet_v2-0.35-96", "ibn_detector-0.25-96", "ibn_classifier", "resnet8", "ds_cnn"],
)
def test_the_zoo_comes_back_equal_and_onnxruntime_computes_the_same(name: str) -> None:
    net = from_zoo(name)
    model = assert_round_trip(net)
    inputs = images(net.graph, 2)
    assert_close(onnxruntime_outputs(model, inputs), torch_outputs(net, inputs))


def test_constants_in_a_concatenation_grow_with_the_batch() -> None:
    nodes = (
        Node("token", Constant((1, 1, 6)), ()),
        Node("half", Elementwise("mul"), ("token", "token")),
        Node("cat", Concat(1), ("half", "x", "token")),
    )
    net = network(Graph((Input("x", ROWS),), nodes, ("cat", "token")))
    model = assert_round_trip(net)
    inputs = images(net.graph, 3)
    assert_close(onnxruntime_outputs(model, inputs), torch_outputs(net, inputs))


def test_a_network_without_operators_and_repeated_outputs() -> None:
    graph = Graph((Input("x", ROWS),), (Node("a", Activation("relu"), ("x",)),), ("x", "a", "a"))
    model = assert_round_trip(network(graph))
    assert len(onnxruntime_outputs(model, images(graph, 1))) == 3


def test_names_in_the_file_are_the_users() -> None:
    model = export_onnx(from_zoo("resnet8"), None, batch=1)
    net = from_zoo("resnet8")
    assert [node.name for node in model.graph.node] == [node.key for node in net.graph.nodes]
    assert {item.name for item in model.graph.initializer} >= set(net.weights)
    assert [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 32, 32]


def test_what_cannot_be_exported() -> None:
    x = Input("x", ROWS)
    opaque = Graph((x,), (Node("odd", Opaque("GridSample", ROWS), ("x",)),), ("odd",))
    with pytest.raises(UnsupportedOperator, match=r"'odd'.*'GridSample'"):
        export_onnx(Network("net", opaque, {}), None)
    still_open = Graph((x,), (), ("x",), (Decision("width", (1, 2)),))
    with pytest.raises(InvalidInput, match="1 decisions are open"):
        export_onnx(Network("net", still_open, {}), None)
    with pytest.raises(InvalidInput, match="opset=12"):
        export_onnx(from_zoo("resnet8"), None, opset=12)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(from_zoo("resnet8"), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull):
        export_onnx(from_zoo("ds_cnn"), path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["net.onnx"]


# What others write.


def model_of(
    nodes: list[onnx.NodeProto],
    shape: tuple[object, ...],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    outputs: tuple[str, ...] = ("y",),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("odd.domain", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def node(operator: str, inputs: str, output: str = "y", name: str = "", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(","), output.split(","), name, **attributes)


def kinds(net: Network) -> list[str]:
    return [getattr(item.op, "function", type(item.op).__name__) for item in net.graph.nodes]


RANDOM = np.random.default_rng(3)
FILTER = RANDOM.standard_normal((6, 2, 3, 3)).astype(np.float32)
MATRIX = RANDOM.standard_normal((6, 3)).astype(np.float32)
PER_CHANNEL = RANDOM.uniform(0.5, 1.5, 4).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


MEAN = {"axes": [-1], "keepdims": 1}
FOREIGN: dict[str, tuple[onnx.ModelProto, list[str] | None]] = {
    "same upper": (
        model_of([node("Conv", "x,w", auto_pad="SAME_UPPER", group=2, strides=[2, 2])], IMAGE, {"w": FILTER}),
        ["Conv2d"],
    ),
    "same lower": (
        model_of([node("MaxPool", "x", auto_pad="SAME_LOWER", kernel_shape=[2, 3], strides=[2, 2])], IMAGE),
        ["max"],
    ),
    "output shape of a transposed convolution": (
        model_of(
            [node("ConvTranspose", "x,w", output_shape=[13, 12], strides=[2, 2])],
            IMAGE,
            {"w": FILTER.reshape(4, 3, 3, 3)},
        ),
        ["ConvTranspose2d"],
    ),
    "convolution of a row": (
        model_of(
            [node("Conv", "x,w,b", pads=[2, 0], dilations=[2])],
            ROWS,
            {"w": RANDOM.standard_normal((3, 5, 2)).astype(np.float32), "b": np.ones(3, np.float32)},
        ),
        ["Reshape", "Conv2d", "Reshape"],
    ),
    "gemm scaled": (
        model_of(
            [node("Gemm", "x,w,b", alpha=0.5, beta=2.0)], (1, 6), {"w": MATRIX, "b": np.arange(3, dtype=np.float32)}
        ),
        ["Linear"],
    ),
    "product and bias": (
        model_of([node("MatMul", "x,w", "p"), node("Add", "b,p")], ROWS, {"w": MATRIX, "b": np.ones(3, np.float32)}),
        ["Linear"],
    ),
    "product that something else reads": (
        model_of(
            [node("MatMul", "x,w", "p"), node("Add", "p,b")],
            ROWS,
            {"w": MATRIX, "b": np.ones(3, np.float32)},
            outputs=("y", "p"),
        ),
        ["Linear", "Constant", "add"],
    ),
    "weight worked out": (
        model_of([node("Transpose", "w", "t"), node("MatMul", "x,t")], ROWS, {"w": np.ascontiguousarray(MATRIX.T)}),
        ["Linear"],
    ),
    "shape arithmetic": (
        model_of(
            [
                node("Shape", "x", "s"),
                node("Gather", "s,zero", "b", axis=0),
                node("Unsqueeze", "b,axis", "bu"),
                node("Concat", "bu,minus", "target", axis=0),
                node("Reshape", "x,target"),
            ],
            ("batch", *IMAGE[1:]),
            {"zero": np.array(0, np.int64), "axis": ints(0), "minus": ints(-1)},
        ),
        ["Reshape"],
    ),
    "erf gelu": (
        model_of(
            [
                node("Div", "x,root", "d"),
                node("Erf", "d", "e"),
                node("Add", "e,one", "a"),
                node("Mul", "x,a", "m"),
                node("Mul", "m,half"),
            ],
            ROWS,
            {"root": number(2**0.5), "one": number(1), "half": number(0.5)},
        ),
        ["gelu"],
    ),
    "tanh gelu": (
        model_of(
            [
                node("Pow", "x,three", "c"),
                node("Mul", "c,k", "ck"),
                node("Add", "x,ck", "i"),
                node("Mul", "i,s", "is"),
                node("Tanh", "is", "t"),
                node("Add", "t,one", "a"),
                node("Mul", "a,half", "h"),
                node("Mul", "x,h"),
            ],
            ROWS,
            {"three": number(3), "k": number(0.044715), "s": number((2 / np.pi) ** 0.5)}
            | {"one": number(1), "half": number(0.5)},
        ),
        ["gelu_tanh"],
    ),
    "hard swish in parts": (
        model_of(
            [
                node("Add", "x,three", "a"),
                node("Clip", "a,low,high", "c"),
                node("Mul", "x,c", "m"),
                node("Div", "m,six"),
            ],
            IMAGE,
            {"three": number(3), "low": number(0), "high": number(6), "six": number(6)},
        ),
        ["hard_swish"],
    ),
    "swish whose gate is read elsewhere": (
        model_of([node("Sigmoid", "x", "s"), node("Mul", "x,s")], IMAGE, outputs=("y", "s")),
        ["sigmoid", "mul"],
    ),
    "layer normalisation in parts": (
        model_of(
            [
                node("ReduceMean", "x", "m", **MEAN),
                node("Sub", "x,m", "d"),
                node("Pow", "d,two", "q"),
                node("ReduceMean", "q", "v", **MEAN),
                node("Add", "v,eps", "ve"),
                node("Sqrt", "ve", "s"),
                node("Div", "d,s", "n"),
                node("Mul", "n,w", "nw"),
                node("Add", "nw,b"),
            ],
            ROWS,
            {"two": number(2), "eps": number(1e-5), "w": MATRIX[:, 0].copy(), "b": MATRIX[:, 1].copy()},
        ),
        ["LayerNorm"],
    ),
    "clip to other bounds": (
        model_of([node("Clip", "x,low,high")], IMAGE, {"low": number(0.3), "high": number(1)}),
        ["Constant", "max", "Constant", "min"],
    ),
    "mean without axes kept": (model_of([node("ReduceMean", "x", axes=[2, 3], keepdims=0)], IMAGE), None),
    "mean of a row": (model_of([node("ReduceMean", "x", axes=[1], keepdims=0)], ROWS), None),
    "mean of rows kept": (model_of([node("ReduceMean", "x", axes=[3], keepdims=1)], IMAGE), None),
    "maximum over channels": (model_of([node("ReduceMax", "x", axes=[1], keepdims=1)], IMAGE), None),
    "split": (
        model_of([node("Split", "x,s", "a,b,c", axis=1), node("Concat", "c,a,b", axis=1)], IMAGE, {"s": ints(1, 2, 1)}),
        ["Slice", "Slice", "Slice", "Concat"],
    ),
    "equal split": (
        model_of([node("Split", "x", "a,b", axis=1), node("Sub", "b,a")], IMAGE, opset=13),
        ["Slice", "Slice", "sub"],
    ),
    "slice from the end": (
        model_of(
            [node("Slice", "x,s,e,a")],
            IMAGE,
            {"s": ints(-3, 1), "e": ints(np.iinfo(np.int64).max, -1), "a": ints(2, 3)},
        ),
        ["Slice", "Slice"],
    ),
    "gather one": (
        model_of([node("Gather", "x,i", axis=2)], IMAGE, {"i": np.array(-2, np.int64)}),
        ["Slice", "Reshape"],
    ),
    "squeeze and unsqueeze": (
        model_of(
            [node("GlobalAveragePool", "x", "p"), node("Squeeze", "p,a", "q"), node("Unsqueeze", "q,b")],
            IMAGE,
            {"a": ints(2, 3), "b": ints(1, -1)},
        ),
        ["average", "Reshape", "Reshape"],
    ),
    "depth to space": (model_of([node("DepthToSpace", "x", blocksize=2)], IMAGE), None),
    "depth to space, channels outside": (model_of([node("DepthToSpace", "x", blocksize=2, mode="CRD")], IMAGE), None),
    "doubled by the default of nearest": (
        model_of([node("Resize", "x,,s", mode="nearest")], IMAGE, {"s": np.array([1, 1, 2, 3], np.float32)}),
        ["Resize"],
    ),
    "bilinear as older PyTorch exports it": (
        model_of(
            [node("Resize", "x,,,s", mode="linear", coordinate_transformation_mode="pytorch_half_pixel")],
            IMAGE,
            {"s": ints(1, 4, 9, 5)},
        ),
        ["Resize"],
    ),
    "shared slopes": (
        model_of([node("PRelu", "x,s")], IMAGE, {"s": np.array([0.3], np.float32)}),
        ["prelu"],
    ),
    "sum of three": (model_of([node("Sum", "x,x,x")], IMAGE), ["add", "add"]),
    "padding by axes": (
        model_of([node("Pad", "x,p,v,a")], IMAGE, {"p": ints(1, 2), "v": number(0.5), "a": ints(-1)}, opset=18),
        ["Pad"],
    ),
    "dropout, identity and casts": (
        model_of(
            [
                node("Dropout", "x", "d"),
                node("Identity", "d", "i"),
                node("Cast", "i", "c", to=TensorProto.FLOAT),
                node("Relu", "c"),
            ],
            IMAGE,
        ),
        ["relu"],
    ),
    "weights handed through identity": (
        model_of(
            [
                node("Identity", "v", "w"),
                node("BatchNormalization", "x,w,v,w,v"),
            ],
            IMAGE,
            {"v": PER_CHANNEL},
        ),
        ["BatchNorm"],
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_others_write_computes_the_same(case: str) -> None:
    model, wanted = FOREIGN[case]
    net = import_onnx(model)
    assert not [item for item in net.graph.nodes if isinstance(item.op, Opaque)]
    if wanted is not None:
        assert kinds(net) == wanted
    inputs = images(net.graph, 1)
    results = onnxruntime_outputs(model, inputs)
    assert_close(torch_outputs(net, inputs), results)


def test_keys_of_nodes_without_a_name() -> None:
    model = model_of(
        [
            node("Conv", "x,stage.conv.weight", "a", group=2),
            node("Relu", "a", "b"),
            node("Relu", "b", "c", name="act"),
            node("Relu", "c", "y", name="act"),
        ],
        IMAGE,
        {"stage.conv.weight": FILTER},
    )
    assert [item.key for item in import_onnx(model).graph.nodes] == ["stage.conv", "Relu_1", "act", "act_1"]


def test_unknown_operators_are_opaque_with_their_shape() -> None:
    stored = model_of([node("Warp", "x", "w", name="warp", domain="odd.domain"), node("Relu", "w")], ("n", *IMAGE[1:]))
    stored.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, ("n", 2, 3)))
    net = import_onnx(stored)
    assert net.graph.nodes[0] == Node("warp", Opaque("odd.domain.Warp", (1, 2, 3)), ("x",))
    assert net.graph.shapes["Relu_1"] == (1, 2, 3)

    inferred = model_of([node("Softplus", "x", name="soft")], IMAGE)
    assert import_onnx(inferred).graph.nodes == (Node("soft", Opaque("Softplus", IMAGE), ("x",)),)

    two = model_of(
        [node("TopK", "x,k", "v,i", name="top"), node("Relu", "v")], IMAGE, {"k": ints(3)}, outputs=("y", "i")
    )
    shape = (*IMAGE[:3], 3)
    assert [item.op for item in import_onnx(two).graph.nodes] == [
        Opaque("TopK", shape),
        Opaque("TopK", shape),
        Activation("relu"),
    ]


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        ([node("Reshape", "x,s")], {"s": ints(4, 42)}),
        ([node("Transpose", "x", perm=[1, 0, 2, 3])], {}),
        ([node("Resize", "x,,s", mode="cubic")], {"s": np.array([1, 1, 2, 2], np.float32)}),
        ([node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2])], {}),
        ([node("HardSigmoid", "x", alpha=0.3)], {}),
        ([node("Pad", "x,p", mode="reflect")], {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}),
    ],
)
def test_settings_that_no_node_has_are_opaque(nodes: list, weights: dict) -> None:
    model = model_of(nodes, IMAGE, weights)
    net = import_onnx(model)
    assert [type(item.op) for item in net.graph.nodes] == [Opaque]
    assert net.graph.shapes[net.graph.outputs[0]] == onnxruntime_outputs(model, images(net.graph, 1))[0].shape
    assert not net.weights


def test_an_operator_whose_size_is_known_only_when_it_runs_is_kept_and_says_so() -> None:
    net = import_onnx(model_of([node("NonZero", "x", "i", name="post.3"), node("Cast", "i", to=1)], IMAGE))
    found = net.graph.by_key["post.3"].op
    assert isinstance(found, Opaque)
    assert found.operator == "NonZero (gives a size that is known only when it runs)"
    assert found.size == (4, 1)


def test_an_unknown_operator_of_unknown_rank_is_named() -> None:
    model = model_of([node("Strange", "x", "i", name="post.3", domain="odd.domain"), node("Relu", "i")], IMAGE)
    with pytest.raises(
        InvalidInput, match=r"'post.3': the operator 'odd.domain.Strange' is unknown and so is the shape"
    ):
        import_onnx(model)


def test_open_sizes_need_an_input_shape() -> None:
    model = model_of([node("Relu", "x")], ("n", 3, "height", "width"))
    with pytest.raises(InvalidInput, match=r"'x' has open sizes.*input_shape="):
        import_onnx(model)
    assert import_onnx(model, input_shape=(1, 3, 5, 6)).graph.inputs[0].shape == (1, 3, 5, 6)
    assert import_onnx(model, input_shape={"x": (1, 3, 5, 6)}).graph.inputs[0].shape == (1, 3, 5, 6)
    with pytest.raises(InvalidInput, match="does not fit"):
        import_onnx(model, input_shape=(1, 4, 5, 6))
    with pytest.raises(InvalidInput, match="no input 'z'"):
        import_onnx(model, input_shape={"z": (1, 3, 5, 6)})
    with pytest.raises(InvalidInput, match="no batch of 1"):
        import_onnx(model_of([node("Relu", "x")], (4, 3, 5, 6)))


def test_old_operator_sets_are_refused() -> None:
    with pytest.raises(InvalidInput, match="operator set 11 is too old"):
        import_onnx(model_of([node("Relu", "x")], IMAGE, opset=11))


def test_truncated_files_are_refused_in_one_line(tmp_path: Path) -> None:
    content = export_onnx(from_zoo("ds_cnn"), None).SerializeToString()
    path = tmp_path / "net.onnx"
    offsets = {*range(0, 300, 7), *range(0, len(content), len(content) // 150), len(content) - 1, len(content) - 2}
    for offset in sorted(offsets):
        path.write_bytes(content[:offset])
        with pytest.raises(InvalidInput, match=r"net.onnx: not a readable ONNX file \(.*\)\. Re-export it") as caught:
            import_onnx(path)
        assert "\n" not in str(caught.value)


DAMAGED = FOREIGN["product and bias"][0].SerializeToString()


@settings(max_examples=150)
@given(damage=st.binary(min_size=1, max_size=6), where=st.floats(0, 1))
def test_damaged_files_are_read_or_refused(
    damage: bytes, where: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(DAMAGED)
    start = int(where * (len(content) - len(damage)))
    content[start : start + len(damage)] = damage
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)
    # Any other error than InvalidInput fails the test.
    with contextlib.suppress(InvalidInput):
        assert import_onnx(path).graph.outputs


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        import_onnx(tmp_path / "missing.onnx")
