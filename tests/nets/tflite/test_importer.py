"""TFLite import: operators that belong together, networks that come back from a file, layouts that move nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipfit.errors import UnsupportedOperator
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Conv2d,
    GlobalPool,
    LayerNorm,
    Linear,
    Opaque,
    Pool2d,
    Reshape,
    Resize,
    Transpose,
)
from chipfit.nets.network import Network, initialise
from chipfit.nets.tflite.exporter import tflite_model
from chipfit.nets.tflite.importer import import_tflite
from chipfit.nets.zoo import from_zoo

NewFile = Callable[[], Any]
Agrees = Callable[..., Network]
Computed = Callable[[Network, Sequence[np.ndarray]], list[np.ndarray]]
Samples = Callable[..., list[np.ndarray]]

IMAGE = (1, 6, 8, 4)
ROWS = (1, 5, 6)
SAME, VALID = {"Padding": 0}, {"Padding": 1}
STRIDE = {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) + sum(shape)).uniform(-1, 1, shape)


def kinds(net: Network) -> list[str]:
    return [type(node.op).__name__ for node in net.graph.nodes]


def convolution(
    file: Any, source: int, shape: Sequence[int], name: str, out: int, kernel: int = 3, **options: Any
) -> int:
    """A convolution whose padding is none unless `options` say otherwise, on a tensor with `shape[3]` channels."""
    weight = file.constant(numbers(out, kernel, kernel, shape[3]), f"{name}/weight")
    height, width = (size if options.get("Padding") == 0 else size - kernel + 1 for size in shape[1:3])
    result = file.tensor(name, (1, height, width, out))
    bias = file.constant(numbers(out), f"{name}/bias")
    file.operator("CONV_2D", [source, weight, bias], result, table="Conv2DOptions", **(VALID | STRIDE | options))
    return result


def test_padding_in_front_is_that_of_the_convolution(new_file: NewFile, agrees: Agrees) -> None:
    file = new_file()
    x, padded = file.input("x", IMAGE), file.tensor("padded", (1, 9, 10, 4))
    file.operator("PAD", [x, file.constant([[0, 0], [1, 2], [0, 2], [0, 0]])], padded)
    data = file.written(convolution(file, padded, (1, 9, 10, 4), "y", 5, FusedActivationFunction=1))
    net = agrees(data)
    assert kinds(net) == ["Conv2d", "Activation"]
    assert [node.key for node in net.graph.nodes] == ["y.conv", "y"]
    assert net.graph.nodes[0].op == Conv2d(5, (3, 3), (1, 1), (1, 0, 2, 2))


def test_padding_that_others_read_stays(new_file: NewFile, agrees: Agrees) -> None:
    file = new_file()
    x, padded, negative = file.input("x", IMAGE), file.tensor("padded", (1, 9, 10, 4)), file.tensor("n", (1, 9, 10, 4))
    file.operator("PAD", [x, file.constant([[0, 0], [1, 2], [0, 2], [0, 0]])], padded)
    file.operator("NEG", [padded], negative)
    assert sorted(kinds(agrees(file.written(convolution(file, padded, (1, 9, 10, 4), "y", 5), negative)))) == [
        "Activation",
        "Conv2d",
        "Pad",
    ]


@pytest.mark.parametrize("inner", [SAME, VALID])
@pytest.mark.parametrize("depthwise", [False, True])
def test_dilation_of_older_files(new_file: NewFile, agrees: Agrees, inner: dict[str, int], depthwise: bool) -> None:
    file, same = new_file(), inner == SAME
    x, apart = file.input("x", (1, 7, 9, 4)), file.tensor("apart", (6, 5, 5, 4))
    block = file.constant([2, 3])
    file.operator("SPACE_TO_BATCH_ND", [x, block, file.constant([[2, 1], [3, 3]])], apart)
    sizes = (6, 5, 5) if same else (6, 3, 3)
    done = file.tensor("done", (*sizes, 4))
    weight = file.constant(numbers(1, 3, 3, 4) if depthwise else numbers(4, 3, 3, 4))
    code, table = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
    options = inner | STRIDE | ({"DepthMultiplier": 1} if depthwise else {})
    file.operator(code, [apart, weight, file.constant(numbers(4))], done, table=table, **options)
    y = file.tensor("y", (1, sizes[1] * 2 - 1, sizes[2] * 3 - 2, 4))
    file.operator("BATCH_TO_SPACE_ND", [done, block, file.constant([[0, 1], [2, 0]])], y)
    net = agrees(file.written(y))
    assert kinds(net) == ["Conv2d"]
    assert net.graph.nodes[0].op.dilation == (2, 3)


def test_flatten_permutes_columns_and_moves_nothing(new_file: NewFile, agrees: Agrees) -> None:
    file = new_file()
    x, flat, y = file.input("x", IMAGE), file.tensor("flat", (1, 192)), file.tensor("y", (1, 3))
    file.operator("RESHAPE", [x, file.constant([1, -1])], flat)
    columns = numbers(3, 192)
    file.operator("FULLY_CONNECTED", [flat, file.constant(columns)], y, table="FullyConnectedOptions")
    net = agrees(file.written(y))
    assert [node.op for node in net.graph.nodes] == [Reshape((-1,)), Linear(3, False)]
    # One number moves the output by its own column, wherever the two formats keep it.
    index = np.arange(192).reshape(IMAGE[1:]).transpose(2, 0, 1).reshape(-1)
    np.testing.assert_array_equal(net.weights["y.weight"], columns[:, index].astype(np.float32))


def test_a_flat_row_that_others_read_has_the_order_of_the_file(new_file: NewFile, agrees: Agrees) -> None:
    file = new_file()
    x, flat, y = file.input("x", IMAGE), file.tensor("flat", (1, 192)), file.tensor("y", (1, 192))
    file.operator("RESHAPE", [x, file.constant([1, -1])], flat)
    file.operator("TANH", [flat], y)
    assert kinds(agrees(file.written(y, flat))) == ["Transpose", "Reshape", "Activation"]


def test_transposes_that_cancel_are_gone(new_file: NewFile, agrees: Agrees) -> None:
    file = new_file()
    x, turned = file.input("x", IMAGE), file.tensor("turned", (1, 4, 6, 8))
    file.operator("TRANSPOSE", [x, file.constant([0, 3, 1, 2])], turned)
    active, back = file.tensor("active", (1, 4, 6, 8)), file.tensor("back", IMAGE)
    file.operator("TANH", [turned], active)
    file.operator("TRANSPOSE", [active, file.constant([0, 2, 3, 1])], back)
    net = agrees(file.written(convolution(file, back, IMAGE, "y", 2)))
    assert kinds(net) == ["Activation", "Conv2d"]


def test_convolutions_over_rows_stay_images(new_file: NewFile, agrees: Agrees) -> None:
    """Keras writes a 1-D convolution as EXPAND_DIMS, CONV_2D and SQUEEZE; nothing between two of them moves."""
    file = new_file()
    last = file.input("x", (1, 9, 4))
    for index in range(2):
        image = file.tensor(f"image{index}", (1, 1, 9, 4))
        file.operator("EXPAND_DIMS", [last, file.constant([1])], image)
        result = convolution(file, image, (1, 1, 9, 4), f"conv{index}", 4, **SAME)
        last = file.tensor(f"rows{index}", (1, 9, 4))
        file.operator("SQUEEZE", [result], last, table="SqueezeOptions", SqueezeDims=[1])
        active = file.tensor(f"active{index}", (1, 9, 4))
        file.operator("ADD", [last, file.constant(numbers(4))], active, table="AddOptions")
        last = active
    net = agrees(file.written(last))
    assert kinds(net).count("Transpose") <= 2


def test_rows_without_a_batch(new_file: NewFile, agrees: Agrees) -> None:
    """Older converters fold the batch into the rows around a FULLY_CONNECTED."""
    file = new_file()
    x, folded = file.input("x", ROWS), file.tensor("folded", (5, 6))
    file.operator("RESHAPE", [x, file.constant([-1, 6])], folded)
    y, scaled, back = file.tensor("y", (5, 3)), file.tensor("scaled", (5, 3)), file.tensor("back", (1, 5, 3))
    weights = [file.constant(numbers(3, 6)), file.constant(numbers(3))]
    file.operator("FULLY_CONNECTED", [folded, *weights], y, table="FullyConnectedOptions", FusedActivationFunction=1)
    file.operator("MUL", [y, file.constant(numbers(3))], scaled, table="MulOptions")
    file.operator("RESHAPE", [scaled, file.constant([1, 5, 3])], back)
    net = agrees(file.written(back))
    assert not any(isinstance(node.op, Opaque) for node in net.graph.nodes)


def test_shapes_that_are_computed_are_folded(new_file: NewFile, agrees: Agrees) -> None:
    file = new_file()
    x = file.input("x", (1, 5, 6, 4))
    shape, batch, target = (
        file.tensor("s", (4,), np.int32),
        file.tensor("b", (), np.int32),
        file.tensor("t", (3,), np.int32),
    )
    file.operator("SHAPE", [x], shape, table="ShapeOptions", OutType=2)
    bounds = [file.constant([0]), file.constant([1]), file.constant([1])]
    file.operator("STRIDED_SLICE", [shape, *bounds], batch, table="StridedSliceOptions", ShrinkAxisMask=1)
    parts = [batch, file.constant(np.array(30)), file.constant(np.array(4))]
    file.operator("PACK", parts, target, table="PackOptions", ValuesCount=3)
    y = file.tensor("y", (1, 30, 4))
    file.operator("RESHAPE", [x, target], y)
    net = agrees(file.written(y))
    assert [node.op for node in net.graph.nodes] == [Reshape((-1, 30)), Transpose((0, 2, 1))]


def test_a_shuffle_of_channels_moves_channels_only(new_file: NewFile, agrees: Agrees) -> None:
    file, groups = new_file(), (1, 6, 8, 2, 2)
    x, apart, turned, y = file.input("x", IMAGE), *(file.tensor(name, groups) for name in "at"), file.tensor("y", IMAGE)
    file.operator("RESHAPE", [x, file.constant(groups)], apart)
    file.operator("TRANSPOSE", [apart, file.constant([0, 1, 2, 4, 3])], turned)
    file.operator("RESHAPE", [turned, file.constant(IMAGE)], y)
    net = agrees(file.written(y))
    assert kinds(net) == ["Reshape", "Transpose", "Reshape"]
    assert net.graph.nodes[1].op == Transpose((0, 2, 1, 3, 4))


def test_attention_turns_heads_only(new_file: NewFile, agrees: Agrees) -> None:
    """As in PyTorch: heads apart, products of matrices, heads together; no other node moves numbers."""
    file, tokens, heads, turned = new_file(), (1, 5, 6), (1, 5, 2, 3), (1, 2, 5, 3)
    x = file.input("x", tokens)
    found: list[int] = []
    for name in "qkv":
        row, apart, result = file.tensor(name, tokens), file.tensor(f"{name}1", heads), file.tensor(f"{name}2", turned)
        weight = file.constant(numbers(6, 6))
        file.operator("FULLY_CONNECTED", [x, weight], row, table="FullyConnectedOptions", KeepNumDims=True)
        file.operator("RESHAPE", [row, file.constant(heads)], apart)
        file.operator("TRANSPOSE", [apart, file.constant([0, 2, 1, 3])], result)
        found.append(result)
    scores, weights = file.tensor("scores", (1, 2, 5, 5)), file.tensor("weights", (1, 2, 5, 5))
    file.operator("BATCH_MATMUL", found[:2], scores, table="BatchMatMulOptions", AdjY=True)
    file.operator("SOFTMAX", [scores], weights, table="SoftmaxOptions", Beta=1.0)
    mixed, back, y = file.tensor("mixed", turned), file.tensor("back", heads), file.tensor("y", tokens)
    file.operator("BATCH_MATMUL", [weights, found[2]], mixed, table="BatchMatMulOptions")
    file.operator("TRANSPOSE", [mixed, file.constant([0, 2, 1, 3])], back)
    file.operator("RESHAPE", [back, file.constant(tokens)], y)
    names = kinds(agrees(file.written(y)))
    assert [names.count(kind) for kind in ("Linear", "MatMul", "Softmax", "Reshape", "Transpose")] == [3, 2, 1, 4, 4]


def test_half_precision_and_hybrid_weights(new_file: NewFile) -> None:
    file = new_file()
    x, half = file.input("x", (1, 6)), file.constant(numbers(3, 6), "half", np.float16)
    weight, y, z = file.tensor("weight", (3, 6)), file.tensor("y", (1, 3)), file.tensor("z", (1, 2))
    file.operator("DEQUANTIZE", [half], weight)
    file.operator("FULLY_CONNECTED", [x, weight], y, table="FullyConnectedOptions")
    integers = file.constant([[1, -127, 5], [0, 3, 127]], "eight", np.int8, ([0.01], [0], 0))
    file.operator("FULLY_CONNECTED", [y, integers], z, table="FullyConnectedOptions")
    net = import_tflite(file.written(y, z))
    assert kinds(net) == ["Linear", "Linear"]
    np.testing.assert_array_equal(net.weights["y.weight"], numbers(3, 6).astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(net.weights["z.weight"], [[0.01, -1.27, 0.05], [0, 0.03, 1.27]], rtol=1e-6)
    assert net.quantisation["z.weight"].zero_points == (0,)
    assert "y.weight" not in net.quantisation


def test_integers_that_become_floats_before_a_layer_keep_their_scale(new_file: NewFile, agrees: Agrees) -> None:
    file = new_file()
    x, weight, y = file.input("x", (1, 3)), file.tensor("weight", (2, 3)), file.tensor("y", (1, 2))
    integers = file.constant([[1, -127, 5], [0, 3, 127]], "eight", np.int8, ([0.01, 0.02], [0, 0], 0))
    file.operator("DEQUANTIZE", [integers], weight)
    file.operator("FULLY_CONNECTED", [x, weight], y, table="FullyConnectedOptions")
    net = agrees(file.written(y))
    assert net.quantisation["y.weight"].scales == pytest.approx((0.01, 0.02))


def test_normalisation_and_activations_get_their_names(new_file: NewFile, agrees: Agrees) -> None:
    file = new_file()
    x, reduced = file.input("x", ROWS), (1, 5, 1)
    names = ["mean", "centred", "square", "variance", "shifted", "inverse", "normal", "scaled", "y", "gate", "z"]
    mean, centred, square, variance, shifted, inverse, normal, scaled, y, gate, z = (
        file.tensor(name, reduced if name in ("mean", "variance", "shifted", "inverse") else ROWS) for name in names
    )
    axes, keep = file.constant([2]), {"table": "ReducerOptions", "KeepDims": True}
    file.operator("MEAN", [x, axes], mean, **keep)
    file.operator("SUB", [x, mean], centred, table="SubOptions")
    file.operator("MUL", [centred, centred], square, table="MulOptions")
    file.operator("MEAN", [square, axes], variance, **keep)
    file.operator("ADD", [variance, file.constant(np.array(1e-3))], shifted, table="AddOptions")
    file.operator("RSQRT", [shifted], inverse)
    file.operator("MUL", [centred, inverse], normal, table="MulOptions")
    file.operator("MUL", [normal, file.constant(numbers(6))], scaled, table="MulOptions")
    file.operator("ADD", [scaled, file.constant(numbers(6))], y, table="AddOptions")
    file.operator("LOGISTIC", [y], gate)
    file.operator("MUL", [y, gate], z, table="MulOptions")
    net = agrees(file.written(z))
    assert [node.op for node in net.graph.nodes] == [LayerNorm(1, 1e-3), Activation("silu")]


def test_padding_in_front_is_that_of_the_pooling(new_file: NewFile, agrees: Agrees) -> None:
    for code, filling, wanted in (
        ("MAX_POOL_2D", float(np.finfo(np.float32).min), "max"),
        ("AVERAGE_POOL_2D", 0.0, "average"),
    ):
        file = new_file()
        x, padded, y = file.input("x", IMAGE), file.tensor("padded", (1, 8, 10, 4)), file.tensor("y", (1, 6, 8, 4))
        pads = file.constant([[0, 0], [1, 1], [1, 1], [0, 0]])
        file.operator("PADV2", [x, pads, file.constant(np.array(filling))], padded)
        window = {"FilterHeight": 3, "FilterWidth": 3, "StrideH": 1, "StrideW": 1}
        file.operator(code, [padded], y, table="Pool2DOptions", **VALID, **window)
        net = agrees(file.written(y))
        assert [node.op for node in net.graph.nodes] == [Pool2d(wanted, (3, 3), (1, 1), (1, 1, 1, 1))]


def test_pooling_of_the_whole_image_is_global(new_file: NewFile, agrees: Agrees) -> None:
    file = new_file()
    x, y = file.input("x", IMAGE), file.tensor("y", (1, 1, 1, 4))
    window = {"FilterHeight": 6, "FilterWidth": 8, "StrideH": 2, "StrideW": 2}
    file.operator("AVERAGE_POOL_2D", [x], y, table="Pool2DOptions", **VALID, **window)
    assert [node.op for node in agrees(file.written(y)).graph.nodes] == [GlobalPool()]


@pytest.mark.parametrize("name", ["mobilenet_v2-0.35-96", "ibn_classifier", "resnet8", "ds_cnn"])
def test_networks_of_the_zoo_come_back(computed: Computed, samples: Samples, name: str) -> None:
    """The same operators in the same places; the export folds batch normalisation into what stands before it."""
    net = from_zoo(name)
    back = import_tflite(tflite_model(net))
    ours = [node.op for node in net.graph.nodes if not isinstance(node.op, BatchNorm)]
    assert [without_bias(node.op) for node in back.graph.nodes] == [without_bias(op) for op in ours]
    assert back.graph.inputs == net.graph.inputs
    assert back.graph.outputs == net.graph.outputs
    inputs = samples(net, 2)
    np.testing.assert_allclose(computed(back, inputs)[0], computed(net, inputs)[0], rtol=1e-3, atol=1e-4)
    again = import_tflite(tflite_model(back))
    assert again.graph == back.graph
    assert all(np.array_equal(again.weights[key], back.weights[key]) for key in back.weights)


def without_bias(op: Any) -> Any:
    return replace(op, bias=True) if isinstance(op, (Conv2d, Linear)) else op


@given(st.data())
@settings(max_examples=60)
def test_imported_is_exported(
    small_graphs: st.SearchStrategy[Any], computed: Computed, samples: Samples, data: st.DataObject
) -> None:
    """Random networks of every kind of operator compute the same after the way there and back."""
    graph = data.draw(small_graphs)
    net = Network("net", graph, initialise(graph, np.random.default_rng(0)))
    try:
        content = tflite_model(net)
    except UnsupportedOperator:
        return
    back = import_tflite(content)
    inputs = samples(net, 1)
    if any(isinstance(node.op, Opaque) for node in back.graph.nodes):
        # A resize by an odd factor is written as rows by index, which no node says.
        assert any(isinstance(node.op, Resize) for node in graph.nodes)
        return
    for ours, theirs in zip(computed(back, inputs), computed(net, inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
