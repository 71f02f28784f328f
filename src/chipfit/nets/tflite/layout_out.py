"""Operators that pool, resize, pad, cut or move numbers in TFLite's terms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chipfit.errors import UnsupportedOperator
from chipfit.graph.graph import Node
from chipfit.graph.ops import (
    Activation,
    Concat,
    GlobalPool,
    Linear,
    MatMul,
    Pad,
    Pool2d,
    Reshape,
    Resize,
    Slice,
    Transpose,
)
from chipfit.nets.tflite.operators_out import SAME, VALID, after, ints, padded, pads_same, sliced
from chipfit.nets.tflite.outline import Outline, is_linear_only
from chipfit.nets.tflite.program import FILE_AXIS, TO_FILE, moves_nothing, turned

LARGEST_WINDOW = 256
"""Rows and columns of a pooling window that NPUs take."""

LOWEST = float(np.finfo(np.float32).min)
"""What a maximum never finds in the padding."""

NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "exp", "sqrt", "abs")


def pool(outline: Outline, node: Node, op: Pool2d) -> None:
    """AVERAGE_POOL_2D or MAX_POOL_2D. Padding that SAME does not say comes before; where it does not count, after an
    average over all of the window the result is scaled up, position by position."""
    key, shape, out = node.key, outline.shape(node.inputs[0]), outline.shape(node.key)
    kernel, stride, sides = ints(op.kernel), ints(op.stride), ints(op.padding)
    before, average = sides[:2], op.function == "average"
    code = "AVERAGE_POOL_2D" if average else "MAX_POOL_2D"
    behind = [after(shape[2 + axis], out[2 + axis], kernel[axis], stride[axis], before[axis]) for axis in (0, 1)]
    pads = (*before, max(0, behind[0]), max(0, behind[1]))
    source, same = outline.file_order(node.inputs[0]), pads_same(shape[2:], out[2:], kernel, stride, before)
    scale = _uncounted(op, shape, out) if average and any(pads) else None
    options = {"StrideH": stride[0], "StrideW": stride[1], "FilterHeight": kernel[0], "FilterWidth": kernel[1]}
    options["Padding"] = VALID
    if any(pads) and same and (not average or (scale is not None and _uncounted_by_same(op, shape, out, scale))):
        options["Padding"], scale = SAME, None
    elif any(pads):
        filling = None if average or _not_negative(outline, node.inputs[0]) else LOWEST
        source = padded(outline, source, pads, key, filling)
    result = outline.file_shape(out)
    if scale is None or (scale == 1).all():
        outline.give(key, outline.emit(code, [source], key, result, options))
        return
    pooled = outline.emit(code, [source], outline.fresh(f"{key}/pooled"), result, options)
    factor = outline.numbers(f"{key}/factor", scale[None, :, :, None])
    outline.give(key, outline.emit("MUL", [pooled, factor], key, result))


def _uncounted(op: Pool2d, shape: Sequence[int], out: Sequence[int]) -> np.ndarray:
    """Size of the window over the count that an average divides by, (height, width)."""
    kernel, stride, sides = ints(op.kernel), ints(op.stride), ints(op.padding)
    counts: list[np.ndarray] = []
    for axis in (0, 1):
        first, last = (
            (-sides[axis], shape[2 + axis] + sides[axis + 2]) if op.count_include_pad else (0, shape[2 + axis])
        )
        starts = np.arange(out[2 + axis]) * stride[axis] - sides[axis]
        counts.append(np.minimum(starts + kernel[axis], last) - np.maximum(starts, first))
    return kernel[0] * kernel[1] / np.maximum(1, counts[0][:, None] * counts[1])


def _uncounted_by_same(op: Pool2d, shape: Sequence[int], out: Sequence[int], scale: np.ndarray) -> bool:
    """Whether the count is that of the numbers inside of the image, by which SAME divides."""
    inside = Pool2d(op.function, op.kernel, op.stride, op.padding, count_include_pad=False)
    return np.array_equal(_uncounted(inside, shape, out), scale)


def _not_negative(outline: Outline, key: str) -> bool:
    node = outline.graph.by_key.get(key)
    return node is not None and isinstance(node.op, Activation) and node.op.function in NOT_NEGATIVE


def global_pool(outline: Outline, node: Node, op: GlobalPool) -> None:
    """A pooling window as large as the image where NPUs take it, else MEAN or REDUCE_MAX."""
    source, average = outline.file_order(node.inputs[0]), op.function == "average"
    _, height, width, channels = outline.program.tensors[source].shape
    result = (1, 1, 1, channels)
    if max(height, width) <= LARGEST_WINDOW:
        options = {"Padding": VALID, "StrideH": height, "StrideW": width}
        options |= {"FilterHeight": height, "FilterWidth": width}
        code = "AVERAGE_POOL_2D" if average else "MAX_POOL_2D"
        name = outline.emit(code, [source], node.key, result, options)
    else:
        inputs = [source, outline.integers(f"{node.key}/axes", (1, 2))]
        name = outline.emit("MEAN" if average else "REDUCE_MAX", inputs, node.key, result, {"KeepDims": True})
    outline.give(node.key, name)


def concat(outline: Outline, node: Node, op: Concat) -> None:
    """CONCATENATION."""
    file_order, shape = outline.prefers_file_order(node.inputs), outline.shape(node.key)
    axis = op.axis % len(shape)
    if len(shape) == 4 and file_order:
        axis, shape = FILE_AXIS[axis], outline.file_shape(shape)
    inputs = [outline.ordered(key, file_order) for key in node.inputs]
    name = outline.emit("CONCATENATION", inputs, node.key, shape, {"Axis": axis, "FusedActivationFunction": 0})
    outline.give(node.key, name, file_order)


def slice_(outline: Outline, node: Node, op: Slice) -> None:
    """STRIDED_SLICE."""
    file_order = outline.prefers_file_order(node.inputs)
    source = outline.ordered(node.inputs[0], file_order)
    shape = outline.program.tensors[source].shape
    axis = op.axis % len(shape)
    axis = FILE_AXIS[axis] if len(shape) == 4 and file_order else axis
    begin, end, step = [0] * len(shape), [*shape], [1] * len(shape)
    begin[axis], end[axis], step[axis] = int(op.start), int(op.stop), op.step  # type: ignore[arg-type]
    outline.give(node.key, sliced(outline, source, begin, end, step, node.key), file_order)


def resize(outline: Outline, node: Node, op: Resize) -> None:
    """RESIZE_NEAREST_NEIGHBOR or RESIZE_BILINEAR; rows and columns by index where the former reads other ones."""
    key, shape, out = node.key, outline.shape(node.inputs[0]), outline.shape(node.key)
    source, result = outline.file_order(node.inputs[0]), outline.file_shape(out)
    exact = [op.scale is None or out[2 + axis] == shape[2 + axis] * op.scale[axis] for axis in (0, 1)]
    if op.mode == "nearest" and not all(exact):
        for axis in (0, 1):
            factor = np.float32(1 / op.scale[axis] if op.scale else shape[2 + axis] / out[2 + axis])
            rows = np.floor(np.arange(out[2 + axis], dtype=np.float32) * factor).astype(int)
            index = outline.integers(f"{key}/index{axis}", np.minimum(rows, shape[2 + axis] - 1))
            name = outline.fresh(f"{key}/rows") if axis == 0 else key
            sizes = result if axis else (1, out[2], shape[3], shape[1])
            source = outline.emit("GATHER", [source, index], name, sizes, {"Axis": 1 + axis})
        outline.give(key, source)
        return
    if not all(exact) and not op.align_corners:
        raise UnsupportedOperator(
            f"scale {op.scale} of {shape[2]}x{shape[3]} ends between pixels, where TFLite interpolates from other "
            "positions; give the resize a size"
        )
    size = outline.integers(f"{key}/size", out[2:])
    bilinear = op.mode == "bilinear"
    options = {"AlignCorners": bilinear and op.align_corners, "HalfPixelCenters": bilinear and not op.align_corners}
    code = "RESIZE_BILINEAR" if bilinear else "RESIZE_NEAREST_NEIGHBOR"
    outline.give(key, outline.emit(code, [source, size], key, result, options))


def pad(outline: Outline, node: Node, op: Pad) -> None:
    """PAD, or PADV2 where the filling is not 0; what is cut off is cut off first."""
    key, sides, shape = node.key, ints(op.padding), outline.shape(node.inputs[0])
    source = outline.file_order(node.inputs[0])
    cut = [max(0, -side) for side in sides]
    if any(cut):
        begin, end = (0, cut[0], cut[1], 0), (1, shape[2] - cut[2], shape[3] - cut[3], shape[1])
        source = sliced(outline, source, begin, end, (1,) * 4, outline.fresh(f"{key}/cut"))
    value = None if op.value == 0 else op.value
    outline.give(key, padded(outline, source, [max(0, side) for side in sides], key, value, key))


def reshape(outline: Outline, node: Node, op: Reshape) -> None:
    """RESHAPE. An image that only linear layers read flat stays in the file's order: they change their columns."""
    key, source = node.key, node.inputs[0]
    shape, given = outline.shape(key), outline.shape(source)
    turns = len(shape) == 2 and len(given) == 4 and not moves_nothing(given, TO_FILE)
    if turns and source in outline.in_file_order and is_linear_only(outline, key):
        outline.shuffled[key] = given
        outline.give(key, outline.reshape(outline.file_order(source), key, shape))
        return
    name = _any_order(outline, source)
    if len(shape) == 4 and moves_nothing(shape, TO_FILE):
        outline.give(key, outline.reshape(name, key, outline.file_shape(shape)))
    else:
        outline.give(key, outline.reshape(name, key, shape), file_order=False)


