"""ONNX operators that compute, as nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from chipfit.graph.ops import Activation, Elementwise, Linear, MatMul, Resize, Softmax
from chipfit.nets import composed
from chipfit.nets import draft as to
from chipfit.nets.draft import Unrepresentable
from chipfit.nets.onnx.call import Array, Call, Computed, resolved_padding, shortest
from chipfit.nets.onnx.layout import LAYOUT
from chipfit.nets.onnx.several import SEVERAL

LARGEST_CLAMP = float(np.finfo(np.float32).max)


def _conv(call: Call) -> str:
    weight, axes = call.array(1), call.array(1).ndim - 2
    stride, dilation = call.ints("strides", [1] * axes), call.ints("dilations", [1] * axes)
    pads = resolved_padding(call, call.shape()[2:], weight.shape[2:], stride, dilation)
    groups = int(call.attributes.get("group", 1))
    return to.convolution(call.draft, call.key, call.tensor(), weight, call.optional(2), stride, pads, dilation, groups)


def _conv_transpose(call: Call) -> str:
    weight, axes = call.array(1), call.array(1).ndim - 2
    stride, dilation = call.ints("strides", [1] * axes), call.ints("dilations", [1] * axes)
    extra, groups = call.ints("output_padding", [0] * axes), int(call.attributes.get("group", 1))
    mode = call.text("auto_pad", "NOTSET")
    if "output_shape" in call.attributes or mode.startswith("SAME"):
        sizes, window = call.shape()[2:], weight.shape[2:]
        wanted = call.ints("output_shape", [size * step for size, step in zip(sizes, stride, strict=True)])[-axes:]
        totals = [
            (size - 1) * step + more + (reach - 1) * spread + 1 - target
            for size, step, more, reach, spread, target in zip(
                sizes, stride, extra, window, dilation, wanted, strict=True
            )
        ]
        if min(totals) < 0:
            raise Unrepresentable(f"output_shape={wanted}")
        halves = [total // 2 for total in totals]
        rest = [total - half for total, half in zip(totals, halves, strict=True)]
        pads = halves + rest if mode == "SAME_UPPER" else rest + halves
    else:
        pads = resolved_padding(call, call.shape()[2:], weight.shape[2:], stride, dilation)
    return to.convolution(
        call.draft, call.key, call.tensor(), weight, call.optional(2), stride, pads, dilation, groups, extra
    )


def _gemm(call: Call) -> str:
    call.only(transA=0)
    weight = call.array(1) * np.float32(call.attributes.get("alpha", 1.0))
    bias = call.optional(2)
    if bias is not None:
        columns = weight.shape[0] if call.flag("transB") else weight.shape[1]
        if bias.size not in (1, columns) or bias.shape[-1:] not in ((), (1,), (columns,)):
            raise Unrepresentable(f"bias of shape {bias.shape}")
        bias = np.broadcast_to(bias.reshape(-1), (columns,)) * np.float32(call.attributes.get("beta", 1.0))
    return to.linear(call.draft, call.key, call.tensor(), weight if call.flag("transB") else weight.T, bias)


def _matmul(call: Call) -> str:
    weight = call.inputs[1]
    if isinstance(weight, np.ndarray) and weight.ndim == 2:
        return to.linear(call.draft, call.key, call.tensor(), weight.T, None)
    if min(len(call.shape(0)), len(call.shape(1))) < 2:
        raise Unrepresentable("a product with a vector")
    return call.draft.add(call.key, MatMul(), [call.tensor(0), call.tensor(1)])


def _batch_norm(call: Call) -> str:
    call.only(training_mode=0)
    weight, bias, mean, variance = (call.array(index) for index in (1, 2, 3, 4))
    return to.batch_norm(
        call.draft, call.key, call.tensor(), weight, bias, mean, variance, call.number("epsilon", 1e-5)
    )


def _layer_norm(call: Call) -> str:
    if any(call.outputs[1:]):
        raise Unrepresentable("mean or deviation as outputs")
    axis = int(call.attributes.get("axis", -1))
    axes = -axis if axis < 0 else len(call.shape()) - axis
    eps = call.number("epsilon", 1e-5)
    return to.layer_norm(call.draft, call.key, call.tensor(), axes, call.array(1), call.optional(2), eps)


def _activation(function: str) -> Callable[[Call], str]:
    return lambda call: call.draft.add(call.key, Activation(function), [call.tensor()])


def _leaky_relu(call: Call) -> str:
    return call.draft.add(call.key, Activation("leaky_relu", call.number("alpha", 0.01)), [call.tensor()])


def _prelu(call: Call) -> str:
    return to.prelu(call.draft, call.key, call.tensor(), call.array(1))


def _hard_sigmoid(call: Call) -> str:
    slope, offset = call.number("alpha", 0.2), call.number("beta", 0.5)
    if abs(slope - 1 / 6) > 1e-4 or offset != 0.5:
        raise Unrepresentable(f"alpha={slope}, beta={offset}")
    return call.draft.add(call.key, Activation("hard_sigmoid"), [call.tensor()])


def _gelu(call: Call) -> str:
    function = "gelu_tanh" if call.text("approximate", "none") == "tanh" else "gelu"
    return call.draft.add(call.key, Activation(function), [call.tensor()])


def _swish(call: Call) -> str:
    call.only(alpha=1.0)
    return call.draft.add(call.key, Activation("silu"), [call.tensor()])


def _clip(call: Call) -> str:
    low, high = call.scalar(1), call.scalar(2)
    low = None if low is None or low <= -LARGEST_CLAMP else low
    high = None if high is None or high >= LARGEST_CLAMP else high
    return to.clamp(call.draft, call.key, call.tensor(), low, high)


def _softmax(call: Call) -> str:
    return call.draft.add(call.key, Softmax(int(call.attributes.get("axis", -1))), [call.tensor()])


def _elementwise(function: str) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        result = call.tensor(0)
        last = len(call.inputs) - 1
        for index in range(1, len(call.inputs)):
            key = call.key if index == last else f"{call.key}.{index}"
            result = call.draft.add(key, Elementwise(function), [result, call.tensor(index)])
        return result

    return build


def _add(call: Call) -> str:
    for index in (0, 1):
        product, bias = call.inputs[index], call.inputs[1 - index]
        if isinstance(product, Computed) and isinstance(bias, np.ndarray) and call.alone[index]:
            node = call.draft.nodes.get(product.key)
            if node is not None and isinstance(node.op, Linear) and not node.op.bias and _is_bias(bias, node.op.out):
                call.draft.add_bias(product.key, bias.reshape(-1))
                return product.key
    return _elementwise("add")(call)


def _is_bias(array: Array, columns: object) -> bool:
    return array.ndim >= 1 and array.shape[-1] == array.size == columns


def _power(call: Call) -> str:
    exponent = call.scalar(1)
    if exponent is None:
        raise Unrepresentable("no exponent")
    return composed.power(call.draft, call.key, call.tensor(), exponent)


def _pool(function: str) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        kernel = call.ints("kernel_shape")
        ones = [1] * len(kernel)
        if any(call.outputs[1:]) or call.ints("dilations", ones) != ones:
            raise Unrepresentable("indices as an output, or dilation")
        stride = call.ints("strides", ones)
        pads = resolved_padding(call, call.shape()[2:], kernel, stride, ones)
        counted = function == "max" or call.flag("count_include_pad")
        ceil_mode = call.flag("ceil_mode")
        return to.pool(call.draft, call.key, call.tensor(), function, kernel, stride, pads, ceil_mode, counted)

    return build


def _global_pool(function: str) -> Callable[[Call], str]:
    return lambda call: to.reduce(
        call.draft, call.key, call.tensor(), range(2, len(call.shape())), keep=True, function=function
    )


def _reduce(function: str) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        axes = call.listed("axes", 1) or range(len(call.shape()))
        return to.reduce(call.draft, call.key, call.tensor(), axes, call.flag("keepdims", 1), function)

    return build


def _resize(call: Call) -> str:
    call.only(antialias=0, keep_aspect_ratio_policy="stretch")
    shape, axes = call.shape(), call.ints("axes", range(len(call.shape())))
    sizes, scales = call.optional(3), call.optional(2)
    if len(shape) != 4 or (sizes is None or not sizes.size) == (scales is None or not scales.size):
        raise Unrepresentable("neither an image nor one of sizes and scales")
    given = sizes if sizes is not None and sizes.size else scales
    assert given is not None
    by_axis = dict(zip((axis % 4 for axis in axes), given.tolist(), strict=True))
    if given is sizes:
        target = tuple(int(by_axis.get(axis, shape[axis])) for axis in range(4))
        factors = [target[axis] / shape[axis] for axis in range(4)]
    else:
        factors = [shortest(by_axis.get(axis, 1.0)) for axis in range(4)]
        target = tuple(int(size * factor) for size, factor in zip(shape, factors, strict=True))
    if target[:2] != shape[:2] or not 0 < target[2] * target[3] <= to.LARGEST_TENSOR:
        raise Unrepresentable("batch or channels are resized, or the image is too large")
    mode, align_corners = _resize_mode(call, shape[2:], target[2:], factors[2:])
    where = {"size": (target[2], target[3])} if given is sizes else {"scale": (factors[2], factors[3])}
    return call.draft.add(call.key, Resize(mode, align_corners=align_corners, **where), [call.tensor()])


def _resize_mode(call: Call, shape: tuple[int, ...], target: tuple[int, ...], factors: list[float]) -> tuple[str, bool]:
    """Mode and align_corners, by the positions that are read, as conventions agree for many sizes."""
    mode = call.text("mode", "nearest")
    convention = call.text("coordinate_transformation_mode", "half_pixel")
    rounding = call.text("nearest_mode", "round_prefer_floor")
    read = [_positions(convention, *axis) for axis in zip(shape, target, factors, strict=True)]
    if mode == "nearest":
        wanted = [_positions("asymmetric", *axis) for axis in zip(shape, target, factors, strict=True)]
        same = all(
            np.array_equal(_rounded(a, rounding, size), _rounded(b, "floor", size))
            for a, b, size in zip(read, wanted, shape, strict=True)
        )
        if same:
            return "nearest", False
    for align_corners, name in ((False, "half_pixel"), (True, "align_corners")):
        wanted = [_positions(name, *axis) for axis in zip(shape, target, factors, strict=True)]
        clipped = [
            np.allclose(np.clip(a, 0, size - 1), np.clip(b, 0, size - 1))
            for a, b, size in zip(read, wanted, shape, strict=True)
        ]
        if mode == "linear" and all(clipped):
            return "bilinear", align_corners
    raise Unrepresentable(f"mode={mode}, coordinate_transformation_mode={convention}, nearest_mode={rounding}")


def _positions(convention: str, size: int, target: int, factor: float) -> Array:
    index = np.arange(target, dtype=np.float64)
    match convention:
        case "asymmetric":
            return index / factor
        case "half_pixel":
            return (index + 0.5) / factor - 0.5
        case "pytorch_half_pixel":
            return (index + 0.5) / factor - 0.5 if target > 1 else np.zeros(target)
        case "align_corners":
            return index * (size - 1) / (target - 1) if target > 1 else np.zeros(target)
        case _:
            raise Unrepresentable(f"coordinate_transformation_mode={convention}")


def _rounded(positions: Array, rounding: str, size: int) -> Array:
    # Positions such as 1.9999999 stand for 2: runtimes compute them in 32 bits.
    exact = np.round(positions, 5)
    match rounding:
        case "floor":
            rounded = np.floor(exact)
        case "ceil":
            rounded = np.ceil(exact)
        case "round_prefer_floor":
            rounded = np.ceil(exact - 0.5)
        case _:
            rounded = np.floor(exact + 0.5)
    return np.clip(rounded, 0, size - 1)


OPERATORS: Mapping[str, Callable[[Call], str | list[str]]] = {
    **LAYOUT,
    **SEVERAL,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Relu": _activation("relu"),
    "HardSwish": _activation("hard_swish"),
    "Sigmoid": _activation("sigmoid"),
    "Tanh": _activation("tanh"),
    "Exp": _activation("exp"),
    "Sqrt": _activation("sqrt"),
    "Abs": _activation("abs"),
    "Neg": _activation("neg"),
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "HardSigmoid": _hard_sigmoid,
    "Gelu": _gelu,
    "Swish": _swish,
    "Clip": _clip,
    "Softmax": _softmax,
    "Add": _add,
    "Sum": _elementwise("add"),
    "Sub": _elementwise("sub"),
    "Mul": _elementwise("mul"),
    "Div": _elementwise("div"),
    "Max": _elementwise("max"),
    "Min": _elementwise("min"),
    "Pow": _power,
    "MaxPool": _pool("max"),
    "AveragePool": _pool("average"),
    "GlobalMaxPool": _global_pool("max"),
    "GlobalAveragePool": _global_pool("average"),
    "ReduceMean": _reduce("average"),
    "ReduceMax": _reduce("max"),
    "Resize": _resize,
}
"""How each operator is said in a graph. One that is missing here becomes an `Opaque`."""
