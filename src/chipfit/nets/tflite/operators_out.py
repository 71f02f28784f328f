"""Operators with weights, activations and arithmetic in TFLite's terms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chipfit.graph.graph import Node
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Constant,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    LayerNorm,
    Linear,
    MatMul,
    Softmax,
)
from chipfit.nets.tflite.outline import Chain, Outline
from chipfit.nets.tflite.program import FILE_AXIS, TO_FILE, Array

SAME, VALID = 0, 1
"""TFLite's numbers for its two kinds of padding."""


def ints(values: Sequence[object]) -> tuple[int, ...]:
    """Values of a closed graph as numbers."""
    return tuple([int(value) for value in values])  # type: ignore[call-overload]


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> int:
    """How much SAME pads before the first window: half of what ceil(size / stride) windows need, rounded down."""
    return max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size) // 2


def pads_same(
    sizes: Sequence[int],
    out: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int],
    dilation: Sequence[int] = (1, 1),
) -> bool:
    """Whether SAME reads exactly the windows that start at `before` and are `out` many, along both axes."""
    return all(
        out[axis] == -(-sizes[axis] // stride[axis])
        and before[axis] == same_padding(sizes[axis], kernel[axis], stride[axis], dilation[axis])
        for axis in (0, 1)
    )


def after(size: int, out: int, kernel: int, stride: int, before: int, dilation: int = 1) -> int:
    """How much must be padded behind for the last window; less than 0 where the last numbers are not read."""
    return (out - 1) * stride + dilation * (kernel - 1) + 1 - size - before


def padded(
    outline: Outline, source: str, sides: Sequence[int], key: str, value: float | None = None, name: str | None = None
) -> str:
    """An image with rows and columns around it: top, left, bottom, right; of zeros unless `value` is given."""
    shape = outline.program.tensors[source].shape
    top, left, bottom, right = sides
    pads = outline.integers(f"{key}/padding", [(0, 0), (top, bottom), (left, right), (0, 0)])
    result = (shape[0], shape[1] + top + bottom, shape[2] + left + right, shape[3])
    name = outline.fresh(f"{key}/padded") if name is None else name
    if value is None:
        return outline.emit("PAD", [source, pads], name, result)
    filling = outline.numbers(f"{key}/filling", np.array(value, np.float32))
    return outline.emit("PADV2", [source, pads, filling], name, result)


def convolution(outline: Outline, node: Node, op: Conv2d) -> None:
    """CONV_2D or DEPTHWISE_CONV_2D; padding that is not SAME comes before it."""
    chain = outline.chain(node, fold=True)
    weight, bias = outline.folded(node, chain.batch_norm)
    shape, out = outline.shape(node.inputs[0]), outline.shape(node.key)
    kernel, stride, dilation, groups = ints(op.kernel), ints(op.stride), ints(op.dilation), int(op.groups)  # type: ignore[arg-type]
    before = ints(op.padding)[:2]
    source, padding = outline.file_order(node.inputs[0]), SAME
    if not pads_same(shape[2:], out[2:], kernel, stride, before, dilation):
        behind = [
            max(0, after(shape[2 + axis], out[2 + axis], kernel[axis], stride[axis], before[axis], dilation[axis]))
            for axis in (0, 1)
        ]
        padding = VALID
        if any(before) or any(behind):
            source = padded(outline, source, (*before, *behind), chain.key)
    options = {
        "Padding": padding,
        "StrideW": stride[1],
        "StrideH": stride[0],
        "FusedActivationFunction": chain.function,
        "DilationWFactor": dilation[1],
        "DilationHFactor": dilation[0],
    }
    code = "CONV_2D"
    if groups == shape[1] and groups > 1:
        code, weight = "DEPTHWISE_CONV_2D", weight[:, 0].transpose(1, 2, 0)[None]
        options["DepthMultiplier"] = out[1] // shape[1]
    else:
        weight = weight.transpose(0, 2, 3, 1)
    layer(outline, code, source, weight, bias, node, chain, outline.file_shape(out), options)


def layer(
    outline: Outline,
    code: str,
    source: str,
    weight: Array,
    bias: Array,
    node: Node,
    chain: Chain,
    shape: Sequence[int],
    options: dict[str, int],
) -> None:
    """A layer with weight and bias, whose output is the tensor of the last node in the chain, in the file's order."""
    inputs = [source, outline.numbers(f"{node.key}.weight", weight), outline.numbers(f"{node.key}.bias", bias)]
    outline.give(chain.key, outline.emit(code, inputs, chain.key, shape, options))


def transposed_convolution(outline: Outline, node: Node, op: ConvTranspose2d) -> None:
    """TRANSPOSE_CONV; what is cut off other than by SAME is cut off behind it. Groups become zeros, so do dilations."""
    chain = outline.chain(node, fold=True, fuse=False)
    weight, bias = outline.folded(node, chain.batch_norm)
    weight = _dilated(_dense(weight, int(op.groups)), ints(op.dilation)).transpose(1, 2, 3, 0)  # type: ignore[arg-type]
    shape, out = outline.shape(node.inputs[0]), outline.shape(node.key)
    kernel, stride, (top, left) = weight.shape[1:3], ints(op.stride), ints(op.padding)[:2]
    same = pads_same(out[2:], shape[2:], kernel, stride, (top, left))
    whole = outline.file_shape(out)
    if not same:
        needed = [(shape[2 + axis] - 1) * stride[axis] + kernel[axis] for axis in (0, 1)]
        sizes = [max(needed[axis], (top, left)[axis] + out[2 + axis]) for axis in (0, 1)]
        whole = (1, sizes[0], sizes[1], out[1])
    size = outline.integers(f"{node.key}/size", whole)
    inputs = [size, outline.numbers(f"{node.key}.weight", weight), outline.file_order(node.inputs[0])]
    inputs.append(outline.numbers(f"{node.key}.bias", bias))
    options = {"Padding": SAME if same else VALID, "StrideW": stride[1], "StrideH": stride[0]}
    cut = whole != outline.file_shape(out)
    name = outline.fresh(f"{node.key}/whole") if cut else chain.key
    name = outline.emit("TRANSPOSE_CONV", inputs, name, whole, options)
    if cut:
        name = sliced(outline, name, (0, top, left, 0), (1, top + out[2], left + out[3], out[1]), (1,) * 4, chain.key)
    outline.give(chain.key, name)


def _dense(weight: Array, groups: int) -> Array:
    """A transposed convolution's grouped weight (in, out / groups, h, w) as one without groups."""
    if groups == 1:
        return weight
    rows, columns = len(weight) // groups, weight.shape[1]
    dense = np.zeros((len(weight), columns * groups, *weight.shape[2:]), np.float32)
    for group in range(groups):
        part = slice(group * rows, (group + 1) * rows)
        dense[part, group * columns : (group + 1) * columns] = weight[part]
    return dense


def _dilated(weight: Array, dilation: Sequence[int]) -> Array:
    """A weight (…, h, w) with zeros between its rows and columns."""
    height, width = (step * (size - 1) + 1 for step, size in zip(dilation, weight.shape[2:], strict=True))
    spread = np.zeros((*weight.shape[:2], height, width), np.float32)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def sliced(
    outline: Outline, source: str, begin: Sequence[int], end: Sequence[int], step: Sequence[int], name: str
) -> str:
    """Part of a tensor along all of its axes."""
    shape = [-(-(stop - start) // by) for start, stop, by in zip(begin, end, step, strict=True)]
    bounds = [outline.integers(f"{name}/{text}", at) for text, at in (("begin", begin), ("end", end), ("step", step))]
    return outline.emit("STRIDED_SLICE", [source, *bounds], name, shape)


def linear(outline: Outline, node: Node, op: Linear) -> None:
    """FULLY_CONNECTED over the last axis of the graph."""
    source, shape = node.inputs[0], outline.shape(node.key)
    chain = outline.chain(node, fold=len(shape) == 2)
    weight, bias = outline.folded(node, chain.batch_norm)
    if source in outline.shuffled:
        image = outline.shuffled[source]
        weight = weight.reshape(len(weight), *ints(image[1:])).transpose(0, 2, 3, 1).reshape(weight.shape)
    options = {"FusedActivationFunction": chain.function, "KeepNumDims": len(shape) != 2}
    inputs = [outline.graph_order(source), outline.numbers(f"{node.key}.weight", weight)]
    inputs.append(outline.numbers(f"{node.key}.bias", bias))
    outline.give(chain.key, outline.emit("FULLY_CONNECTED", inputs, chain.key, shape, options), file_order=False)


def matmul(outline: Outline, node: Node, op: MatMul) -> None:
    """BATCH_MATMUL over the last two axes of the graph."""
    inputs = [outline.graph_order(key) for key in node.inputs]
    name = outline.emit("BATCH_MATMUL", inputs, node.key, outline.shape(node.key), {"AdjX": False, "AdjY": False})
    outline.give(node.key, name, file_order=False)


def batch_norm(outline: Outline, node: Node, op: BatchNorm) -> None:
    """Scale and shift of an image as a depthwise 1x1 convolution, which rounds once; of other tensors MUL and ADD."""
    scale, shift = outline.scale_and_shift(node)
    shape = outline.shape(node.key)
    chain = outline.chain(node)
    if len(shape) == 4:
        options = {"Padding": VALID, "StrideW": 1, "StrideH": 1, "DepthMultiplier": 1}
        options |= {"FusedActivationFunction": chain.function, "DilationWFactor": 1, "DilationHFactor": 1}
        source = outline.file_order(node.inputs[0])
        weight = scale.reshape(1, 1, 1, -1)
        layer(outline, "DEPTHWISE_CONV_2D", source, weight, shift, node, chain, outline.file_shape(shape), options)
        return
    axes = (1, -1) + (1,) * (len(shape) - 2)
    factor = outline.numbers(f"{node.key}/scale", scale.reshape(axes))
    scaled = outline.emit(
        "MUL", [outline.file_order(node.inputs[0]), factor], outline.fresh(f"{node.key}/scaled"), shape
    )
    offset = outline.numbers(f"{node.key}/shift", shift.reshape(axes))
    options = {"FusedActivationFunction": chain.function}
    outline.give(chain.key, outline.emit("ADD", [scaled, offset], chain.key, shape, options))


def layer_norm(outline: Outline, node: Node, op: LayerNorm) -> None:
    """Layer normalisation spelled out; with floating-point numbers, as 8 bits do not hold a variance."""
    key, shape = node.key, outline.shape(node.key)
    file_order = outline.prefers_file_order(node.inputs)
    source, mapped = outline.ordered(node.inputs[0], file_order), len(shape) == 4 and file_order
    axes = [axis % len(shape) for axis in range(-op.axes, 0)]
    reduced = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    weight, bias = (outline.weight(node, name) for name in ("weight", "bias"))
    if mapped:
        weight, bias = (
            array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(TO_FILE) for array in (weight, bias)
        )
        axes, shape, reduced = (
            [FILE_AXIS[axis] for axis in axes],
            outline.file_shape(shape),
            outline.file_shape(reduced),
        )

    def step(code: str, inputs: Sequence[str], name: str, shape: Sequence[int]) -> str:
        return outline.emit(code, inputs, outline.fresh(f"{key}/{name}"), shape, MEANS.get(code), real=True)

    over = outline.integers(f"{key}/axes", axes)
    centred = step("SUB", [source, step("MEAN", [source, over], "mean", reduced)], "centred", shape)
    square = step("MUL", [centred, centred], "square", shape)
    variance = step("MEAN", [square, over], "variance", reduced)
    shifted = step("ADD", [variance, outline.numbers(f"{key}/eps", np.array([op.eps]))], "shifted", reduced)
    normal = step("MUL", [centred, step("RSQRT", [shifted], "inverse", reduced)], "normal", shape)
    scaled = step("MUL", [normal, outline.numbers(f"{key}.weight", weight)], "scaled", shape)
    result = outline.emit("ADD", [scaled, outline.numbers(f"{key}.bias", bias)], key, shape, {}, real=True)
    outline.give(key, result, file_order)


MEANS = {"MEAN": {"KeepDims": True}}

SIMPLE = {
    "relu": "RELU",
    "relu6": "RELU6",
    "hard_swish": "HARD_SWISH",
    "sigmoid": "LOGISTIC",
    "tanh": "TANH",
    "exp": "EXP",
    "sqrt": "SQRT",
    "abs": "ABS",
    "gelu": "GELU",
    "gelu_tanh": "GELU",
    "leaky_relu": "LEAKY_RELU",
}


def activation(outline: Outline, node: Node, op: Activation) -> None:
    """An activation as the one operation that TFLite has for it, or as two."""
    key, file_order = node.key, outline.prefers_file_order(node.inputs)
    if op.function == "prelu":
        file_order = True
    source = outline.ordered(node.inputs[0], file_order)
    shape = outline.program.tensors[source].shape
    match op.function:
        case "prelu":
            slope = outline.weight(node, "weight")
            rank = len(shape)
            slope = slope.reshape((1, 1, -1) if rank == 4 else (-1,) + (1,) * (rank - 2))
            name = outline.emit("PRELU", [source, outline.numbers(f"{key}.weight", slope)], key, shape)
        case "hard_sigmoid":
            three = outline.numbers(f"{key}/three", np.array([3.0]))
            lifted = outline.fresh(f"{key}/lifted")
            outline.emit("ADD", [source, three], lifted, shape, {"FusedActivationFunction": 3})
            name = outline.emit("MUL", [lifted, outline.numbers(f"{key}/sixth", np.array([1 / 6]))], key, shape)
        case "silu":
            gate = outline.emit("LOGISTIC", [source], outline.fresh(f"{key}/sigmoid"), shape)
            name = outline.emit("MUL", [source, gate], key, shape)
        case "neg":
            name = outline.emit("MUL", [source, outline.numbers(f"{key}/minus", np.array([-1.0]))], key, shape)
        case _:
            options = {"gelu_tanh": {"Approximate": True}, "leaky_relu": {"Alpha": op.slope}}.get(op.function)
            name = outline.emit(SIMPLE[op.function], [source], key, shape, options)
    outline.give(key, name, file_order)


def softmax(outline: Outline, node: Node, op: Softmax) -> None:
    """SOFTMAX over the last axis, with that axis brought there where it is another."""
    key, shape = node.key, outline.shape(node.key)
    axis = op.axis % len(shape)
    file_order = len(shape) == 4 and axis == 1
    if file_order or axis == len(shape) - 1:
        source = outline.ordered(node.inputs[0], file_order)
        shape = outline.program.tensors[source].shape
        outline.give(key, outline.emit("SOFTMAX", [source], key, shape, {"Beta": 1.0}), file_order)
        return
    order = [*range(len(shape))]
    order[axis], order[-1] = order[-1], order[axis]
    source = outline.turn(outline.graph_order(node.inputs[0]), shape, order, f"{key}/turned")
    moved = outline.program.tensors[source].shape
    result = outline.emit("SOFTMAX", [source], outline.fresh(f"{key}/softmax"), moved, {"Beta": 1.0})
    outline.give(key, outline.turn(result, moved, order, key), file_order=False)


PAIRS = {"add": "ADD", "sub": "SUB", "mul": "MUL", "div": "DIV", "max": "MAXIMUM", "min": "MINIMUM"}


def elementwise(outline: Outline, node: Node, op: Elementwise) -> None:
    """Two tensors element by element; a smaller one gets axes of size 1 in front, as NumPy has it."""
    fuses = op.function not in ("max", "min")
    chain = outline.chain(node, fuse=fuses)
    rank = len(outline.shape(node.key))
    file_order = outline.prefers_file_order([key for key in node.inputs if len(outline.shape(key)) == rank])
    inputs = [_aligned(outline, key, rank, file_order) for key in node.inputs]
    shape = outline.shape(node.key)
    shape = outline.file_shape(shape) if file_order else shape
    options = {"FusedActivationFunction": chain.function} if fuses else None
    # LiteRT 2.3 divides small negative integers wrongly: -0.05 / 2.3 becomes the smallest number that the output holds.
    name = outline.emit(PAIRS[op.function], inputs, chain.key, shape, options, real=op.function == "div")
    outline.give(chain.key, name, file_order)


def _aligned(outline: Outline, key: str, rank: int, file_order: bool) -> str:
    """A tensor with as many axes as the result."""
    shape = outline.shape(key)
    if len(shape) == rank:
        return outline.ordered(key, file_order)
    wide = (1,) * (rank - len(shape)) + shape
    if key in outline.constants:
        array = outline.constants[key].reshape(wide)
        return outline.numbers(f"{key}/wide", array.transpose(TO_FILE) if rank == 4 and file_order else array)
    source = outline.reshape(outline.graph_order(key), outline.fresh(f"{key}/wide"), wide)
    return outline.turn(source, wide, TO_FILE, f"{key}/turned") if rank == 4 and file_order else source


def constant(outline: Outline, node: Node, op: Constant) -> None:
    """A tensor among the weights, written where it is read, in the order that is read."""
    outline.constants[node.key] = outline.weight(node, "value")