def _any_order(outline: Outline, key: str) -> str:
    """The tensor's numbers in the graph's order, whatever its axes."""
    shape = outline.shape(key)
    if len(shape) == 4 and key in outline.in_file_order and moves_nothing(shape, TO_FILE):
        return outline.file_order(key)
    return outline.graph_order(key)


def transpose(outline: Outline, node: Node, op: Transpose) -> None:
    """TRANSPOSE from the order that is there, into the file's order where that is the shorter way."""
    key, source, shape = node.key, node.inputs[0], outline.shape(node.inputs[0])
    order, given = list(op.order), outline.graph_order
    if len(shape) == 4 and source in outline.in_file_order and source not in outline.in_graph_order:
        order, given = [FILE_AXIS[axis] for axis in order], outline.file_order
        shape = outline.file_shape(shape)
    into_file = len(shape) == 4 and not _only_matrices(outline, key)
    if into_file:
        order = list(turned(order, TO_FILE))
    outline.give(key, outline.turn(given(source), shape, order, key), into_file)


def _only_matrices(outline: Outline, key: str) -> bool:
    """Whether all that read a tensor want it in the graph's order."""
    readers = outline.graph.consumers[key]
    wanted = (MatMul, Linear, Reshape, Transpose)
    return key not in outline.graph.outputs and all(isinstance(reader.op, wanted) for reader in readers)
