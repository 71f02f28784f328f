"""TFLite import: what LiteRT computes with an operator is what the network computes that was read from it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from chipfit.graph.ops import Opaque
from chipfit.nets.network import Network

NewFile = Callable[[], Any]
Agrees = Callable[..., Network]

IMAGE = (1, 6, 8, 4)
ROWS = (1, 5, 6)
SAME, VALID = {"Padding": 0}, {"Padding": 1}
STRIDE = {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}
WINDOW = {"FilterHeight": 3, "FilterWidth": 2, "StrideH": 2, "StrideW": 1}


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) + sum(shape)).uniform(-1, 1, shape)


Case = tuple[str, str, dict[str, object], Sequence[object], Sequence[tuple[int, ...]]]
CASES: list[Case] = [
    ("CONV_2D", "Conv2DOptions", SAME | STRIDE, (IMAGE, numbers(5, 3, 2, 4), numbers(5)), [(1, 6, 8, 5)]),
    ("CONV_2D", "Conv2DOptions", VALID | STRIDE, (IMAGE, numbers(6, 3, 3, 2), numbers(6)), [(1, 4, 6, 6)]),
    (
        "CONV_2D",
        "Conv2DOptions",
        SAME | STRIDE | {"StrideH": 2, "StrideW": 3, "FusedActivationFunction": 3},
        (IMAGE, numbers(5, 3, 3, 4), numbers(5)),
        [(1, 3, 3, 5)],
    ),
    (
        "CONV_2D",
        "Conv2DOptions",
        SAME | STRIDE | {"DilationHFactor": 2, "FusedActivationFunction": 2},
        (IMAGE, numbers(5, 3, 3, 4), numbers(5)),
        [(1, 6, 8, 5)],
    ),
    (
        "DEPTHWISE_CONV_2D",
        "DepthwiseConv2DOptions",
        SAME | STRIDE | {"StrideH": 2, "StrideW": 2, "DepthMultiplier": 2, "FusedActivationFunction": 1},
        (IMAGE, numbers(1, 3, 3, 8), numbers(8)),
        [(1, 3, 4, 8)],
    ),
    (
        "TRANSPOSE_CONV",
        "TransposeConvOptions",
        SAME | {"StrideW": 2, "StrideH": 2},
        (np.array([1, 12, 15, 5]), numbers(5, 3, 3, 4), IMAGE),
        [(1, 12, 15, 5)],
    ),
    (
        "TRANSPOSE_CONV",
        "TransposeConvOptions",
        VALID | {"StrideW": 2, "StrideH": 2},
        (np.array([1, 13, 17, 5]), numbers(5, 3, 3, 4), IMAGE, numbers(5)),
        [(1, 13, 17, 5)],
    ),
    ("FULLY_CONNECTED", "FullyConnectedOptions", {}, (IMAGE, numbers(3, 192), numbers(3)), [(1, 3)]),
    ("FULLY_CONNECTED", "FullyConnectedOptions", {}, ((1, 7), numbers(3, 7)), [(1, 3)]),
    (
        "FULLY_CONNECTED",
        "FullyConnectedOptions",
        {"KeepNumDims": True, "FusedActivationFunction": 1},
        (ROWS, numbers(3, 6), numbers(3)),
        [(1, 5, 3)],
    ),
    ("FULLY_CONNECTED", "FullyConnectedOptions", {"KeepNumDims": True}, (IMAGE, numbers(3, 4)), [(1, 6, 8, 3)]),
    ("BATCH_MATMUL", "BatchMatMulOptions", {"AdjY": True}, (ROWS, (1, 4, 6)), [(1, 5, 4)]),
    ("BATCH_MATMUL", "BatchMatMulOptions", {"AdjX": True}, (IMAGE, (1, 6, 8, 3)), [(1, 6, 4, 3)]),
    ("BATCH_MATMUL", "BatchMatMulOptions", {}, (ROWS, numbers(6, 4)), [(1, 5, 4)]),
    *(
        (code, table, {}, (IMAGE, IMAGE), [IMAGE])
        for code, table in (
            ("ADD", "AddOptions"),
            ("SUB", "SubOptions"),
            ("MUL", "MulOptions"),
            ("DIV", "DivOptions"),
            ("MAXIMUM", "MaximumMinimumOptions"),
            ("MINIMUM", "MaximumMinimumOptions"),
            ("SQUARED_DIFFERENCE", "SquaredDifferenceOptions"),
        )
    ),
    ("ADD", "AddOptions", {"FusedActivationFunction": 1}, (IMAGE, numbers(4)), [IMAGE]),
    ("MUL", "MulOptions", {}, (numbers(8, 1), IMAGE), [IMAGE]),
    ("MUL", "MulOptions", {}, (IMAGE, (1, 1, 1, 4)), [IMAGE]),
    ("SUB", "SubOptions", {}, (np.array(1.0), IMAGE), [IMAGE]),
    ("SUB", "SubOptions", {}, ((1, 4), IMAGE), [IMAGE]),
    ("POW", "PowOptions", {}, (IMAGE, np.array(2.0)), [IMAGE]),
    *(
        (code, "", {}, (IMAGE,), [IMAGE])
        for code in (
            "RELU",
            "RELU6",
            "RELU_N1_TO_1",
            "RELU_0_TO_1",
            "HARD_SWISH",
            "LOGISTIC",
            "TANH",
            "EXP",
            "SQRT",
            "RSQRT",
            "ABS",
            "NEG",
            "SQUARE",
        )
    ),
    ("LEAKY_RELU", "LeakyReluOptions", {"Alpha": 0.2}, (ROWS,), [ROWS]),
    ("GELU", "GeluOptions", {"Approximate": True}, (ROWS,), [ROWS]),
    ("GELU", "GeluOptions", {"Approximate": False}, (IMAGE,), [IMAGE]),
    ("PRELU", "", {}, (IMAGE, numbers(1, 1, 4)), [IMAGE]),
    ("PRELU", "", {}, (ROWS, numbers(6)), [ROWS]),
    ("PRELU", "", {}, (ROWS, numbers(5, 1)), [ROWS]),
    ("SOFTMAX", "SoftmaxOptions", {"Beta": 1.0}, (IMAGE,), [IMAGE]),
    ("SOFTMAX", "SoftmaxOptions", {"Beta": 1.0}, (ROWS,), [ROWS]),
    ("AVERAGE_POOL_2D", "Pool2DOptions", SAME | WINDOW, (IMAGE,), [(1, 3, 8, 4)]),
    ("AVERAGE_POOL_2D", "Pool2DOptions", VALID | WINDOW, (IMAGE,), [(1, 2, 7, 4)]),
    ("MAX_POOL_2D", "Pool2DOptions", SAME | WINDOW | {"FusedActivationFunction": 1}, (IMAGE,), [(1, 3, 8, 4)]),
    ("MEAN", "ReducerOptions", {"KeepDims": True}, (IMAGE, np.array([1, 2])), [(1, 1, 1, 4)]),
    ("MEAN", "ReducerOptions", {"KeepDims": False}, (IMAGE, np.array([1, 2])), [(1, 4)]),
    ("MEAN", "ReducerOptions", {"KeepDims": False}, (IMAGE, np.array([2])), [(1, 6, 4)]),
    ("MEAN", "ReducerOptions", {"KeepDims": True}, (IMAGE, np.array([-1])), [(1, 6, 8, 1)]),
    ("MEAN", "ReducerOptions", {"KeepDims": False}, (ROWS, np.array([1])), [(1, 6)]),
    ("SUM", "ReducerOptions", {"KeepDims": False}, (IMAGE, np.array([1, 3])), [(1, 8)]),
    ("REDUCE_MAX", "ReducerOptions", {"KeepDims": True}, (ROWS, np.array([2])), [(1, 5, 1)]),
    ("CONCATENATION", "ConcatenationOptions", {"Axis": 3}, (IMAGE, (1, 6, 8, 2)), [(1, 6, 8, 6)]),
    ("CONCATENATION", "ConcatenationOptions", {"Axis": -2}, (ROWS, numbers(1, 2, 6)), [(1, 7, 6)]),
    ("PAD", "", {}, (IMAGE, np.array([[0, 0], [1, 2], [0, 3], [0, 0]])), [(1, 9, 11, 4)]),
    ("PAD", "", {}, (IMAGE, np.array([[0, 0], [0, 0], [0, 0], [1, 2]])), [(1, 6, 8, 7)]),
    ("PAD", "", {}, (IMAGE, np.array([[0, 0], [1, 0], [0, 3], [2, 1]])), [(1, 7, 11, 7)]),
    ("PAD", "", {}, (ROWS, np.array([[0, 0], [1, 2], [0, 1]])), [(1, 8, 7)]),
    ("PADV2", "", {}, (IMAGE, np.array([[0, 0], [1, 0], [0, 0], [0, 2]]), np.array(-1.5)), [(1, 7, 8, 6)]),
    ("RESHAPE", "ReshapeOptions", {"NewShape": [1, 48, 4]}, (IMAGE,), [(1, 48, 4)]),
    ("RESHAPE", "", {}, (IMAGE, np.array([1, -1])), [(1, 192)]),
    ("RESHAPE", "", {}, (ROWS, np.array([1, 2, 5, 3])), [(1, 2, 5, 3)]),
    ("SQUEEZE", "SqueezeOptions", {"SqueezeDims": [1]}, ((1, 1, 8, 4),), [(1, 8, 4)]),
    ("EXPAND_DIMS", "", {}, (ROWS, np.array([2])), [(1, 5, 1, 6)]),
    ("TRANSPOSE", "", {}, (IMAGE, np.array([0, 3, 1, 2])), [(1, 4, 6, 8)]),
    ("TRANSPOSE", "", {}, (ROWS, np.array([0, 2, 1])), [(1, 6, 5)]),
    ("SLICE", "", {}, (IMAGE, np.array([0, 1, 2, 0]), np.array([-1, 3, 4, 2])), [(1, 3, 4, 2)]),
    (
        "STRIDED_SLICE",
        "StridedSliceOptions",
        {"BeginMask": 1, "EndMask": 5, "ShrinkAxisMask": 8},
        (IMAGE, np.array([0, 1, -5, 2]), np.array([0, 5, 0, 3]), np.array([1, 2, 2, 1])),
        [(1, 2, 3)],
    ),
    ("SPLIT", "SplitOptions", {"NumSplits": 2}, (np.array(3), IMAGE), [(1, 6, 8, 2)] * 2),
    ("SPLIT_V", "SplitVOptions", {"NumSplits": 2}, (ROWS, np.array([1, -1]), np.array(1)), [(1, 1, 6), (1, 4, 6)]),
    ("PACK", "PackOptions", {"Axis": 1, "ValuesCount": 2}, (ROWS, ROWS), [(1, 2, 5, 6)]),
    ("UNPACK", "UnpackOptions", {"Axis": 1, "Num": 5}, (ROWS,), [(1, 6)] * 5),
    ("GATHER", "GatherOptions", {"Axis": 2}, (IMAGE, np.array([2, 3, 4])), [(1, 6, 3, 4)]),
    ("GATHER", "GatherOptions", {"Axis": 1}, (ROWS, np.array(2)), [(1, 6)]),
    ("DEPTH_TO_SPACE", "DepthToSpaceOptions", {"BlockSize": 2}, ((1, 3, 4, 8),), [(1, 6, 8, 2)]),
    ("SPACE_TO_DEPTH", "SpaceToDepthOptions", {"BlockSize": 2}, (IMAGE,), [(1, 3, 4, 16)]),
    ("RESIZE_BILINEAR", "ResizeBilinearOptions", {"HalfPixelCenters": True}, (IMAGE, np.array([9, 6])), [(1, 9, 6, 4)]),
    ("RESIZE_BILINEAR", "ResizeBilinearOptions", {"AlignCorners": True}, (IMAGE, np.array([9, 5])), [(1, 9, 5, 4)]),
    ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", {}, (IMAGE, np.array([9, 5])), [(1, 9, 5, 4)]),
    (
        "RESIZE_NEAREST_NEIGHBOR",
        "ResizeNearestNeighborOptions",
        {"HalfPixelCenters": True},
        (IMAGE, np.array([12, 24])),
        [(1, 12, 24, 4)],
    ),
]


def single(file: Any, case: Case) -> bytes:
    """A file of one operator: shapes are inputs, arrays constants."""
    code, table, options, inputs, shapes = case
    given_ = [
        file.constant(item, f"c{index}") if isinstance(item, np.ndarray) else file.input(f"in{index}", item)
        for index, item in enumerate(inputs)
    ]
    outputs = [file.tensor(f"out{index}", shape) for index, shape in enumerate(shapes)]
    file.operator(code, given_, *outputs, table=table, **options)
    return file.written(*outputs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].lower()}-{'x'.join(map(str, case[4][0]))}")
def test_operators_compute_what_litert_does(new_file: NewFile, agrees: Agrees, case: Case) -> None:
    net = agrees(single(new_file(), case), positive=case[0] in ("SQRT", "RSQRT", "DIV"))
    assert not any(isinstance(node.op, Opaque) for node in net.graph.nodes)
    shapes = [tuple(net.graph.shapes[key]) for key in net.graph.outputs]
    assert shapes == [(s[0], s[3], s[1], s[2]) if len(s) == 4 else s for s in case[4]]
