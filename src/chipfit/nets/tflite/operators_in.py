"""TFLite operators that compute, as nodes of a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from chipfit.graph.ops import Activation, Elementwise, GlobalPool, MatMul, Pad, Pool2d, Softmax
from chipfit.nets import composed
from chipfit.nets import draft as to
from chipfit.nets.draft import Unrepresentable
from chipfit.nets.tflite.call import SAME, Array, Call, activate
from chipfit.nets.tflite.layout_in import LAYOUT
from chipfit.nets.tflite.reader import Damaged
from chipfit.nets.tflite.views import IMAGE, Flattened, Known, Operand, View

ONE = ".reciprocal.one"
"""How the key of the 1 ends that a reciprocal square root divides."""
Build = Callable[[Call], Operand | Sequence[View]]


def _positive(*values: int) -> tuple[int, ...]:
    if min(values) < 1:
        raise Damaged(f"a stride, window or dilation of {min(values)}")
    return values


def _same(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, int, int, int]:
    """Padding that divides the size by the stride, rounded up; what is odd goes to the end."""
    totals = [
        max(
            (-(-size[axis] // stride[axis]) - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1 - size[axis],
            0,
        )
        for axis in (0, 1)
    ]
    return totals[0] // 2, totals[1] // 2, totals[0] - totals[0] // 2, totals[1] - totals[1] // 2


def _sum(*paddings: Sequence[int]) -> tuple[int, int, int, int]:
    top, left, bottom, right = (sum(sides) for sides in zip(*paddings, strict=True))
    return top, left, bottom, right


def _evened(
    padding: Sequence[int], size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, int, int, int]:
    """The same padding on both sides where a window reads no more of it: files leave out what is not read."""
    sides = list(padding)
    for axis in (0, 1):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        before, after = sides[axis], sides[axis + 2]
        windows = [(size[axis] + before + behind - reach) // stride[axis] for behind in (after, before)]
        if after < before and windows[0] == windows[1]:
            sides[axis + 2] = before
    return sides[0], sides[1], sides[2], sides[3]


def _unpadded(call: Call, key: str) -> tuple[str, tuple[int, int, int, int]]:
    """What a padding with zeros in front of a convolution reads, and that padding."""
    node = call.draft.nodes.get(key)
    if node is None or not isinstance(node.op, Pad) or node.op.value != 0:
        return key, (0, 0, 0, 0)
    return node.inputs[0], _sum(tuple(int(side) for side in node.op.padding))  # type: ignore[arg-type]


def _conv(call: Call, weight: Array, groups: int) -> View:
    stride = _positive(call.option("StrideH"), call.option("StrideW"))
    dilation = _positive(call.option("DilationHFactor", 1), call.option("DilationWFactor", 1))
    image, kernel = call.image(), weight.shape[2:]
    height, width = call.draft.shapes[image][2:]
    image, padding = _unpadded(call, image)
    older = call.dilation
    if older is not None:
        if stride != (1, 1):
            raise Unrepresentable("stride and dilation")
        padding = _sum(padding, older.padding, [-crop for crop in older.crops])
        height, width = (
            (size + older.padding[axis] + older.padding[axis + 2]) // older.block[axis]
            for axis, size in enumerate((height, width))
        )
    block = older.block if older is not None else (1, 1)
    if call.option("Padding") == SAME:
        more = _same((height, width), kernel, stride, dilation)
        padding = _sum(padding, [side * block[index % 2] for index, side in enumerate(more)])
    if min(padding) < 0:
        raise Unrepresentable("crops beyond the padding")
    spread = (dilation[0] * block[0], dilation[1] * block[1])
    padding = _evened(padding, call.draft.shapes[image][2:], kernel, stride, spread)
    key = call.inner("conv", 1)
    bias = call.bias(2, weight.shape[0])
    result = to.convolution(call.draft, key, image, weight, bias, stride, padding, spread, groups)
    call.note(f"{result}.weight", 1)
    return call.activated(View(result, IMAGE))


def _conv_2d(call: Call) -> View:
    weight = call.weight(1, 4).transpose(0, 3, 1, 2)
    channels = call.draft.shapes[call.image()][1]
    if channels % weight.shape[1]:
        raise Damaged(f"weights for {weight.shape[1]} channels on {channels}")
    return _conv(call, weight, channels // weight.shape[1])


def _depthwise(call: Call) -> View:
    weight = call.weight(1, 4)
    channels = call.draft.shapes[call.image()][1]
    if weight.shape[0] != 1 or weight.shape[3] % channels:
        raise Damaged(f"depthwise weights of shape {weight.shape} on {channels} channels")
    return _conv(call, weight.transpose(3, 0, 1, 2), channels)


def _transpose_conv(call: Call) -> View:
    weight, target, image = call.weight(1, 4).transpose(3, 0, 1, 2), call.integers(0), call.image(2)
    stride = _positive(call.option("StrideH"), call.option("StrideW"))
    if len(target) != 4 or min(target) < 1 or target[3] != weight.shape[1]:
        raise Damaged(f"an output of shape {target} with {weight.shape[1]} channels")
    if call.draft.shapes[image][1] != weight.shape[0]:
        raise Damaged(f"weights for {weight.shape[0]} channels on {call.draft.shapes[image][1]}")
    sizes, kernel = call.draft.shapes[image][2:], weight.shape[2:]
    totals = [(sizes[axis] - 1) * stride[axis] + kernel[axis] - target[1 + axis] for axis in (0, 1)]
    halves = [max(total, 0) // 2 for total in totals]
    padding = [*halves, *(max(total, 0) - half for total, half in zip(totals, halves, strict=True))]
    extra = [max(-total, 0) for total in totals]
    if any(more >= step for more, step in zip(extra, stride, strict=True)):
        raise Unrepresentable(f"an output of shape {target}")
    key, bias = call.inner("conv", 1), call.bias(3, weight.shape[1])
    result = to.convolution(call.draft, key, image, weight, bias, stride, padding, (1, 1), 1, extra)
    call.note(f"{result}.weight", 1)
    return call.activated(View(result, IMAGE))


def _fully_connected(call: Call) -> View:
    weight = call.weight(1, 2)
    if call.option("WeightsFormat"):
        raise Unrepresentable("shuffled weights")
    item, shape = call.given(0), call.shape()
    columns = weight.shape[1]
    if not isinstance(item, Known | Flattened) and len(shape) != 2 and not call.option("KeepNumDims"):
        item = call.views.reshaped(f"{call.key}.flatten", item, (math.prod(shape) // max(columns, 1), columns))
    elif shape[-1:] != (columns,):
        raise Damaged(f"weights for {columns} columns on shape {shape}")
    if isinstance(item, Flattened):
        # The row keeps the order of the graph; the columns follow it.
        order, file = item.source.order, call.views.shape(item.source)
        weight = np.transpose(weight.reshape(-1, *file), (0, *(1 + axis for axis in np.argsort(order))))
        weight = weight.reshape(-1, columns)
        view = call.views.row(item, of_file=False)
    else:
        view = call.views.plain(item if isinstance(item, View) else call.view())
    key, bias = call.inner("linear", 1), call.bias(2, weight.shape[0])
    result = to.linear(call.draft, key, view.key, weight, bias)
    call.note(f"{result}.weight", 1)
    return call.activated(View(result, view.order))


def _batch_matmul(call: Call) -> View:
    right = call.given(1)
    if isinstance(right, Known) and right.array.ndim == 2 and not call.option("AdjX"):
        view = call.views.plain(call.view())
        weight = call.weight(1) if call.option("AdjY") else call.weight(1).T
        if call.shape()[-1] != weight.shape[1]:
            raise Damaged(f"weights of shape {right.array.shape} on shape {call.shape()}")
        result = to.linear(call.draft, call.key, view.key, weight, None)
        call.note(f"{result}.weight", 1)
        return View(result, view.order)
    views = [_adjoint(call.view(0), call.option("AdjX")), _adjoint(call.view(1), call.option("AdjY"))]
    if len(views[0].order) != len(views[1].order) or len({call.views.batched(view) for view in views}) > 1:
        raise Unrepresentable("matrices of different rank")
    plain = [call.views.plain(view) for view in views]
    return View(call.add(MatMul(), *plain), plain[0].order)


def _adjoint(view: View, swapped: bool) -> View:
    """The matrices, or the transposed ones."""
    if len(view.order) < 2:
        raise Unrepresentable("a product with a vector")
    return View(view.key, (*view.order[:-2], view.order[-1], view.order[-2])) if swapped else view


def _elementwise(function: str) -> Build:
    def build(call: Call) -> View:
        left, right = call.aligned((0, 1))
        for factor, root in ((left, _root(call, right)), (right, _root(call, left))):
            if function == "mul" and root is not None:
                key = call.draft.add(call.inner("divide"), Elementwise("div"), [factor.key, root])
                return call.activated(View(key, left.order))
        kind = {"max": "maximum", "min": "minimum"}.get(function, function)
        key = call.draft.add(call.inner(kind), Elementwise(function), [left.key, right.key])
        return call.activated(View(key, left.order))

    return build


def _root(call: Call, view: View) -> str | None:
    """What a reciprocal square root takes the reciprocal of: a product with it is a quotient, as patterns have it."""
    node = call.draft.nodes.get(view.key)
    if node is None or node.op != Elementwise("div") or not node.inputs[0].endswith(ONE):
        return None
    return node.inputs[1]


def _squared_difference(call: Call) -> View:
    left, right = call.aligned((0, 1))
    difference = View(call.add(Elementwise("sub"), left, right, suffix=".sub"), left.order)
    return View(call.add(Elementwise("mul"), difference, difference), left.order)


def _square(call: Call) -> View:
    view = call.view()
    return View(call.add(Elementwise("mul"), view, view), view.order)


def _power(call: Call) -> View:
    view, exponent = call.view(), call.scalar(1)
    return View(composed.power(call.draft, call.key, view.key, exponent), view.order)


def _reciprocal_root(call: Call) -> View:
    view = call.view()
    root = call.add(Activation("sqrt"), view, suffix=".sqrt")
    one = call.draft.constant(f"{call.key}{ONE}", np.array(1.0, np.float32))
    return View(call.draft.add(call.key, Elementwise("div"), [one, root]), view.order)


def _activation(function: str) -> Build:
    return lambda call: activate(call, call.view(), function)


def _leaky_relu(call: Call) -> View:
    view, slope = call.view(), float(str(np.float32(call.option("Alpha"))))
    return View(call.add(Activation("leaky_relu", slope), view), view.order)


def _prelu(call: Call) -> View:
    slope, view = call.weight(1), call.view()
    shape = call.views.shape(view)
    wide = [axis - slope.ndim for axis, size in enumerate(slope.shape) if size != 1] or [-1]
    if len(wide) > 1 or wide[0] <= -len(shape) or slope.size not in (1, shape[wide[0]]):
        raise Unrepresentable("slopes along several axes")
    if slope.size == 1 and shape[wide[0]] > 1:
        return View(call.add(Activation("leaky_relu", call.scalar(1)), view), view.order)
    view = call.views.channels_first(view, wide[0])
    rank = len(call.draft.shapes[view.key])
    key = to.prelu(call.draft, call.key, view.key, slope.reshape(-1, *[1] * (rank - 2)))
    call.note(f"{key}.weight", 1)
    return View(key, view.order)


def _gelu(call: Call) -> View:
    view = call.view()
    return View(call.add(Activation("gelu_tanh" if call.option("Approximate") else "gelu"), view), view.order)


def _softmax(call: Call) -> View:
    if call.option("Beta", 1.0) != 1.0:
        raise Unrepresentable("a softmax with another beta than 1")
    view = call.view()
    axis = call.axis(view, -1)
    last = axis == len(call.draft.shapes[view.key]) - 1
    return View(call.add(Softmax(-1 if last else axis), view), view.order)


def _filled(call: Call, image: str, function: str) -> tuple[str, tuple[int, int, int, int]]:
    """What a padding in front of a pooling reads, and the padding, where pooling can do the same."""
    if function == "average":
        return _unpadded(call, image)
    node = call.draft.nodes.get(image)
    if node is None or not isinstance(node.op, Pad) or image not in call.views.lowest:
        return image, (0, 0, 0, 0)
    return node.inputs[0], _sum(tuple(int(side) for side in node.op.padding))  # type: ignore[arg-type]


def _pool(function: str) -> Build:
    def build(call: Call) -> View:
        image = call.image()
        kernel = _positive(call.option("FilterHeight"), call.option("FilterWidth"))
        stride = _positive(call.option("StrideH"), call.option("StrideW"))
        size, key = call.draft.shapes[image][2:], call.inner("pool")
        same = call.option("Padding") == SAME
        padding = _same(size, kernel, stride, (1, 1)) if same else (0, 0, 0, 0)
        # The average leaves out what is padded, but counts the zeros of a padding of its own in front.
        counted = function == "max" or not any(padding)
        if not any(padding):
            image, padding = _filled(call, image, function)
            padding = _evened(padding, call.draft.shapes[image][2:], kernel, stride, (1, 1))
        if kernel == size and not any(padding):
            return call.activated(View(call.draft.add(key, GlobalPool(function), [image]), IMAGE))
        op = Pool2d(function, (kernel[0], kernel[1]), (stride[0], stride[1]), padding, False, counted)
        return call.activated(View(call.draft.add(key, op, [image]), IMAGE))

    return build


def _reduce(function: str, total: bool = False) -> Build:
    def build(call: Call) -> View:
        view, keep = call.view(), bool(call.option("KeepDims", False))
        over = {call.axis(view, axis) for axis in call.integers(1)}
        key = f"{call.key}.mean" if total else call.key
        count = math.prod(call.draft.shapes[view.key][axis] for axis in over)
        result = to.reduce(call.draft, key, view.key, sorted(over), keep, function)
        if total:
            factor = call.draft.constant(f"{call.key}.count", np.array(count, np.float32))
            result = call.draft.add(call.key, Elementwise("mul"), [result, factor])
        if keep:
            return View(result, view.order)
        left = [axis for axis in view.order if axis not in over]
        first = 0 if call.views.batched(view) else 1
        return View(result, tuple(sorted(left).index(axis) + first for axis in left))

    return build


OPERATORS: Mapping[str, Build] = {
    **LAYOUT,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transpose_conv,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "ADD": _elementwise("add"),
    "SUB": _elementwise("sub"),
    "MUL": _elementwise("mul"),
    "DIV": _elementwise("div"),
    "MAXIMUM": _elementwise("max"),
    "MINIMUM": _elementwise("min"),
    "SQUARED_DIFFERENCE": _squared_difference,
    "SQUARE": _square,
    "POW": _power,
    "RSQRT": _reciprocal_root,
    "RELU": _activation("relu"),
    "RELU6": _activation("relu6"),
    "RELU_N1_TO_1": _activation("relu_n1_to_1"),
    "RELU_0_TO_1": _activation("relu_0_to_1"),
    "HARD_SWISH": _activation("hard_swish"),
    "LOGISTIC": _activation("sigmoid"),
    "TANH": _activation("tanh"),
    "EXP": _activation("exp"),
    "SQRT": _activation("sqrt"),
    "ABS": _activation("abs"),
    "NEG": _activation("neg"),
    "LEAKY_RELU": _leaky_relu,
    "PRELU": _prelu,
    "GELU": _gelu,
    "SOFTMAX": _softmax,
    "AVERAGE_POOL_2D": _pool("average"),
    "MAX_POOL_2D": _pool("max"),
    "MEAN": _reduce("average"),
    "SUM": _reduce("average", total=True),
    "REDUCE_MAX": _reduce("max"),
}
"""How each operator is said in a graph. One that is missing here becomes an `Opaque`."""
